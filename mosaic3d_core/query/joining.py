"""Joining pieces of one object that the cameras saw apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mosaic3d_core.query.boxes import OrientedBox, footprints, ground_basis, polygon_intersection_area
from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.grid import QueryGrid


@dataclass(frozen=True, eq=False)
class Part:
    """A candidate object: encoder voxels (ascending), map rows (ascending), and the box around the map voxels.

    The box is fitted when it is first asked for: most fragments are given away before that.
    """

    cells: np.ndarray
    rows: np.ndarray
    fit_box: Callable[[np.ndarray], OrientedBox]

    @cached_property
    def box(self) -> OrientedBox:
        """Upright box around the map voxels."""
        return self.fit_box(self.rows)


Fit = Callable[[np.ndarray], Part]


def _largest_first(parts: list[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: (-len(part.rows), int(part.rows[0])))


def join_fragments(parts: list[Part], config: QueryConfig, fit: Fit, grid: QueryGrid) -> list[Part]:
    """Give small fragments that lie within reach of a larger object's box to that object.

    Args:
        parts: The parts.
        config: ``merge_gap_m`` and ``merge_share`` are used.
        fit: Makes the part of some encoder voxels.
        grid: The map at the encoder's resolution.

    Returns:
        The parts, largest first.
    """
    groups: list[list[Part]] = []
    for part in _largest_first(parts):
        points = grid.centroids[part.cells]
        for group in groups:
            whole = group[0]
            if len(part.rows) <= config.merge_share * len(whole.rows):
                reach = OrientedBox(whole.box.center, whole.box.rotation, whole.box.size + 2 * config.merge_gap_m)
                if reach.contains(points).mean() > 0.5:
                    group.append(part)
                    break
        else:
            groups.append([part])
    return _largest_first([group[0] if len(group) == 1 else fit(_union(group)) for group in groups])


def join_stacked(parts: list[Part], config: QueryConfig, fit: Fit, up: np.ndarray) -> list[Part]:
    """Join a part that stands right below or above another one to it.

    Cameras look down on things: the underside of a table top, a seat or a lamp shade stays unseen, and a gap parts it
    from the leg that carries it. Two upright sheets (pictures, windows) above each other stay two objects.

    Args:
        parts: The parts.
        config: ``stack_gap_m`` and ``stack_overlap`` are used.
        fit: Makes the part of some encoder voxels.
        up: Up direction. Shape (3,).

    Returns:
        The parts, largest first.
    """
    if config.stack_gap_m <= 0:
        return parts
    axis = ground_basis(up)[:, 2]
    waiting, done = _largest_first(parts), []
    while waiting:
        part = waiting.pop(0)
        mate = next((other for other in waiting if _stacked(part.box, other.box, axis, config)), None)
        if mate is None:
            done.append(part)
        else:  # what is joined may reach a third piece
            waiting.remove(mate)
            waiting = _largest_first([*waiting, fit(_union([part, mate]))])
    return _largest_first(done)


def _union(parts: list[Part]) -> np.ndarray:
    return np.sort(np.concatenate([part.cells for part in parts]))


def _stacked(a: OrientedBox, b: OrientedBox, axis: np.ndarray, config: QueryConfig) -> bool:
    """Whether one box stands on the other: a small vertical gap, and the smaller footprint mostly within the larger."""
    gap = abs(float((a.center - b.center) @ axis)) - (a.size[2] + b.size[2]) / 2
    if gap > config.stack_gap_m or (_is_sheet(a) and _is_sheet(b)):
        return False
    small = min(a.size[0] * a.size[1], b.size[0] * b.size[1])
    return polygon_intersection_area(*footprints(a, b)) >= config.stack_overlap * small


def _is_sheet(box: OrientedBox) -> bool:
    """A thin upright thing, as a picture on a wall."""
    return bool(box.size[1] < 0.15 and box.size[0] > 2 * box.size[1] and box.size[2] > 2 * box.size[1])
