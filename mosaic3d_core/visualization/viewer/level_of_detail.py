"""Which voxels of a map to send first, and which to leave out when there are too many.

Every occupied cell of 2, 4, 8 voxels keeps one voxel, the one with the smallest hash in it. As the smallest of a large cell is
also the smallest of the small cell it lies in, coarse choices are part of all finer ones, and a choice depends on the voxels of
its cell alone: a map that grows at one end is not chosen anew at the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COARSEST = 3
"""Highest level: one voxel per cell of 2^3 voxels along each side (16 cm at 2 cm)."""

BLOCK_BITS = 7
"""Points travel in blocks of 2^7 voxels along each side (2.56 m at 2 cm): what has not changed is not sent again."""

_BITS = 21
_HALF = 1 << (_BITS - 1)
_HASH_BITS = 48


@dataclass(frozen=True)
class Chunk:
    """Voxels of one block, level and layer: a stretch of the arrangement.

    Attributes:
        key: Level, layer, and the block's position along x, y, z.
        start: First place in the order.
        stop: One behind the last place.
    """

    key: tuple[int, int, int, int, int]
    start: int
    stop: int

    @property
    def level(self) -> int:
        """Level of its voxels; the finest is 0."""
        return self.key[0]

    @property
    def layer(self) -> int:
        """Number of the layer that can be shown or hidden."""
        return self.key[1]

    @property
    def block(self) -> tuple[int, int, int]:
        """Position of the block, in blocks."""
        return self.key[2:]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """The order in which the voxels of a map are sent.

    Attributes:
        order: Rows of the map: coarse levels first, within a level by block, within a block by hash. Shape (N,), int64.
        ranks: Hash of each voxel in this order. Shape (N,), uint64.
        chunks: Stretches of the order, in that order.
    """

    order: NDArray[np.int64]
    ranks: NDArray[np.uint64]
    chunks: tuple[Chunk, ...]

    def counts(self, budget: int) -> NDArray[np.int64]:
        """How many voxels of each chunk are shown when at most ``budget`` may be, the first ones of each. Shape (C,).

        Whole levels from the coarsest on, then of one level the voxels with the smallest hashes, which lie evenly in space. The
        sum is exactly ``budget`` where there are more voxels than that.
        """
        sizes = np.array([chunk.stop - chunk.start for chunk in self.chunks], np.int64)
        levels = np.array([chunk.level for chunk in self.chunks], np.int64)
        shown = np.zeros(len(sizes), np.int64)
        left = max(int(budget), 0)
        for level in range(COARSEST, -1, -1):
            here = np.flatnonzero(levels == level)
            total = int(sizes[here].sum())
            if total <= left:
                shown[here] = sizes[here]
                left -= total
                continue
            if left > 0:
                parts = [self.ranks[self.chunks[k].start : self.chunks[k].stop] for k in here]
                limit = np.partition(np.concatenate(parts), left)[left]  # hashes are distinct: exactly `left` lie below
                shown[here] = [np.searchsorted(part, limit) for part in parts]
            break
        return shown


def voxel_hashes(indices: NDArray[np.int32]) -> NDArray[np.uint64]:
    """A hash per voxel index, distinct for distinct voxels and the same in every run.

    Args:
        indices: Voxel indices within +-2^20. Shape (N, 3).

    Returns:
        Shape (N,), uint64, below 2^63.

    Raises:
        ValueError: If an index lies outside that range.
    """
    shifted = _shifted(indices)
    key = (shifted[:, 0] << np.uint64(2 * _BITS)) | (shifted[:, 1] << np.uint64(_BITS)) | shifted[:, 2]
    mask = np.uint64((1 << 63) - 1)
    # Steps that can be undone (odd factors, shifted copies) keep distinct keys distinct within 63 bits.
    for factor, shift in ((0x9E3779B97F4A7C15, 31), (0xBF58476D1CE4E5B9, 29), (0x94D049BB133111EB, 32)):
        key = (key * np.uint64(factor)) & mask
        key = key ^ (key >> np.uint64(shift))
    return key


def detail_levels(indices: NDArray[np.int32], hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Level of each voxel: the largest k (at most ``COARSEST``) for which it is the chosen one of its cell of 2^k voxels.

    Args:
        indices: Distinct voxel indices. Shape (N, 3).
        hashes: Their :func:`voxel_hashes`. Shape (N,).

    Returns:
        Shape (N,), uint8.
    """
    levels = np.zeros(len(indices), np.uint8)
    if len(indices) == 0:
        return levels
    codes = _morton(_shifted(indices))
    rows = np.argsort(codes, kind="stable")
    codes = codes[rows]
    for level in range(1, COARSEST + 1):
        # Voxels of one cell lie one behind the other in Morton order.
        cells = codes >> np.uint64(3 * level)
        starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]])
        smallest = np.minimum.reduceat(hashes[rows], starts)
        chosen = hashes[rows] == np.repeat(smallest, np.diff(np.r_[starts, len(rows)]))
        rows, codes = rows[chosen], codes[chosen]
        levels[rows] = level
    return levels


def arrange(indices: NDArray[np.int32], layers: NDArray[np.integer] | None = None) -> Arrangement:
    """Order the voxels of a map for sending.

    Args:
        indices: Distinct voxel indices within +-2^20. Shape (N, 3), int32.
        layers: A small number (0 to 3) per voxel; voxels of different layers are never in one chunk. Shape (N,); None: all 0.

    Returns:
        The order; it does not depend on the order of the rows that came in, except through their numbers.

    Raises:
        ValueError: If an index lies outside that range.
    """
    indices = np.asarray(indices, np.int32)
    if len(indices) == 0:
        return Arrangement(np.zeros(0, np.int64), np.zeros(0, np.uint64), ())
    hashes = voxel_hashes(indices)
    levels = detail_levels(indices, hashes)
    layer = np.zeros(len(indices), np.int64) if layers is None else np.asarray(layers, np.int64)
    blocks = indices.astype(np.int64) >> BLOCK_BITS
    span = 1 << (_BITS - BLOCK_BITS)
    place = ((blocks[:, 0] + span // 2) * span + blocks[:, 1] + span // 2) * span + blocks[:, 2] + span // 2
    group = (((COARSEST - levels.astype(np.int64)) << 2 | layer) << (3 * (_BITS - BLOCK_BITS))) | place
    unique, number = np.unique(group, return_inverse=True)
    order = _by_group(number.reshape(-1).astype(np.uint64), len(unique), hashes)
    bounds = np.flatnonzero(np.r_[True, np.diff(group[order]) != 0, True])
    first = order[bounds[:-1]]
    chunks = tuple(
        Chunk((int(levels[row]), int(layer[row]), int(x), int(y), int(z)), int(start), int(stop))
        for row, (x, y, z), start, stop in zip(first, blocks[first], bounds[:-1], bounds[1:], strict=True)
    )
    return Arrangement(order, hashes[order], chunks)


def _by_group(number: NDArray[np.uint64], count: int, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Rows by group number, within a group by hash. One key of both sorts three times as fast as two keys."""
    if count < 1 << (64 - _HASH_BITS):
        key = (number << np.uint64(_HASH_BITS)) | (hashes >> np.uint64(63 - _HASH_BITS))
        order = np.argsort(key, kind="stable")
        key = key[order]
        if (key[1:] != key[:-1]).all():
            return order
    return np.lexsort((hashes, number))  # rare: the high bits of two hashes are equal


def _shifted(indices: NDArray[np.int32]) -> NDArray[np.uint64]:
    wide = np.asarray(indices, np.int64)
    if wide.size and (wide.min() < -_HALF or wide.max() >= _HALF):
        raise ValueError(f"voxel indices must lie within +-2^20, got {wide.min()}..{wide.max()}; is the map in metres?")
    return (wide + _HALF).astype(np.uint64)


def _morton(shifted: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits of the three coordinates interleaved: (N, 3) below 2^21 -> (N,) below 2^63."""
    spread = shifted.copy()
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        spread = (spread | (spread << np.uint64(shift))) & np.uint64(mask)
    return (spread[:, 0] << np.uint64(2)) | (spread[:, 1] << np.uint64(1)) | spread[:, 2]
