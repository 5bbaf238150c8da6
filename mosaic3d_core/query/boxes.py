"""Upright oriented boxes: fitting them to voxels and measuring their overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

# Two boxes count as upright about the same axis when their axes agree within about 0.6 degrees.
_PARALLEL_TOLERANCE = 5e-5


@dataclass(frozen=True)
class OrientedBox:
    """A box in the map frame.

    Attributes:
        center: Box centre in metres, shape (3,), float64.
        rotation: Columns are the box axes in the map frame; the last column is up for upright boxes. Shape
            (3, 3), float64.
        size: Full edge lengths along those axes in metres, shape (3,), float64.
    """

    center: np.ndarray
    rotation: np.ndarray
    size: np.ndarray

    def __post_init__(self) -> None:
        for name, shape in (("center", (3,)), ("rotation", (3, 3)), ("size", (3,))):
            value = np.asarray(getattr(self, name), np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f"box {name} must be finite numbers of shape {shape}, got {value!r}")
            object.__setattr__(self, name, value)
        if (self.size < 0).any():
            raise ValueError(f"box size must not be negative, got {self.size}")
        if np.abs(self.rotation.T @ self.rotation - np.eye(3)).max() > 1e-3 or np.linalg.det(self.rotation) < 0:
            raise ValueError("box rotation must be a rotation matrix (orthonormal, determinant +1)")

    @property
    def volume(self) -> float:
        """Volume in cubic metres."""
        return float(np.prod(self.size))

    def corners(self) -> np.ndarray:
        """Corners in metres, bottom face counter-clockwise, then the top face above it. Shape (8, 3)."""
        signs = np.array(
            [
                [-1, -1, -1],
                [1, -1, -1],
                [1, 1, -1],
                [-1, 1, -1],
                [-1, -1, 1],
                [1, -1, 1],
                [1, 1, 1],
                [-1, 1, 1],
            ]
        )
        return self.center + (signs * self.size / 2) @ self.rotation.T

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Which points (N, 3) lie inside or on the box. Shape (N,), bool."""
        local = (np.asarray(points, np.float64) - self.center) @ self.rotation
        return (np.abs(local) <= self.size / 2).all(axis=1)


def ground_basis(up: np.ndarray) -> np.ndarray:
    """Rotation whose columns are two horizontal axes and ``up``; the identity for z up. Shape (3, 3)."""
    up = np.asarray(up, np.float64)
    norm = np.linalg.norm(up)
    if up.shape != (3,) or not np.isfinite(norm) or norm < 1e-9:
        raise ValueError(f"up must be a non-zero vector of shape (3,), got {up!r}")
    up = up / norm
    reference = np.eye(3)[0] if abs(up[0]) < 0.9 else np.eye(3)[1]
    first = reference - up * (reference @ up)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(up, first), up], axis=1)


def fit_upright_box(points: np.ndarray, up: np.ndarray, voxel_size_m: float, *, trim: float = 0.01) -> OrientedBox:
    """Smallest upright box around an object's voxels, robust against a few stray ones.

    The heading is that of the minimum-area rectangle around the convex hull in the ground plane. A voxel that
    lies beyond the ``trim`` percentiles *and* is cut off from them by more than the spread there does not
    count, so a uniformly covered object keeps its full length while a few voxels of the wall behind it do not
    stretch the box.

    Args:
        points: Voxel centres (or centroids) in metres. Shape (N, 3), N >= 1.
        up: Direction the box stands along. Shape (3,).
        voxel_size_m: Edge length of a voxel; boxes include the voxels' own extent, and are at least two of
            them thick.
        trim: Fraction of voxels at each end that may be left out.

    Returns:
        The box; ``rotation[:, 2]`` is ``up`` and the first axis is the longer horizontal one.

    Raises:
        ValueError: If there is no point, a value is not finite, or ``up`` is zero.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or not np.isfinite(points).all():
        raise ValueError(f"a box needs at least one finite point of shape (N, 3), got shape {points.shape}")
    basis = ground_basis(up)
    local = points @ basis
    height = _robust_range(local[:, 2], trim, voxel_size_m)
    ground = local[(local[:, 2] >= height[0]) & (local[:, 2] <= height[1]), :2]
    angle = 0.0
    for _ in range(2):  # the first heading may be bent by the strays that it then helps to find
        angle = min_area_angle(ground)
        axes = _rotation2d(angle)
        turned = ground @ axes
        limits = [_robust_range(turned[:, k], trim, voxel_size_m) for k in range(2)]
        keep = np.ones(len(ground), bool)
        for k, (low, high) in enumerate(limits):
            keep &= (turned[:, k] >= low) & (turned[:, k] <= high)
        if keep.all() or keep.sum() < 3:
            break
        ground = ground[keep]
    ranges = np.array([*limits, height])
    size = np.maximum(ranges[:, 1] - ranges[:, 0] + voxel_size_m, 2 * voxel_size_m)
    middle = np.append(axes @ ranges[:2].mean(axis=1), ranges[2].mean())
    turn = np.eye(3)
    turn[:2, :2] = axes
    if size[1] > size[0]:
        turn = turn @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        size = size[[1, 0, 2]]
    return OrientedBox(center=basis @ middle, rotation=basis @ turn, size=size)


def min_area_angle(points: np.ndarray) -> float:
    """Heading in [0, pi/2) of the minimum-area rectangle around 2D points (N, 2), radians."""
    try:
        hull = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        return _line_angle(points)
    edges = np.roll(hull, -1, axis=0) - hull
    angles = np.unique(np.mod(np.arctan2(edges[:, 1], edges[:, 0]), np.pi / 2))
    cos, sin = np.cos(angles), np.sin(angles)
    along = hull @ np.stack([cos, sin])
    across = hull @ np.stack([-sin, cos])
    return float(angles[np.argmin(np.ptp(along, axis=0) * np.ptp(across, axis=0))])


def _line_angle(points: np.ndarray) -> float:
    """Direction of (nearly) collinear points, modulo 90 degrees."""
    if len(points) < 2:
        return 0.0
    centred = points - points.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    return float(np.mod(np.arctan2(direction[1], direction[0]), np.pi / 2))


def _rotation2d(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _robust_range(values: np.ndarray, trim: float, voxel_size_m: float) -> tuple[float, float]:
    """Lowest and highest value that is not cut off from the ``trim`` percentiles."""
    low, high = np.quantile(values, [trim, 1 - trim])
    slack = max(voxel_size_m, 3 * trim * (high - low))
    return max(float(values.min()), float(low - slack)), min(float(values.max()), float(high + slack))


def iou_3d(a: OrientedBox, b: OrientedBox) -> float:
    """Exact intersection over union of two upright boxes, by clipping their ground polygons.

    Args:
        a: First box.
        b: Second box, upright about the same axis (either sign).

    Returns:
        Overlap in [0, 1]; 0 where both boxes have no volume.

    Raises:
        ValueError: If the boxes are not upright about the same axis.
    """
    union = a.volume + b.volume
    if union <= 0:
        return 0.0
    overlap = intersection_volume(a, b)
    return float(np.clip(overlap / max(union - overlap, 1e-300), 0.0, 1.0))


def intersection_volume(a: OrientedBox, b: OrientedBox) -> float:
    """Volume two upright boxes share, cubic metres; ValueError unless upright about the same axis."""
    up = a.rotation[:, 2]
    if 1 - abs(up @ b.rotation[:, 2]) > _PARALLEL_TOLERANCE:
        raise ValueError("iou_3d compares boxes that are upright about the same axis, these two are tilted to each other")
    centre_a, centre_b = a.center @ up, b.center @ up
    top = min(centre_a + a.size[2] / 2, centre_b + b.size[2] / 2)
    bottom = max(centre_a - a.size[2] / 2, centre_b - b.size[2] / 2)
    if top <= bottom:
        return 0.0
    return polygon_intersection_area(*footprints(a, b)) * (top - bottom)


def footprints(a: OrientedBox, b: OrientedBox) -> tuple[np.ndarray, np.ndarray]:
    """Ground polygons (4, 2) of two upright boxes in one horizontal frame, counter-clockwise, metres."""
    plane = a.rotation[:, :2]
    # Relative to a's centre: clipping far from the origin loses digits.
    return _footprint(a, a.center, plane), _footprint(b, a.center, plane)


def _footprint(box: OrientedBox, origin: np.ndarray, plane: np.ndarray) -> np.ndarray:
    corners = (box.corners()[:4] - origin) @ plane
    edge, after = corners[1] - corners[0], corners[2] - corners[1]
    clockwise = edge[0] * after[1] - edge[1] * after[0] < 0
    return corners[::-1] if clockwise else corners


def polygon_intersection_area(subject: np.ndarray, clip: np.ndarray) -> float:
    """Area two convex counter-clockwise polygons (N, 2), (M, 2) share, by Sutherland-Hodgman clipping."""
    polygon = [(float(x), float(y)) for x, y in subject]
    for k in range(len(clip)):
        (ax, ay), (bx, by) = clip[k], clip[(k + 1) % len(clip)]
        ex, ey = bx - ax, by - ay
        side = [ex * (y - ay) - ey * (x - ax) for x, y in polygon]
        clipped = []
        for i, (point, here) in enumerate(zip(polygon, side, strict=True)):
            before, previous = side[i - 1], polygon[i - 1]
            if (here >= 0) != (before >= 0):
                t = before / (before - here)
                clipped.append((previous[0] + t * (point[0] - previous[0]), previous[1] + t * (point[1] - previous[1])))
            if here >= 0:
                clipped.append(point)
        polygon = clipped
        if len(polygon) < 3:
            return 0.0
    xs, ys = np.array(polygon).T
    return 0.5 * abs(float(xs @ np.roll(ys, -1) - ys @ np.roll(xs, -1)))
