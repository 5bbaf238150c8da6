"""Where to look from: a plan view, or a perspective view into the room that fits the scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.query.boxes import ground_basis
from mosaic3d_core.query.components import pack_indices
from mosaic3d_core.visualization.splat import splat, to_camera_frame

ViewKind = Literal["top", "perspective"]
VIEW_KINDS: tuple[ViewKind, ...] = ("perspective", "top")

_ELEVATION_DEG = 40.0
_FIELD_OF_VIEW_DEG = 40.0
_MARGIN = 1.06
# Surfaces that face down above this height are ceiling; furniture that hangs lower (cabinets, lamps) stays in
# the picture.
_CEILING_ABOVE_FLOOR_M = 1.9


@dataclass(frozen=True)
class View:
    """A virtual camera.

    Attributes:
        camera: Intrinsics; for an orthographic view fx and fy are pixels per metre.
        T_world_camera: Pose of its optical frame. Shape (4, 4), float64.
        orthographic: Parallel projection.
    """

    camera: PinholeCamera
    T_world_camera: np.ndarray
    orthographic: bool = False

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2), NaN behind the camera, and depths (N,) in metres of world points (N, 3)."""
        local, _ = to_camera_frame(points, None, self.T_world_camera)
        z = local[:, 2].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.ones_like(z) if self.orthographic else np.where(z > 1e-6, 1.0 / z, np.nan)
        c = self.camera
        return np.stack([c.fx * local[:, 0] * scale + c.cx, c.fy * local[:, 1] * scale + c.cy], axis=1), z

    def scaled(self, factor: int) -> View:
        """The same view with ``factor`` times as many pixels along each side."""
        c = self.camera
        # Pixel centres lie at integers, so the corner of the picture is at -0.5.
        cx, cy = (c.cx + 0.5) * factor - 0.5, (c.cy + 0.5) * factor - 0.5
        camera = PinholeCamera(c.fx * factor, c.fy * factor, cx, cy, c.width * factor, c.height * factor)
        return View(camera, self.T_world_camera, self.orthographic)


def smooth_normals(points: np.ndarray, normals: np.ndarray, weights: np.ndarray, voxel_size_m: float) -> np.ndarray:
    """Normals steadied by their neighbourhood, so that a noisy wall faces one way.

    Each normal is pulled towards the mean of a cell of five voxels. Where a thin thing has both its sides in
    one cell, the mean vanishes and the own normal stays.

    Args:
        points: World points, metres. Shape (N, 3).
        normals: Unit normals or zeros. Shape (N, 3).
        weights: How well observed each point is. Shape (N,).
        voxel_size_m: Spacing of the points, metres.

    Returns:
        Unit normals or zeros. Shape (N, 3), float32.
    """
    if len(points) == 0:
        return np.zeros((0, 3), np.float32)
    mean: np.ndarray = normals.astype(np.float32)
    for offset in (0.0, 0.5):  # two shifted grids, so that no edge of a cell stays visible
        cells = np.floor(points / (5 * voxel_size_m) + offset).astype(np.int64)
        _, cell = np.unique(pack_indices(cells), return_inverse=True)
        strength = np.sqrt(weights)
        sums = np.stack([np.bincount(cell, normals[:, k] * strength) for k in range(3)], axis=1)
        total = sums / np.maximum(np.bincount(cell, strength), 1e-9)[:, None]
        mean = mean + 2 * total[cell]
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    return np.where(length > 0.1, mean / np.maximum(length, 1e-9), 0).astype(np.float32)


def without_ceiling(points: np.ndarray, normals: np.ndarray | None, up: np.ndarray) -> np.ndarray:
    """Which points (N, 3) to draw so that one can look into a room from above. Shape (N,), bool."""
    if len(points) == 0:
        return np.zeros(0, bool)
    height = points @ np.asarray(up, np.float32)
    above = height - np.quantile(height, 0.01)
    keep = np.ones(len(points), bool)
    if normals is not None:
        ceiling = (above > _CEILING_ABOVE_FLOOR_M) & (normals @ np.asarray(up, np.float32) < -0.6)
        if ceiling.sum() > 0.01 * len(points):
            # The lower edge of the ceiling, robustly; everything from there on would hide the room.
            keep &= above < np.quantile(above[ceiling], 0.05) - 0.05
        keep &= ~ceiling
    elif above.max() > 2.3:
        keep &= above < 2.2
    return keep


def choose_view(points: np.ndarray, normals: np.ndarray | None, up: np.ndarray, kind: ViewKind, width: int, height: int) -> View:
    """A view of the given kind that fills the picture with the scene.

    Args:
        points: World points, metres. Shape (N, 3), N >= 1.
        normals: Unit normals or None. Shape (N, 3).
        up: Up direction. Shape (3,).
        kind: "top" or "perspective".
        width: Picture width, pixels.
        height: Picture height, pixels.

    Returns:
        The view.

    Raises:
        ValueError: If the kind is unknown or there are no points.
    """
    if kind not in VIEW_KINDS:
        raise ValueError(f"view must be one of {', '.join(VIEW_KINDS)}, got {kind!r}")
    if len(points) == 0:
        raise ValueError("cannot choose a view of an empty cloud")
    basis = _room_basis(points, normals, up)
    if kind == "top":
        return _top_view(points, basis, width, height)
    # Looking along the room's diagonals shows two walls and hides none of the furniture behind the others.
    options = [np.deg2rad(45 + 90 * k + 12) for k in range(4)]
    views = [_perspective_view(points, basis, azimuth, width, height) for azimuth in options]
    return max(views, key=lambda view: _visible_points(points, normals, view))


def _room_basis(points: np.ndarray, normals: np.ndarray | None, up: np.ndarray) -> np.ndarray:
    """Horizontal axes along the walls, if normals tell, and up, as columns. Shape (3, 3)."""
    basis = ground_basis(up)
    if normals is not None:
        flat = normals @ basis[:, :2]
        strength = np.linalg.norm(flat, axis=1)
        wall = flat[strength > 0.9]
        if len(wall) > 50:
            angle = _dominant_right_angle(np.arctan2(wall[:, 1], wall[:, 0]))
            turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
            basis = basis @ turn
    spread = np.quantile(points @ basis[:, :2], [0.01, 0.99], axis=0)
    extent = spread[1] - spread[0]
    if extent[1] > extent[0]:  # the longer side lies across the picture
        basis = basis @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    return basis


def _dominant_right_angle(angles: np.ndarray) -> float:
    """The most frequent direction modulo 90 degrees; turned furniture does not bend it. Radians."""
    quarter = np.pi / 2
    folded = np.mod(angles, quarter)
    histogram = np.bincount((folded / quarter * 45).astype(int) % 45, minlength=45)
    peak = (np.argmax(histogram + np.roll(histogram, 1) + np.roll(histogram, -1)) + 0.5) / 45 * quarter
    near = np.mod(folded - peak + quarter / 2, quarter) - quarter / 2
    return float(peak + np.median(near[np.abs(near) < np.deg2rad(5)]))


def _top_view(points: np.ndarray, basis: np.ndarray, width: int, height: int) -> View:
    local = points @ basis
    low, high = np.quantile(local, [0.002, 0.998], axis=0)
    extent = np.maximum(high - low, 0.1) * _MARGIN
    scale = min(width / extent[0], height / extent[1])
    middle = (low + high) / 2
    eye = np.array([middle[0], middle[1], local[:, 2].max() + 1.0])
    # Optical axes: x right along the longer side, y down = backwards, z = down.
    rotation = np.stack([basis[:, 0], -basis[:, 1], -basis[:, 2]], axis=1)
    camera = PinholeCamera(scale, scale, (width - 1) / 2, (height - 1) / 2, width, height)
    return View(camera, _pose(rotation, basis @ eye), orthographic=True)


def _perspective_view(points: np.ndarray, basis: np.ndarray, azimuth: float, width: int, height: int) -> View:
    elevation = np.deg2rad(_ELEVATION_DEG)
    direction = basis @ np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    forward = -direction
    right = np.cross(forward, basis[:, 2])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
    focal = width / 2 / np.tan(np.deg2rad(_FIELD_OF_VIEW_DEG) / 2)
    sample = points[:: max(1, len(points) // 20000)].astype(np.float64)
    target = np.quantile(sample, [0.01, 0.99], axis=0).mean(axis=0)
    local = (sample - target) @ rotation
    shift = np.zeros(2)
    distance = 1.0
    for _ in range(8):
        # Step back until the outermost points just fit, then centre what is seen, and again.
        reach = np.abs(local[:, :2] - shift) * np.array([focal / (width / 2), focal / (height / 2)]) * _MARGIN
        distance = max(float(np.quantile((reach - local[:, 2:]).max(axis=1), 0.9995)), 0.3)
        seen = (local[:, :2] - shift) / (local[:, 2:] + distance).clip(0.05)
        shift += np.quantile(seen, [0.0005, 0.9995], axis=0).mean(axis=0) * distance
    eye = target + rotation @ np.array([shift[0], shift[1], -distance])
    camera = PinholeCamera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)
    return View(camera, _pose(rotation, eye))


def _pose(rotation: np.ndarray, origin: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, origin
    return pose


def _visible_points(points: np.ndarray, normals: np.ndarray | None, view: View) -> int:
    """How many different points a small rendering shows."""
    step = max(1, len(points) // 60000)
    factor = view.camera.width / 200
    c = view.camera
    small = PinholeCamera(c.fx / factor, c.fy / factor, c.cx / factor, c.cy / factor, 200, round(c.height / factor))
    chosen = None if normals is None else normals[::step]
    local, turned = to_camera_frame(points[::step], chosen, view.T_world_camera)
    buffers = splat(local, turned, 0.03 * step**0.5, None, small, cull_backfaces=True)
    return len(np.unique(buffers.nearest))
