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

    @cached_property
    def tree(self) -> cKDTree:
        """For nearest voxels."""
        return cKDTree(self.points)

    @cached_property
    def flat_tree(self) -> cKDTree:
        """For horizontally nearest voxels."""
        return cKDTree(self.points[:, :2])

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
    if len(a.points) * len(b.points) <= 4096:
        return float(np.sqrt(((a.points[:, None] - b.points[None]) ** 2).sum(axis=2).min()))
    limit = float(a._rough.query(b._rough.data)[0].min()) + 1e-9
    near_a = a.points[((a.points >= b.low - limit) & (a.points <= b.high + limit)).all(axis=1)]
    near_b = b.points[((b.points >= a.low - limit) & (b.points <= a.high + limit)).all(axis=1)]
    small, large = sorted((near_a, near_b), key=len)
    if len(small) == 0:
        return limit
    return min(limit, float(cKDTree(small).query(large, distance_upper_bound=limit)[0].min()))


def outline_distance(points: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of places to the convex outline of points in the plane, 0 within.

    Args:
        points: (K, 2) metres, K >= 1.
        places: (P, 2) metres.

    Returns:
        (P,) metres.
    """
    try:
        corners = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):  # all in a line, or fewer than three
        spread = points - points.mean(axis=0)
        axis = np.linalg.svd(spread, full_matrices=False)[2][0] if len(points) > 1 else np.array([1.0, 0.0])
        along = spread @ axis
        corners = points[[int(along.argmin()), int(along.argmax())]]
    ends = np.roll(corners, -1, axis=0)
    edges = ends - corners
    ways = places[:, None] - corners[None]
    square = np.maximum((edges**2).sum(axis=1), 1e-18)
    share = np.clip((ways * edges).sum(axis=2) / square, 0.0, 1.0)
    apart = np.linalg.norm(ways - share[..., None] * edges, axis=2).min(axis=1)
    if len(corners) < 3:
        return apart
    inside = (edges[:, 0] * ways[..., 1] - edges[:, 1] * ways[..., 0] >= 0).all(axis=1)
    return np.where(inside, 0.0, apart)
