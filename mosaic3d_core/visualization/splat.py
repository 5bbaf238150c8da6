"""Depth and colour pictures of surfels (oriented discs), rasterised on the CPU.

Every voxel of a map is drawn as a small disc around its centroid, perpendicular to its normal. Two passes
over the discs
share one geometry test: the first finds the nearest surface per pixel, the second averages everything within
a thin slab behind it, weighted towards disc centres. The average is what makes a noisy voxel surface look,
and measure, like one surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from mosaic3d_core.geometry.camera import PinholeCamera
    from mosaic3d_core.mapping import MapSnapshot

# A disc with a radius of 0.87 voxel edges reaches the corner of its own voxel (sqrt(3) / 2), so neighbours
# overlap without holes.
DISC_RADIUS_IN_VOXELS = 0.87
# Surfaces closer together than this are one surface: a voxel surface is rough by about one edge length.
BLEND_SLAB_IN_VOXELS = 1.5
_NEAR_M = 0.02
_FAR_M = 1e9


@dataclass(frozen=True)
class SplatBuffers:
    """What a splatting pass leaves per pixel.

    Attributes:
        depth: Depth along the optical axis in metres, 0 where nothing was hit. Shape (H, W), float32.
        values: Blended per-point values (colours, normals ...), 0 where nothing was hit. Shape (H, W, C),
            float32.
        nearest: Row of the point nearest to the camera, -1 where nothing was hit. Shape (H, W), int32.
    """

    depth: np.ndarray
    values: np.ndarray
    nearest: np.ndarray


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "arcp"})
def _splat(  # noqa: C901
    points: np.ndarray,
    normals: np.ndarray,
    radii: np.ndarray,
    values: np.ndarray,
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    ortho: bool,
    cull: bool,
    slab: float,
    depth: np.ndarray,
    nearest: np.ndarray,
    blended: np.ndarray,
    weight: np.ndarray,
    second_pass: bool,
) -> None:  # pragma: no cover - compiled
    """One pass over all discs: find ``depth``, or, second, blend what lies within ``slab`` behind it."""
    height, width = depth.shape
    channels = values.shape[1]
    for i in range(points.shape[0]):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        if not (_NEAR_M < pz < _FAR_M and abs(px) < _FAR_M and abs(py) < _FAR_M):  # also drops NaN
            continue
        scale = 1.0 if ortho else 1.0 / pz
        u, v = fx * px * scale + cx, fy * py * scale + cy
        r = radii[i]
        # The half size of the pixel window; never below half a pixel, or far discs would fall between pixel
        # centres.
        ru, rv = max(fx * r * scale, 0.5), max(fy * r * scale, 0.5)
        u0, u1 = int(np.ceil(max(u - ru, 0.0))), int(np.floor(min(u + ru, width - 1.0)))
        v0, v1 = int(np.ceil(max(v - rv, 0.0))), int(np.floor(min(v + rv, height - 1.0)))
        if u0 > u1 or v0 > v1:
            continue
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        has_normal = nx * nx + ny * ny + nz * nz > 0.25
        if has_normal:
            # View direction at the disc centre; a disc seen edge-on is treated as facing the camera, its
            # plane is meaningless.
            dx, dy, dz = (0.0, 0.0, 1.0) if ortho else (px, py, pz)
            cosine = (nx * dx + ny * dy + nz * dz) / np.sqrt(dx * dx + dy * dy + dz * dz)
            if cull and cosine > 0.0:
                continue
            if abs(cosine) < 0.15:
                has_normal = False
        small = ru <= 0.5 and rv <= 0.5
        for row in range(v0, v1 + 1):
            ry = (row - cy) / fy
            for col in range(u0, u1 + 1):
                rx = (col - cx) / fx
                z = pz
                if ortho:
                    ex, ey = rx - px, ry - py
                    if has_normal:
                        z = pz - (nx * ex + ny * ey) / nz
                    ez = z - pz
                else:
                    if has_normal:
                        z = (nx * px + ny * py + nz * pz) / (nx * rx + ny * ry + nz)
                    ex, ey, ez = rx * z - px, ry * z - py, z - pz
                distance2 = (ex * ex + ey * ey + ez * ez) / (r * r)
                if distance2 > 1.0:
                    if not small:
                        continue
                    z, distance2 = pz, 0.9
                if not z > _NEAR_M:
                    continue
                if not second_pass:
                    if z < depth[row, col]:
                        depth[row, col] = z
                        nearest[row, col] = i
                elif z <= depth[row, col] + slab:
                    w = (1.0 - distance2) ** 2 + 1e-3
                    weight[row, col] += w
                    blended[row, col, channels] += w * z
                    for c in range(channels):
                        blended[row, col, c] += w * values[i, c]


def splat(
    points: np.ndarray,
    normals: np.ndarray | None,
    radii: np.ndarray | float,
    values: np.ndarray | None,
    camera: PinholeCamera,
    *,
    orthographic: bool = False,
    cull_backfaces: bool = False,
    blend_slab_m: float = 0.03,
) -> SplatBuffers:
    """Rasterise discs given in camera coordinates.

    Args:
        points: Disc centres in the camera frame, metres. Shape (N, 3). An empty cloud gives empty buffers.
        normals: Unit normals in the camera frame, zeros where unknown (such a disc faces the camera). Shape
            (N, 3) or None.
        radii: Disc radius in metres, one for all or shape (N,).
        values: Per-point values to blend. Shape (N, C) or None for depth only.
        camera: Intrinsics. With ``orthographic``, fx and fy are pixels per metre.
        orthographic: Parallel projection along +z instead of a pinhole.
        cull_backfaces: Leave out discs whose normal points away from the camera (a doll's-house view into a
            room).
        blend_slab_m: Thickness behind the nearest surface that is averaged, metres.

    Returns:
        Depth, blended values and nearest point per pixel.

    Raises:
        ValueError: If shapes disagree.
    """
    points = np.ascontiguousarray(points, np.float32)
    count = len(points)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points must have shape (N, 3), got {points.shape}")
    normals = np.zeros((count, 3), np.float32) if normals is None else np.ascontiguousarray(normals, np.float32)
    values = np.zeros((count, 0), np.float32) if values is None else np.ascontiguousarray(values, np.float32)
    if normals.shape != (count, 3) or values.ndim != 2 or len(values) != count:
        raise ValueError(f"normals {normals.shape} and values {values.shape} do not match points {points.shape}")
    radii = np.ascontiguousarray(np.broadcast_to(np.asarray(radii, np.float32), (count,)))
    shape, channels = (camera.height, camera.width), values.shape[1]
    depth = np.full(shape, _FAR_M, np.float32)
    nearest = np.full(shape, -1, np.int32)
    blended = np.zeros((*shape, channels + 1), np.float32)
    weight = np.zeros(shape, np.float32)
    intrinsics = (float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy))
    for second_pass in (False, True):
        _splat(
            points, normals, radii, values, *intrinsics, orthographic, cull_backfaces, float(blend_slab_m),
            depth, nearest, blended, weight, second_pass,
        )  # fmt: skip
    hit = weight > 0
    blended /= np.where(hit, weight, 1.0)[..., None]
    return SplatBuffers(depth=blended[..., channels].copy(), values=blended[..., :channels], nearest=nearest)


def to_camera_frame(
    points: np.ndarray, normals: np.ndarray | None, T_world_camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Move world points and normals (N, 3) into the frame of ``T_world_camera`` (4, 4); float32."""
    pose = np.asarray(T_world_camera, np.float64)
    rotation, origin = pose[:3, :3], pose[:3, 3]
    # Subtract in float64: a map may lie kilometres from its origin.
    moved = ((np.asarray(points, np.float64) - origin) @ rotation).astype(np.float32)
    turned = None if normals is None else (np.asarray(normals, np.float32) @ rotation.astype(np.float32))
    return moved, turned


def render_depth(snapshot: MapSnapshot, camera: PinholeCamera, T_world_camera: np.ndarray) -> np.ndarray:
    """Depth picture of a voxel map as a camera at ``T_world_camera`` would measure it.

    Args:
        snapshot: The map.
        camera: Pinhole intrinsics; pixel centres at integer coordinates.
        T_world_camera: Camera pose (optical frame), shape (4, 4).

    Returns:
        Depth along the optical axis in metres, 0 where the map has no surface. Shape (H, W), float32.
    """
    points, normals = to_camera_frame(snapshot.centroids, snapshot.normals, T_world_camera)
    size = snapshot.voxel_size_m
    buffers = splat(points, normals, DISC_RADIUS_IN_VOXELS * size, None, camera, blend_slab_m=BLEND_SLAB_IN_VOXELS * size)
    return buffers.depth
