"""Whether things keep their ids while a map grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.metrics.object_scores import SAME_IOU
from mosaic3d_core.models import FeatureMap
from mosaic3d_core.query.instance_map import MapInstance

#: Observed map voxels from which a true thing is looked for.
LEAST_VOXELS = 100


@dataclass(eq=False)
class IdStability:
    """Follows true things through the instances of one map.

    Attributes:
        history: Per true thing what it was matched to, encoding by encoding: an id, or None where no instance was the thing.
    """

    history: dict[int, list[int | None]] = field(default_factory=dict)

    def add(
        self, found: Sequence[MapInstance], feature_map: FeatureMap, instance: NDArray[np.integer], things: Sequence[int]
    ) -> None:
        """Add an encoding.

        Args:
            found: The instances as they are now.
            feature_map: The encoding that they are rows of.
            instance: True instance per map voxel, (N,), 0 none.
            things: Ids of the true instances that count.
        """
        owner = np.zeros(len(feature_map.cells), np.int64)
        for one in found:
            owner[one.cells] = one.id
        owner = owner[feature_map.voxel_of_point]
        sizes = np.bincount(owner)
        for thing in things:
            inside = owner[instance == thing]
            if len(inside) < LEAST_VOXELS:
                continue
            match = _match(np.bincount(inside, minlength=len(sizes)), sizes, len(inside))
            if match is not None or thing in self.history:  # a thing has a history from its first match on
                self.history.setdefault(thing, []).append(match)

    def counts(self, current_id: Callable[[int], int]) -> StabilityCounts:
        """What became of the things.

        Args:
            current_id: The id that an instance goes by at the end, as merged ones go by another's.
        """
        matched = {thing: [one for one in ids if one is not None] for thing, ids in self.history.items()}
        followed = {thing: ids for thing, ids in matched.items() if len(ids) > 1}
        return StabilityCounts(
            followed=len(followed),
            stable=sum(len({current_id(one) for one in ids}) == 1 for ids in followed.values()),
            never_renamed=sum(len(set(ids)) == 1 for ids in followed.values()),
            matched_last=sum(self.history[thing][-1] is not None for thing in followed),
        )


@dataclass(frozen=True)
class StabilityCounts:
    """Numbers of true things.

    Attributes:
        followed: Matched in two encodings or more.
        stable: Of these, matched to one id only, from the first match to the end; ids that were merged are one.
        never_renamed: Likewise, with merged ids taken for different ones.
        matched_last: Of these, matched in the last encoding.
    """

    followed: int = 0
    stable: int = 0
    never_renamed: int = 0
    matched_last: int = 0

    def __add__(self, other: StabilityCounts) -> StabilityCounts:
        return StabilityCounts(
            self.followed + other.followed,
            self.stable + other.stable,
            self.never_renamed + other.never_renamed,
            self.matched_last + other.matched_last,
        )

    def shares(self) -> dict[str, float]:
        """Shares of the followed things; NaN where there is none."""
        total = self.followed or float("nan")
        return {
            "stable": self.stable / total,
            "never_renamed": self.never_renamed / total,
            "matched_last": self.matched_last / total,
        }


def _match(inside: NDArray[np.int64], sizes: NDArray[np.int64], true: int) -> int | None:
    """The id whose voxels overlap a thing by more than `SAME_IOU`, from voxels per id within it, and of each id at all."""
    inside = inside.copy()
    inside[0] = 0  # nobody's
    best = int(inside.argmax())
    both = int(inside[best])
    return best if both > SAME_IOU * (true + int(sizes[best]) - both) else None
