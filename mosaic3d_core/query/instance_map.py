"""Objects that live on in the map: proposals of one encoding after the other become instances with stable ids.

Every encoder voxel belongs to at most one instance. A proposal continues the instance that it shares most voxels with. What only
flickers does not change ids: two instances become one, or one becomes two, when proposals have said so several times in a row. An
instance is gone when most of its voxels have left the map, which they do when its place is seen empty; otherwise it stays, seen
lately or not. What comes back to its old place soon has its old id.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mosaic3d_core.query.components import pack_indices
from mosaic3d_core.query.footprint import Footprint, contains
from mosaic3d_core.query.ids import IdCounter
from mosaic3d_core.query.proposals import Proposal

if TYPE_CHECKING:
    from mosaic3d_core.models.scene_encoder import FeatureMap

PRESENT, UNSEEN, GONE = "present", "unseen", "gone"

# What fills no more than this share of the place of a gone thing is what is left of it, not the thing put back.
_REMAINS = 0.5


@dataclass(frozen=True)
class InstanceMapConfig:
    """When instances are the same, and when they change.

    Attributes:
        min_overlap: Least share of the smaller of both that a proposal and an instance have in common to be the same.
        inside: An instance or proposal lies in another one when this share of its voxels does.
        patience: Updates in a row after which a merge or a split is believed.
        vanished: An instance is gone when no more than this share of its voxels is left in the map ...
        vanish_s: ... of those that it had in this time, seconds.
        recent_s: Seconds since its last sight for which an instance counts as present.
        keep_gone_s: Seconds for which a gone instance is still reported.
        spurious_misses: An instance that was proposed fewer times than ``patience`` is dropped when so many updates in a row do
            not propose it again.

    Raises:
        ValueError: If a value is out of its range.
    """

    min_overlap: float = 0.3
    inside: float = 0.6
    patience: int = 3
    vanished: float = 0.3
    vanish_s: float = 20.0
    recent_s: float = 5.0
    keep_gone_s: float = 30.0
    spurious_misses: int = 10

    def __post_init__(self) -> None:
        for name in ("min_overlap", "inside", "vanished"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("patience", "spurious_misses"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("vanish_s", "recent_s", "keep_gone_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0 seconds, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class MapInstance:
    """One instance as it is now.

    Attributes:
        id: Never used for another one.
        cells: Rows of its encoder voxels in the feature map of the last update, ascending; of a gone one none. Shape (M,), int64.
        feature: Running mean of the pooled features before the head. Shape (C,), float32.
        quality: Running mean of what its proposals said, in [0, 1].
        views: Updates that proposed it.
        first_seen_ns: Stamp of the map when it appeared.
        last_seen_ns: Stamp of the last frame that hit one of its voxels.
        state: "present", "unseen" (not seen lately) or "gone".
    """

    id: int
    cells: NDArray[np.int64]
    feature: NDArray[np.float32]
    quality: float
    views: int
    first_seen_ns: int
    last_seen_ns: int
    state: str


@dataclass(eq=False)
class _Track:
    """An instance between updates; ``keys`` are its voxels, packed and ascending."""

    id: int
    keys: NDArray[np.int64]
    feature: NDArray[np.float32]
    quality: float
    views: int
    first_seen_ns: int
    last_seen_ns: int
    footprint: Footprint
    misses: int = 0
    gone_since_ns: int | None = None
    merging: dict[int, int] = field(default_factory=dict)  # other instance: updates in a row that one proposal held both


@dataclass(eq=False)
class _Tentative:
    """Part of an instance that may be one of its own."""

    keys: NDArray[np.int64]
    hits: int


class InstanceMap:
    """Instances over time. Safe to use from threads.

    Args:
        config: When instances are the same, and when they change.
        ids: Where new ids come from; 1, 2, ... by default.
    """

    def __init__(self, config: InstanceMapConfig | None = None, ids: IdCounter | None = None) -> None:
        self.config = config or InstanceMapConfig()
        self._tracks: dict[int, _Track] = {}
        self._tentative: list[_Tentative] = []
        self._merged: dict[int, int] = {}
        self._ids = ids or IdCounter()
        self._lock = threading.Lock()
        self.instances: tuple[MapInstance, ...] = ()

    def reset(self) -> None:
        """Forget all instances (a new map); ids go on counting, so that old ones stay unique."""
        with self._lock:
            self._tracks.clear()
            self._tentative.clear()
            self._merged.clear()
            self.instances = ()

    def restore(self, feature_map: FeatureMap, instances: Sequence[MapInstance]) -> None:
        """Go on from instances that were kept with a map, under their ids; new ones get larger ids.

        Args:
            feature_map: The encoding that their ``cells`` are rows of.
            instances: The instances; gone ones are left out.
        """
        keys, now = pack_indices(feature_map.cells), int(feature_map.snapshot.stamp_ns)
        self.reset()
        with self._lock:
            self.instances = tuple(one for one in instances if one.state != GONE)
            for one in self.instances:
                mine = np.sort(keys[one.cells])
                self._tracks[one.id] = _Track(
                    one.id, mine, one.feature, one.quality, one.views, one.first_seen_ns, one.last_seen_ns, Footprint(mine, now)
                )
                self._ids.skip_past(one.id)

    def current_id(self, number: int) -> int:
        """The id that an instance goes by now: its own, or that of the one it was merged into."""
        while number in self._merged:
            number = self._merged[number]
        return number

    def update(self, feature_map: FeatureMap, proposals: Sequence[Proposal]) -> tuple[MapInstance, ...]:
        """Take in the proposals of an encoding.

        Args:
            feature_map: The encoding.
            proposals: Its proposals.

        Returns:
            All instances, also those gone lately, by id.
        """
        with self._lock:
            self.instances = self._update(feature_map, proposals)
            return self.instances

    def _update(self, feature_map: FeatureMap, proposals: Sequence[Proposal]) -> tuple[MapInstance, ...]:
        now = int(feature_map.snapshot.stamp_ns)
        keys = pack_indices(feature_map.cells)
        self._drop_vanished(keys, now)
        owner = self._owners(keys)  # (V,) id, 0 for none; what has just vanished owns nothing any more
        live = [track for track in self._tracks.values() if track.gone_since_ns is None]
        overlap = _overlaps(owner, proposals, [track.id for track in live])
        pairs = self._match(overlap, proposals, live)
        claimed = np.full(len(keys), 0, np.int64)
        self._continue(pairs, overlap, proposals, live, owner, claimed, keys)
        self._begin(set(range(len(proposals))) - {i for i, _ in pairs}, overlap, proposals, live, claimed, keys, now)
        self._follow(claimed, keys, now)
        self._forget(now)
        return self._report(keys, feature_map, now)

    def _owners(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        owner = np.zeros(len(keys), np.int64)
        order = np.argsort(keys)
        ordered = keys[order]
        for track in self._tracks.values():
            if track.gone_since_ns is None and len(ordered):
                at = np.minimum(np.searchsorted(ordered, track.keys), len(ordered) - 1)
                owner[order[at[ordered[at] == track.keys]]] = track.id
        return owner

    def _drop_vanished(self, keys: NDArray[np.int64], now: int) -> None:
        present = np.sort(keys)
        for track in self._tracks.values():
            if track.gone_since_ns is None:
                left = track.footprint.share_left(present, now, self.config.vanish_s)
                if left <= self.config.vanished:
                    track.gone_since_ns = now

    def _match(self, overlap: NDArray[np.int64], proposals: Sequence[Proposal], live: list[_Track]) -> list[tuple[int, int]]:
        """(proposal, position in ``live``) of the same things: the assignment of largest total intersection over union."""
        if not overlap.size:
            return []
        of_proposal = np.array([len(one.cells) for one in proposals])[:, None]
        of_track = np.array([len(track.keys) for track in live])[None]
        share = overlap / np.maximum(np.minimum(of_proposal, of_track), 1)
        # share alone would give the id of a small thing to whatever large one swallows it for a moment
        same = overlap / np.maximum(of_proposal + of_track - overlap, 1)
        score = np.where(share >= self.config.min_overlap, same, 0.0)
        rows, columns = linear_sum_assignment(-score)
        return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if score[i, j] > 0]

    def _continue(
        self,
        pairs: list[tuple[int, int]],
        overlap: NDArray[np.int64],
        proposals: Sequence[Proposal],
        live: list[_Track],
        owner: NDArray[np.int64],
        claimed: NDArray[np.int64],
        keys: NDArray[np.int64],
    ) -> None:
        """Give matched proposals to their instances; decide about merges."""
        continued = {j for _, j in pairs}
        elsewhere = np.zeros(len(keys), bool)  # in a proposal that continues nothing: perhaps a split, perhaps a flicker
        for i in set(range(len(proposals))) - {i for i, _ in pairs}:
            elsewhere[proposals[i].cells] = True
        before = [track.id for track in live]
        for i, j in sorted(pairs, key=lambda pair: proposals[pair[0]].quality):  # the surest has the last word
            track, proposal = live[j], proposals[i]
            cells = proposal.cells
            inside = [
                other
                for k, other in enumerate(live)
                if k not in continued and self._lives(other) and overlap[i, k] >= self.config.inside * max(len(other.keys), 1)
            ]
            counts = {other.id: track.merging.get(other.id, 0) + 1 for other in inside}
            track.merging = {}
            for other in inside:
                if counts[other.id] >= self.config.patience:
                    self._merge(track, other)
                else:  # not believed yet: the other one keeps its voxels
                    track.merging[other.id] = counts[other.id]
                    cells = cells[owner[cells] != other.id]
            weight = 1.0 / min(track.views + 1, 50)  # the mean of the first fifty, then a slowly forgetting one
            track.feature = ((1 - weight) * track.feature + weight * proposal.feature).astype(np.float32)
            track.quality += weight * (proposal.quality - track.quality)
            track.views += 1
            track.misses = 0
            claimed[cells] = track.id
        for k, track in enumerate(live):
            if not self._lives(track):
                continue
            mine = (owner == before[k]) & (claimed == 0)
            if k in continued:
                mine &= elsewhere
            else:  # not proposed this time: it stays where nobody else is
                track.misses += 1
            claimed[mine] = track.id
        self._take_keys(live, claimed, keys)

    def _take_keys(self, live: list[_Track], claimed: NDArray[np.int64], keys: NDArray[np.int64]) -> None:
        for track in live:
            if self._lives(track):
                track.keys = np.sort(keys[claimed == track.id])

    def _follow(self, claimed: NDArray[np.int64], keys: NDArray[np.int64], now: int) -> None:
        order = np.argsort(keys)
        keys, claimed = keys[order], claimed[order]
        for track in self._tracks.values():
            if track.gone_since_ns is None:
                track.footprint.follow(track.keys, keys[(claimed != 0) & (claimed != track.id)], now)

    def _merge(self, track: _Track, other: _Track) -> None:
        """``other`` becomes part of ``track``, which goes on under the older of both ids."""
        del self._tracks[track.id], self._tracks[other.id]
        older, younger = sorted((track.id, other.id))
        self._merged[younger] = older
        track.id = older
        self._tracks[older] = track
        track.first_seen_ns = min(track.first_seen_ns, other.first_seen_ns)

    def _lives(self, track: _Track) -> bool:
        return self._tracks.get(track.id) is track

    def _begin(
        self,
        fresh: set[int],
        overlap: NDArray[np.int64],
        proposals: Sequence[Proposal],
        live: list[_Track],
        claimed: NDArray[np.int64],
        keys: NDArray[np.int64],
        now: int,
    ) -> None:
        """Instances from proposals that continue none: at once on free ground, after some patience within another one."""
        before, self._tentative = self._tentative, []
        for i in sorted(fresh, key=lambda number: -proposals[number].quality):
            proposal = proposals[i]
            free = proposal.cells[claimed[proposal.cells] == 0]
            if len(free) >= self.config.inside * len(proposal.cells):
                self._new(proposal, free, claimed, keys, now)
                continue
            mine = np.sort(keys[proposal.cells])
            hits = 1 + max((one.hits for one in before if _iou(one.keys, mine) > 0.5), default=0)
            if hits < self.config.patience:
                self._tentative.append(_Tentative(mine, hits))
                continue
            self._new(proposal, proposal.cells, claimed, keys, now)  # a split: its voxels leave the others
            self._take_keys(live, claimed, keys)

    def _new(
        self, proposal: Proposal, cells: NDArray[np.int64], claimed: NDArray[np.int64], keys: NDArray[np.int64], now: int
    ) -> None:
        mine = np.sort(keys[cells])
        gone, share = self._gone_from(mine)
        if gone is not None and share <= _REMAINS and contains(gone.footprint.keys, mine).mean() > self.config.inside:
            return  # what the cameras have not yet looked through of a thing that was taken away
        if gone is not None and share > _REMAINS:  # a thing put back, or voxels that the map had dropped for a while
            claimed[cells] = gone.id
            gone.keys, gone.gone_since_ns, gone.misses = mine, None, 0
            gone.views += 1
            return
        number = next(self._ids)
        claimed[cells] = number
        footprint = Footprint(mine, now)
        self._tracks[number] = _Track(number, mine, proposal.feature.copy(), proposal.quality, 1, now, now, footprint)

    def _gone_from(self, keys: NDArray[np.int64]) -> tuple[_Track | None, float]:
        """The gone instance that had been where some voxels are, if any, and the share of its own place that they fill."""
        best, found = 0.0, None
        for track in self._tracks.values():
            if track.gone_since_ns is not None:
                filled = contains(keys, track.footprint.keys)
                share = float(filled.mean()) if len(filled) else 0.0
                if share > best:
                    best, found = share, track
        return found, best

    def _forget(self, now: int) -> None:
        for track in list(self._tracks.values()):
            old = track.gone_since_ns is not None and now - track.gone_since_ns > 1e9 * self.config.keep_gone_s
            spurious = track.views < self.config.patience and track.misses >= self.config.spurious_misses
            if old or spurious or (track.gone_since_ns is None and not len(track.keys)):
                del self._tracks[track.id]

    def _report(self, keys: NDArray[np.int64], feature_map: FeatureMap, now: int) -> tuple[MapInstance, ...]:
        owner = self._owners(keys)
        seen = np.zeros(len(keys), np.int64)
        np.maximum.at(seen, feature_map.voxel_of_point, feature_map.snapshot.last_seen_ns)
        found = []
        for number in sorted(self._tracks):
            track = self._tracks[number]
            cells = np.flatnonzero(owner == number)
            state = GONE
            if track.gone_since_ns is None:
                track.last_seen_ns = int(seen[cells].max(initial=track.last_seen_ns))
                state = PRESENT if now - track.last_seen_ns <= 1e9 * self.config.recent_s else UNSEEN
            found.append(
                MapInstance(
                    number, cells, track.feature, track.quality, track.views, track.first_seen_ns, track.last_seen_ns, state
                )
            )
        return tuple(found)


def _overlaps(owner: NDArray[np.int64], proposals: Sequence[Proposal], ids: list[int]) -> NDArray[np.int64]:
    """Voxels that proposals and instances have in common. Shape (P, T)."""
    column = np.full(max(ids, default=0) + 2, len(ids), np.int64)
    column[ids] = np.arange(len(ids))
    of_voxel = column[owner]
    rows = [np.bincount(of_voxel[one.cells], minlength=len(ids) + 1)[: len(ids)] for one in proposals]
    return np.stack(rows) if rows else np.zeros((0, len(ids)), np.int64)


def _iou(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / max(len(a) + len(b) - both, 1)
