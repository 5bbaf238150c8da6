"""A map made ready for sending: points in chunks, colours of each mode, boxes, and where to look from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.query.boxes import ground_basis
from mosaic3d_core.query.results import NO_LABEL
from mosaic3d_core.visualization import palette
from mosaic3d_core.visualization.overlay import EDGES
from mosaic3d_core.visualization.viewer.level_of_detail import BLOCK_BITS, Chunk, arrange
from mosaic3d_core.visualization.viewer.view_data import ViewData
from mosaic3d_core.visualization.views import without_ceiling

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot
    from mosaic3d_core.query import DetectedObject, QueryResult

Mode = Literal["Colour", "Labels", "Heat"]
MODES: tuple[Mode, ...] = ("Colour", "Labels", "Heat")

CEILING = 1
"""Layer of what would hide the room from above."""

BOX_COLOR = (0, 122, 255)
# Surfaces that enclose a room: their boxes would frame everything.
_SHELL = frozenset({"wall", "floor", "ceiling"})
# A mean that drifts by less is not worth sending again.
_STEPS_PER_VOXEL = 4
_ELEVATION_DEG = 55.0


@dataclass(frozen=True)
class Boxes:
    """Wire frames with names.

    Attributes:
        points: Ends of the edges, metres. Shape (12 B, 2, 3), float32.
        colors: Colours of the ends. Shape (12 B, 2, 3), uint8.
        names: Texts with their places, metres; those of the largest objects first.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    names: tuple[tuple[str, tuple[float, float, float]], ...]

    @classmethod
    def around(
        cls, objects: Sequence[DetectedObject], colors: Sequence[Sequence[float]], names: Sequence[str], up: NDArray[np.float64]
    ) -> Boxes:
        """Boxes of objects with a colour (0 to 255) each; an empty name writes none."""
        points = [found.box.corners()[np.array(EDGES)] for found in objects]
        painted = [np.broadcast_to(np.asarray(color).astype(np.uint8), (12, 2, 3)) for color in colors]
        written = []
        for found, name in sorted(zip(objects, names, strict=True), key=lambda pair: -len(pair[0].voxel_indices)):
            top = found.box.center + up * (np.abs(found.box.rotation.T @ up) @ found.box.size / 2 + 0.05)
            if name:
                written.append((name, (float(top[0]), float(top[1]), float(top[2]))))
        empty = np.zeros((0, 2, 3))
        return cls(
            np.concatenate([empty, *points]).astype(np.float32),
            np.concatenate([empty.astype(np.uint8), *painted]),
            tuple(written),
        )


class Scene:
    """A map made ready for sending; safe to read from several threads.

    Args:
        data: What to show.
    """

    def __init__(self, data: ViewData) -> None:
        self.data = data
        snapshot = data.snapshot
        self.arrangement = arrange(snapshot.indices, ceiling_layer(snapshot))
        order = self.arrangement.order
        self._block_m = snapshot.voxel_size_m * (1 << BLOCK_BITS)
        step = snapshot.voxel_size_m / _STEPS_PER_VOXEL
        # Half precision is finer than the step within a block, and six bytes per point instead of twelve.
        blocks = snapshot.indices[order] >> BLOCK_BITS
        local = snapshot.centroids[order].astype(np.float64) - (blocks + 0.5) * self._block_m
        self._points = (np.round(local / step) * step).astype(np.float16)

    def __len__(self) -> int:
        return len(self.arrangement.order)

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The parts of the map, in the order of sending."""
        return self.arrangement.chunks

    def origin(self, chunk: Chunk) -> tuple[float, float, float]:
        """Middle of a chunk's block, metres."""
        x, y, z = ((k + 0.5) * self._block_m for k in chunk.block)
        return x, y, z

    def points(self, chunk: Chunk, count: int) -> NDArray[np.float16]:
        """The first ``count`` points of a chunk, metres from :meth:`origin`. Shape (count, 3)."""
        return self._points[chunk.start : chunk.start + count]

    def in_order(self, values: NDArray) -> NDArray:
        """Values per map voxel (N, ...) in the order of sending."""
        return values[self.arrangement.order]

    @cached_property
    def true_colors(self) -> NDArray[np.uint8]:
        """Colours as seen, a dim room lifted. Shape (N, 3), in the order of sending."""
        colors = self.in_order(self.data.snapshot.colors)
        return np.clip(np.rint(colors * brightness_gain(colors)), 0, 255).astype(np.uint8)

    @cached_property
    def label_colors(self) -> NDArray[np.uint8] | None:
        """Colours of the labels, instances told apart by lightness, (N, 3), in the order of sending; None without labels."""
        labelling = self.data.labelling
        if labelling is None:
            return None
        words = labelling.vocabulary
        colors = np.vstack([palette.label_colors(words), [palette.NO_LABEL_COLOR]])
        labels, instances = self.in_order(labelling.labels), self.in_order(labelling.instances)
        number = np.where(labels == NO_LABEL, len(words), labels).astype(np.int64)
        return palette.instance_tint(colors[number], instances).astype(np.uint8)

    def heat_colors(self, result: QueryResult) -> NDArray[np.uint8]:
        """Colours of the scores of the first text over the greyed map. Shape (N, 3), in the order of sending."""
        scores = result.voxel_scores[0][self.in_order(result.voxel_of_point)]
        return palette.heat_over_grey(self.true_colors, scores).astype(np.uint8)

    @cached_property
    def legend(self) -> tuple[tuple[str, tuple[int, int, int], float], ...]:
        """Words with colour and share of the map in [0, 1], the most frequent first; "" is what has no label."""
        labelling = self.data.labelling
        if labelling is None or len(self) == 0:
            return ()
        words = labelling.vocabulary
        counts = np.bincount(np.minimum(labelling.labels, len(words)), minlength=len(words) + 1)
        colors = [*palette.label_colors(words).tolist(), palette.NO_LABEL_COLOR]
        return tuple(
            (words[k] if k < len(words) else "", (int(colors[k][0]), int(colors[k][1]), int(colors[k][2])), counts[k] / len(self))
            for k in np.argsort(-counts, kind="stable")
            if counts[k]
        )

    @cached_property
    def instance_boxes(self) -> Boxes:
        """Boxes of the labelled objects in the colours of their words; grey and without a name where no word fits."""
        labelling = self.data.labelling
        things = [] if labelling is None else [found for found in labelling.objects if found.text not in _SHELL]
        words = () if labelling is None else labelling.vocabulary
        color_of = dict(zip(words, palette.label_colors(words) * 0.75, strict=True))
        colors = [color_of.get(found.text, palette.NO_LABEL_COLOR) for found in things]
        return Boxes.around(things, colors, [found.text for found in things], self.up)

    def answer_boxes(self, objects: Sequence[DetectedObject]) -> Boxes:
        """Boxes of found objects with their scores."""
        return Boxes.around(objects, [BOX_COLOR] * len(objects), [f"{found.score:.2f}" for found in objects], self.up)

    @property
    def up(self) -> NDArray[np.float64]:
        """Unit vector against gravity. Shape (3,)."""
        return self.data.snapshot.up

    @cached_property
    def middle(self) -> NDArray[np.float64]:
        """Middle of the map, outliers aside, metres. Shape (3,)."""
        return self._reach.mean(axis=0)

    def overview(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where to stand and what to look at to see the whole map from above: two points, metres. Shapes (3,)."""
        east, north, up = ground_basis(self.up).T
        distance = max(0.8 * float(np.linalg.norm(self._reach[1] - self._reach[0])), 1.0)
        slope = np.deg2rad(_ELEVATION_DEG)
        direction = np.cos(slope) * (-0.6 * east - 0.8 * north) + np.sin(slope) * up
        return self.middle + distance * direction, self.middle

    def close_look(self, found: DetectedObject, fallback: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where to stand and what to look at to see one object: from the middle of the map, slightly from above.

        Things stand along walls, which would hide them from outside.

        Args:
            found: The object.
            fallback: Where the eye is now, for objects in the middle. Shape (3,).

        Returns:
            Two points, metres. Shapes (3,).
        """
        target = found.box.center
        for origin in (self.middle, fallback):
            away = origin - target
            away = away - (away @ self.up) * self.up
            if np.linalg.norm(away) > 0.5:
                break
        else:
            away = ground_basis(self.up)[:, 0]
        direction = away / np.linalg.norm(away) + 0.7 * self.up
        distance = max(1.6 * float(np.linalg.norm(found.box.size)), 1.2)
        return target + distance * direction / np.linalg.norm(direction), target

    @cached_property
    def _reach(self) -> NDArray[np.float64]:
        """Lowest and highest corner without the outermost points. Shape (2, 3)."""
        points = self.data.snapshot.centroids
        if len(points) == 0:
            return np.array([[-1.0, -1, -1], [1, 1, 1]])
        return np.quantile(points[:: max(1, len(points) // 20_000)].astype(np.float64), [0.01, 0.99], axis=0)


def ceiling_layer(snapshot: MapSnapshot) -> NDArray[np.int64]:
    """``CEILING`` for voxels at or above the ceiling, else 0. Shape (N,)."""
    hidden = ~without_ceiling(snapshot.centroids, snapshot.normals, snapshot.up)
    if not hidden.any():
        return np.zeros(len(hidden), np.int64)
    height = snapshot.centroids @ snapshot.up.astype(np.float32)
    # One height for the whole map, in steps: between two updates hardly a voxel changes its layer.
    step = 5 * snapshot.voxel_size_m
    cut = np.floor(np.quantile(height[hidden], 0.02) / step) * step
    return np.where(height >= cut, CEILING, 0)


def brightness_gain(colors: NDArray) -> float:
    """Factor that lifts colours (N, 3) of a dim room; in steps, so that it seldom changes while a map grows."""
    if len(colors) == 0:
        return 1.0
    bright = max(float(np.quantile(colors[:: max(1, len(colors) // 20_000)].max(axis=1), 0.95)), 1.0)
    return float(np.clip(np.floor(235.0 / bright * 5) / 5, 1.0, 1.6))
