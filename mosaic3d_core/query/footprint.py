"""The voxels that a thing has had lately, whether or not they are still in the map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Footprint:
    """Remembers the voxels of a thing for a while after they left the map.

    A thing that is taken away leaves the map bit by bit, as cameras look through its place. What is left must be compared with
    what there was, not with what was left a moment ago.

    Args:
        keys: Its voxels, packed, all different. Shape (M,), int64.
        now_ns: Stamp of the map, nanoseconds.
    """

    def __init__(self, keys: NDArray[np.int64], now_ns: int) -> None:
        self.keys = np.sort(keys)
        self._seen_ns = np.full(len(keys), now_ns, np.int64)

    def share_left(self, present: NDArray[np.int64], now_ns: int, memory_s: float) -> float:
        """Share of its voxels that the map still has, whoever they belong to; those that left long ago are forgotten first.

        Args:
            present: All voxels of the map, packed, ascending. Shape (V,), int64.
            now_ns: Stamp of the map, nanoseconds.
            memory_s: Seconds for which voxels that left the map count.
        """
        there = contains(present, self.keys)
        self._seen_ns[there] = now_ns
        kept = now_ns - self._seen_ns <= 1e9 * memory_s
        self.keys, self._seen_ns, there = self.keys[kept], self._seen_ns[kept], there[kept]
        return float(there.mean()) if len(there) else 0.0

    def follow(self, mine: NDArray[np.int64], others: NDArray[np.int64], now_ns: int) -> None:
        """Take what it has now, and give up what belongs to other things now.

        Args:
            mine: Its present voxels, packed. Shape (M,), int64.
            others: Voxels of other things, packed, ascending. Shape (K,), int64.
            now_ns: Stamp of the map, nanoseconds.
        """
        kept = ~contains(others, self.keys)
        keys = np.concatenate([self.keys[kept], mine])
        stamps = np.concatenate([self._seen_ns[kept], np.full(len(mine), now_ns, np.int64)])
        order = np.lexsort((-stamps, keys))  # the newest of equal keys first
        keys, stamps = keys[order], stamps[order]
        first = np.ones(len(keys), bool)
        first[1:] = keys[1:] != keys[:-1]
        self.keys, self._seen_ns = keys[first], stamps[first]


def contains(among: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which ``keys`` are in the ascending array ``among``. Shape of ``keys``."""
    if not len(among):
        return np.zeros(len(keys), bool)
    at = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return np.asarray(among[at] == keys)
