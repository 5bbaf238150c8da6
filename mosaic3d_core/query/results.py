"""What queries and labelling return."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mosaic3d_core.query.boxes import OrientedBox

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot
    from mosaic3d_core.query.instance_map import MapInstance

#: Label of a voxel that no word of the vocabulary describes.
NO_LABEL = 65535


@dataclass(frozen=True, eq=False)
class DetectedObject:
    """One object found in the map.

    Attributes:
        id: Stable while the object lives; 1 or more, never used twice by one engine.
        text: The query (or vocabulary word) it answers; "" for an instance that no word of the vocabulary describes.
        score: How well it fits, in [0, 1].
        box: Upright oriented box in the map frame, metres.
        voxel_indices: Rows of the snapshot's arrays that belong to it, ascending. Shape (K,), int64.
        instance: The instance of the map that it is; None for voxels that were grouped for this text alone.
    """

    id: int
    text: str
    score: float
    box: OrientedBox
    voxel_indices: np.ndarray
    instance: MapInstance | None = None


@dataclass(frozen=True, eq=False)
class QueryResult:
    """Answer to a batch of texts.

    Attributes:
        texts: The texts as understood (surrounding and repeated spaces removed), in the order asked.
        objects: Objects of all texts, grouped by text in the order asked, best first. A text that matches
            nothing has none.
        voxel_scores: Score per text and encoder voxel. Shape (Q, V), float32.
        voxel_of_point: Encoder voxel of each map voxel. Shape (N,), int64.
        snapshot: The map that the answer is about.
        elapsed_ms: Time the query took, milliseconds, text encoding included.
    """

    texts: tuple[str, ...]
    objects: list[DetectedObject]
    voxel_scores: np.ndarray
    voxel_of_point: np.ndarray
    snapshot: MapSnapshot
    elapsed_ms: float

    @property
    def generation(self) -> int:
        """Generation of the map that the answer is about."""
        return self.snapshot.generation

    @cached_property
    def scores(self) -> np.ndarray:
        """Score per text and map voxel, made when first asked for. Shape (Q, N), float32."""
        return self.voxel_scores[:, self.voxel_of_point]

    def of(self, text: str) -> list[DetectedObject]:
        """Objects that answer ``text``, best first."""
        return [found for found in self.objects if found.text == text]


@dataclass(frozen=True, eq=False)
class Labelling:
    """A word, an instance and a score for every map voxel.

    Attributes:
        labels: Position in ``vocabulary``, ``NO_LABEL`` (65535) where none fits. Shape (N,), uint16.
        instances: Object id, 0 for none. Shape (N,), uint32.
        scores: Score of the label, 0 where there is none. Shape (N,), float32.
        objects: The labelled objects, in the order of the vocabulary, best first.
        vocabulary: The words.
        generation: Generation of the map.
        elapsed_ms: Time it took, milliseconds.
    """

    labels: np.ndarray
    instances: np.ndarray
    scores: np.ndarray
    objects: list[DetectedObject]
    vocabulary: tuple[str, ...]
    generation: int
    elapsed_ms: float
