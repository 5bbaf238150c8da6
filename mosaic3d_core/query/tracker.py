"""Object ids that stay the same while the map grows and is encoded again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from mosaic3d_core.query.boxes import OrientedBox, iou_3d
from mosaic3d_core.query.components import pack_indices
from mosaic3d_core.query.ids import IdCounter


@dataclass(frozen=True, eq=False)
class _Track:
    id: int
    keys: np.ndarray  # sorted keys of encoder voxels
    box: OrientedBox
    last_generation: int


class InstanceTracker:
    """Gives the objects of successive answers stable ids.

    An object keeps its id when it shares voxels with the object that had it (intersection over the smaller
    set, so that an object seen better and better keeps its id while it grows) or, where the voxels moved,
    when the boxes overlap. Objects of different texts never share an id. An id is not used twice.
    Thread-safe.

    Args:
        min_overlap: Least overlap, of voxels or boxes, that makes two objects the same.
        keep_generations: A vanished object's id is remembered over this many map generations, in case it
            comes back.
        max_texts: Texts remembered; the one asked least recently is forgotten first.
        ids: Where new ids come from; shared with an ``InstanceMap``, no id means two things.
    """

    def __init__(
        self,
        min_overlap: float = 0.25,
        keep_generations: int = 1000,
        max_texts: int = 1024,
        ids: IdCounter | None = None,
    ) -> None:
        self._min_overlap = min_overlap
        self._keep_generations = keep_generations
        self._max_texts = max_texts
        self._tracks: OrderedDict[str, list[_Track]] = OrderedDict()
        self.ids = ids or IdCounter()
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget all objects (a new map); ids go on counting so that old ones stay unique."""
        with self._lock:
            self._tracks.clear()

    def assign(self, text: str, voxel_sets: list[np.ndarray], boxes: list[OrientedBox], generation: int) -> list[int]:
        """Ids for the objects of one text.

        Args:
            text: What the objects were asked for by.
            voxel_sets: Encoder voxel indices per object, on the lattice of all maps, each (K, 3) integers.
            boxes: Box per object.
            generation: Generation of the map.

        Returns:
            One id per object, all different.
        """
        keys = [np.sort(pack_indices(indices)) for indices in voxel_sets]
        name = text.casefold()
        with self._lock:
            known = self._tracks.pop(name, [])
            matched = self._match(keys, boxes, known)
            ids = []
            for number in range(len(keys)):
                if number not in matched:
                    matched[number] = next(self.ids)
                ids.append(matched[number])
            fresh = [_Track(*row, generation) for row in zip(ids, keys, boxes, strict=True)]
            taken = set(ids)
            oldest = generation - self._keep_generations
            fresh += [t for t in known if t.id not in taken and t.last_generation >= oldest]
            self._tracks[name] = fresh
            while len(self._tracks) > self._max_texts:
                self._tracks.popitem(last=False)
        return ids

    def _match(self, keys: list[np.ndarray], boxes: list[OrientedBox], known: list[_Track]) -> dict[int, int]:
        """Object number -> id, best overlaps first, each side used once."""
        candidates = []
        for number, (own, box) in enumerate(zip(keys, boxes, strict=True)):
            for track in known:
                overlap = self._overlap(own, box, track)
                if overlap >= self._min_overlap:
                    candidates.append((-overlap, track.id, number))
        matched: dict[int, int] = {}
        used: set[int] = set()
        for _, track_id, number in sorted(candidates):
            if number not in matched and track_id not in used:
                matched[number] = track_id
                used.add(track_id)
        return matched

    @staticmethod
    def _overlap(keys: np.ndarray, box: OrientedBox, track: _Track) -> float:
        reach = (np.linalg.norm(box.size) + np.linalg.norm(track.box.size)) / 2
        if np.linalg.norm(box.center - track.box.center) > reach:
            return 0.0
        smaller, larger = sorted((keys, track.keys), key=len)
        at = np.minimum(np.searchsorted(larger, smaller), max(len(larger) - 1, 0))
        shared = float((larger[at] == smaller).mean()) if len(smaller) and len(larger) else 0.0
        if shared > 0:
            # Slightly prefer sets of similar size, so that the larger half of a split object keeps the id.
            return shared * (0.9 + 0.1 * len(smaller) / len(larger))
        return iou_3d(box, track.box) if np.isclose(abs(box.rotation[:, 2] @ track.box.rotation[:, 2]), 1) else 0.0
