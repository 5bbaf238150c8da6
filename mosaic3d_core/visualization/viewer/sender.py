"""Brings what one browser has into line with what it should show, sending no more than what differs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.visualization.viewer.level_of_detail import COARSEST, Chunk
from mosaic3d_core.visualization.viewer.panel import shortened
from mosaic3d_core.visualization.viewer.scene import CEILING, Boxes, Scene

if TYPE_CHECKING:
    import viser

_WINDOW_BYTES = 1 << 20
"""What is put into one message at most, roughly: the browser takes in a message at once, between two pictures."""

_MOST_NAMES = 30
"""Names in the scene at most, those of the largest objects: more of them hide each other."""


@dataclass
class _Sent:
    """A point cloud that the browser has."""

    points: NDArray[np.float16]
    colors: NDArray[np.uint8]
    size: float
    visible: bool
    handle: Any


class Sender:
    """The points, boxes and names in one browser's scene.

    Args:
        scene: That browser's own scene, nobody else sees it.
        flush: Sends what has been put there, before more is.
        together: Context in which all that is put there arrives at once: a thing with its place.
    """

    def __init__(
        self, scene: viser.SceneApi, flush: Callable[[], None], together: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._scene = scene
        self._flush = flush
        self._together = together
        self._sent: dict[tuple[int, ...], _Sent] = {}
        self._boxes: Boxes | None = None
        self._box_handle: Any = None
        self._names: list[Any] = []
        self._window = 0
        self.bytes_sent = 0
        """Bytes of points and colours so far."""

    def send_map(
        self,
        scene: Scene,
        colors: NDArray[np.uint8],
        budget: int,
        ceiling: bool,
        eye: NDArray[np.float64],
        is_stale: Callable[[], bool],
    ) -> bool:
        """Send a map, coarse levels first, within a level what is nearest first.

        Args:
            scene: The map.
            colors: Colours in its order. Shape (N, 3), uint8.
            budget: Most points.
            ceiling: Whether the ceiling is shown.
            eye: Where the camera is, metres. Shape (3,).
            is_stale: Asked now and then; True ends the work, what has been sent counts.

        Returns:
            Whether everything was sent.
        """
        counts = scene.arrangement.counts(budget)
        voxel = scene.data.snapshot.voxel_size_m
        wanted = [(chunk, int(count)) for chunk, count in zip(scene.chunks, counts, strict=True) if count]
        distance = {chunk.block: float(np.sum((np.array(scene.origin(chunk)) - eye) ** 2)) for chunk, _ in wanted}
        wanted.sort(key=lambda one: (-one[0].level, one[0].layer, distance[one[0].block]))
        final, level = voxel, COARSEST
        for chunk, count in wanted:
            if level == COARSEST != chunk.level and self._window:
                self._end_window()  # the first picture waits for nothing else
            level = chunk.level
            size = voxel * 2.0**chunk.level
            self._set_sizes(2 * size, only_larger=True)  # the level before is complete: its points no longer stand for more
            final = min(2 * size, size * ((chunk.stop - chunk.start) / count) ** 0.5)
            visible = ceiling or chunk.layer != CEILING
            with self._together():
                self._send_chunk(chunk, scene, colors[chunk.start : chunk.start + count], size, visible)
            if self._window >= _WINDOW_BYTES:
                self._end_window()
                if is_stale():
                    return False
        for key in set(self._sent) - {chunk.key for chunk, _ in wanted}:
            self._sent.pop(key).handle.remove()
        self._set_sizes(final)
        self._end_window()
        return True

    def send_boxes(self, boxes: Boxes | None, names: bool) -> None:
        """Send boxes, with or without their names; None for none."""
        boxes = boxes if boxes is not None and len(boxes.points) else None
        with self._together():
            self._exchange_boxes(boxes, names)

    def _exchange_boxes(self, boxes: Boxes | None, names: bool) -> None:
        if not _equal(boxes, self._boxes):
            if self._box_handle is not None:
                self._box_handle.remove()
                self._box_handle = None
            if boxes is not None:
                self._box_handle = self._scene.add_line_segments(
                    "/boxes", boxes.points, boxes.colors, thickness=2.0, thickness_units="screen"
                )
            for handle in self._names:
                handle.remove()
            written = boxes.names[:_MOST_NAMES] if boxes is not None else ()
            self._names = [
                self._scene.add_label(
                    f"/names/{k}",
                    shortened(text, 40),
                    position=place,
                    visible=names,
                    anchor="bottom-center",
                    font_screen_scale=0.8,
                )
                for k, (text, place) in enumerate(written)
            ]
            self._boxes = boxes
        for handle in self._names:
            if handle.visible != names:
                handle.visible = names

    def clear(self) -> None:
        """Take everything away."""
        for sent in self._sent.values():
            sent.handle.remove()
        self._sent.clear()
        self.send_boxes(None, False)

    def _send_chunk(self, chunk: Chunk, scene: Scene, colors: NDArray[np.uint8], size: float, visible: bool) -> None:
        points = scene.points(chunk, len(colors))
        old = self._sent.get(chunk.key)
        if old is not None and np.array_equal(old.points, points):
            if old.visible != visible:
                old.handle.visible = old.visible = visible
            if not np.array_equal(old.colors, colors):
                old.handle.colors = colors
                self._count(colors.nbytes)
            old.points, old.colors = points, colors  # those of the new map, so that the old one can go
            return
        level, layer, x, y, z = chunk.key
        size = size if old is None else old.size
        handle = self._scene.add_point_cloud(
            f"/map/{level}/{layer}/{x}_{y}_{z}",
            points,
            colors,
            point_size=size,
            point_shape="rounded",
            point_shading="flat",
            precision="float16",
            position=scene.origin(chunk),
            visible=visible,
        )
        self._sent[chunk.key] = _Sent(points, colors, size, visible, handle)
        self._count(points.nbytes + colors.nbytes)

    def _count(self, nbytes: int) -> None:
        self._window += nbytes
        self.bytes_sent += nbytes

    def _end_window(self) -> None:
        self._window = 0
        self._flush()

    def _set_sizes(self, size: float, only_larger: bool = False) -> None:
        for sent in self._sent.values():
            if sent.size > size + 1e-9 or (sent.size < size - 1e-9 and not only_larger):
                sent.handle.point_size = sent.size = size


def _equal(one: Boxes | None, other: Boxes | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.names == other.names and np.array_equal(one.points, other.points) and np.array_equal(one.colors, other.colors)
