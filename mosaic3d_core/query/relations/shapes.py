"""Things as voxels with z up, and the distance between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError, cKDTree

from mosaic3d_core.query.boxes import OrientedBox

# Points of a thing that stand for it in the first, rough step of a distance.
_ROUGH_POINTS = 200


@dataclass(frozen=True, eq=False)
class Shape:
    """The voxels of one thing.

    Attributes:
        points: Voxel centroids in a frame with z up, metres. Shape (K, 3), float64, K >= 1.
        voxel_size_m: Edge of a voxel; 0 for a place.
        box: Its upright box in the same frame; None for a place.
    """

    points: NDArray[np.float64]
    voxel_size_m: float
    box: OrientedBox | None = None

    @cached_property
    def low(self) -> NDArray[np.float64]:
        """Lowest corner of the bounds (3,)."""
        return self.points.min(axis=0)

    @cached_property
    def high(self) -> NDArray[np.float64]:
        """Highest corner of the bounds (3,)."""
        return self.points.max(axis=0)

    @cached_property
    def center(self) -> NDArray[np.float64]:
        """Centre of the bounds (3,)."""
        return (self.low + self.high) / 2

    def within(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        """The voxels between two corners (3,), one axis after the other: each leaves less to look at. Shape (M, 3)."""
        rows = None
        for axis in range(3):
            if self.low[axis] >= low[axis] and self.high[axis] <= high[axis]:
                continue
            values = self.points[:, axis] if rows is None else self.points[rows, axis]
            inside = np.flatnonzero((values >= low[axis]) & (values <= high[axis]))
            rows = inside if rows is None else rows[inside]
        return self.points if rows is None else self.points[rows]

    @cached_property
    def outline(self) -> NDArray[np.float64]:
        """Corners of the convex outline seen from above, counter-clockwise. Shape (C, 2)."""
        return outline_of(self.points[:, :2])

    @cached_property
    def bottom(self) -> float:
        """Height of its lower end, metres: 1 % of its voxels may lie lower, as strays do; a table's legs are few voxels."""
        return float(np.quantile(self.points[:, 2], 0.01))

    @cached_property
    def height_range(self) -> tuple[float, float]:
        """Heights below which 5 % and 95 % of its voxels lie, metres."""
        low, high = np.quantile(self.points[:, 2], [0.05, 0.95])
        return float(low), float(high)

    @cached_property
    def _rough(self) -> cKDTree:
        return cKDTree(self.points[:: max(1, len(self.points) // _ROUGH_POINTS)])

    @property
    def height(self) -> float:
        """Extent along z, metres."""
        return float(self.high[2] - self.low[2]) + self.voxel_size_m


def bounds_distance(a: Shape, b: Shape) -> float:
    """Distance between the bounds of two things, metres: never more than that between their voxels."""
    return float(np.linalg.norm(np.maximum(0.0, np.maximum(a.low - b.high, b.low - a.high))))


def distance(a: Shape, b: Shape) -> float:
    """Smallest distance between the voxel centroids of two things, metres, exact.

    A few voxels of each give an upper limit; only those within it of the other's bounds can be nearer.
    """
    few, many = sorted((a.points, b.points), key=len)
    if len(few) == 1 or len(few) * len(many) <= 4096:
        return float(np.sqrt(min(sum((many[:, k] - place[k]) ** 2 for k in range(3)).min() for place in few)))
    limit = float(a._rough.query(b._rough.data)[0].min()) + 1e-9
    near_a = a.within(b.low - limit, b.high + limit)
    near_b = b.within(a.low - limit, a.high + limit)
    small, large = sorted((near_a, near_b), key=len)
    if len(small) == 0:
        return limit
    return min(limit, float(cKDTree(small).query(large, distance_upper_bound=limit)[0].min()))


def outline_of(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners of the convex hull of points in the plane (K, 2), K >= 1: counter-clockwise, or two where all lie in a line."""
    try:
        return points[ConvexHull(points).vertices]
    except (QhullError, ValueError):  # all in a line, or fewer than three
        spread = points - points.mean(axis=0)
        axis = np.linalg.svd(spread, full_matrices=False)[2][0] if len(points) > 1 else np.array([1.0, 0.0])
        along = spread @ axis
        return points[[int(along.argmin()), int(along.argmax())]]


def ways_from_outline(corners: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shortest way from a convex outline to places, 0 within.

    Args:
        corners: Of the outline, see :func:`outline_of`. (C, 2) metres.
        places: (P, 2) metres.

    Returns:
        (P, 2) metres.
    """
    edges = np.roll(corners, -1, axis=0) - corners
    from_corners = places[:, None] - corners[None]
    square = np.maximum((edges**2).sum(axis=1), 1e-18)
    share = np.clip((from_corners * edges).sum(axis=2) / square, 0.0, 1.0)
    ways = from_corners - share[..., None] * edges
    nearest = (ways**2).sum(axis=2).argmin(axis=1)
    ways = ways[np.arange(len(places)), nearest]
    if len(corners) > 2:
        inside = (edges[:, 0] * from_corners[..., 1] - edges[:, 1] * from_corners[..., 0] >= 0).all(axis=1)
        ways[inside] = 0.0
    return ways


def outline_distance(corners: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length of :func:`ways_from_outline`. Shape (P,), metres."""
    return np.asarray(np.linalg.norm(ways_from_outline(corners, places), axis=1))
