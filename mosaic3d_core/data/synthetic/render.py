"""Ray casting a room into colour, depth and exact label images.

Geometry by Open3D's `RaycastingScene` (Embree); shading (procedural texture, point lights with shadows, ambient light that
fades in corners) by a numba kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.synthetic.materials import texture_mix
from mosaic3d_core.data.synthetic.scene import RoomScene
from mosaic3d_core.errors import MissingDependencyError
from mosaic3d_core.geometry.camera import PinholeCamera


@dataclass(frozen=True)
class RenderedView:
    """What an ideal camera sees.

    Attributes:
        color: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 metres along the optical axis, 0 where nothing was hit.
        instance: (H, W) int32 instance ids, 0 where nothing was hit.
        cos_incidence: (H, W) float32 |cos| of the angle between ray and surface normal.
        depth_loss: (H, W) float32 probability that a depth camera gets no return from the material.
    """

    color: NDArray[np.uint8]
    depth: NDArray[np.float32]
    instance: NDArray[np.int32]
    cos_incidence: NDArray[np.float32]
    depth_loss: NDArray[np.float32]


class RoomRenderer:
    """Casts rays into one room; build once, render many views.

    Args:
        scene: The room.
        shadows: Cast shadow rays to the first light (nicer pictures, about twice the rays).
        threads: Threads for ray casting, 0 = all.

    Raises:
        MissingDependencyError: If open3d is not installed.
    """

    def __init__(self, scene: RoomScene, shadows: bool = True, threads: int = 0) -> None:
        try:
            import open3d as o3d
        except ImportError as error:
            raise MissingDependencyError("rendering synthetic rooms needs Open3D: pip install open3d-cpu (or open3d)") from error
        tensor: Any = o3d.core.Tensor  # its type stubs do not know that it takes arrays
        self._tensor = tensor
        self._caster = o3d.t.geometry.RaycastingScene(nthreads=threads)
        self._caster.add_triangles(tensor(scene.vertices), tensor(scene.triangles))
        self.scene = scene
        self.shadows = shadows
        self._rotations = np.stack([i.rotation for i in scene.instances]).astype(np.float32)
        self._positions = np.stack([i.position for i in scene.instances]).astype(np.float32)
        self._lights = np.stack([np.concatenate([light.position, light.power]) for light in scene.lights]).astype(np.float32)

    def render(self, camera: PinholeCamera, T_world_camera: NDArray[np.float64]) -> RenderedView:
        """The view of a pinhole camera at `T_world_camera` (4, 4)."""
        v, u = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float32)
        rays_camera = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1).reshape(-1, 3)
        directions = (rays_camera @ T_world_camera[:3, :3].T).astype(np.float32)
        origin = T_world_camera[:3, 3].astype(np.float32)
        rays = np.concatenate([np.broadcast_to(origin, directions.shape), directions], 1)
        hits = self._caster.cast_rays(self._tensor(np.ascontiguousarray(rays)))
        depth = hits["t_hit"].numpy()
        hit = np.isfinite(depth)
        depth = np.where(hit, depth, 0.0).astype(np.float32)
        triangle = np.where(hit, hits["primitive_ids"].numpy(), 0).astype(np.int64)
        normals = hits["primitive_normals"].numpy()
        points = origin + directions * depth[:, None]
        lit = self._lit(points, normals, directions) if self.shadows else np.ones(len(points), np.float32)
        color, cosine, loss = _shade(
            points,
            directions,
            normals,
            hit,
            triangle,
            lit,
            self.scene.triangle_instance,
            self.scene.triangle_material,
            self.scene.materials,
            self._rotations,
            self._positions,
            self._lights,
            self.scene.ambient.astype(np.float32),
            self.scene.bounds.astype(np.float32),
        )
        shape = (camera.height, camera.width)
        instance = np.where(hit, self.scene.triangle_instance[triangle] + 1, 0).astype(np.int32)
        return RenderedView(
            color.reshape(*shape, 3), depth.reshape(shape), instance.reshape(shape), cosine.reshape(shape), loss.reshape(shape)
        )

    def _lit(
        self, points: NDArray[np.float32], normals: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """1 where the first light is seen, 0 in its shadow, (N,)."""
        facing = np.where((normals * directions).sum(1, keepdims=True) > 0, -normals, normals)
        start = points + facing * 0.004
        to_light = self._lights[0, :3] - start
        rays = np.concatenate([start, to_light], 1).astype(np.float32)
        blocked = self._caster.test_occlusions(self._tensor(np.ascontiguousarray(rays)), tnear=0.0, tfar=0.98).numpy()
        return (~blocked).astype(np.float32)

    def closest_instance(self, points: NDArray[np.float32], max_distance_m: float = 0.06) -> NDArray[np.int32]:
        """Instance id of the surface nearest to each point (N, 3), 0 where none is within `max_distance_m`."""
        if len(points) == 0:
            return np.zeros(0, np.int32)
        found = self._caster.compute_closest_points(self._tensor(np.ascontiguousarray(points, np.float32)))
        distance = np.linalg.norm(found["points"].numpy() - points, axis=1)
        owner = self.scene.triangle_instance[found["primitive_ids"].numpy().astype(np.int64)] + 1
        return np.where(distance <= max_distance_m, owner, 0).astype(np.int32)


@numba.njit(cache=True, nogil=True)
def _shade(
    points: np.ndarray,
    directions: np.ndarray,
    normals: np.ndarray,
    hit: np.ndarray,
    triangle: np.ndarray,
    lit: np.ndarray,
    tri_instance: np.ndarray,
    tri_material: np.ndarray,
    materials: np.ndarray,
    rotations: np.ndarray,
    positions: np.ndarray,
    lights: np.ndarray,
    ambient: np.ndarray,
    bounds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = points.shape[0]
    color = np.zeros((n, 3), np.uint8)
    cosine = np.zeros(n, np.float32)
    loss = np.ones(n, np.float32)
    for i in range(n):
        if not hit[i]:
            continue
        d0, d1, d2 = directions[i, 0], directions[i, 1], directions[i, 2]
        length = np.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        c = (nx * d0 + ny * d1 + nz * d2) / length
        if c > 0:
            nx, ny, nz = -nx, -ny, -nz
        cosine[i] = abs(c)
        obj = tri_instance[triangle[i]]
        row = materials[tri_material[triangle[i]]]
        loss[i] = row[8]
        r, t = rotations[obj], positions[obj]
        px, py, pz = points[i, 0] - t[0], points[i, 1] - t[1], points[i, 2] - t[2]
        lx = r[0, 0] * px + r[1, 0] * py + r[2, 0] * pz
        ly = r[0, 1] * px + r[1, 1] * py + r[2, 1] * pz
        lz = r[0, 2] * px + r[1, 2] * py + r[2, 2] * pz
        mx = r[0, 0] * nx + r[1, 0] * ny + r[2, 0] * nz
        my = r[0, 1] * nx + r[1, 1] * ny + r[2, 1] * nz
        mz = r[0, 2] * nx + r[1, 2] * ny + r[2, 2] * nz
        mix = texture_mix(int(row[0]), lx, ly, lz, mx, my, mz, row[7])
        glow = row[9]
        # corners get less ambient light: distance to the room's faces, saturating at 40 cm
        corner = 1.0
        for axis in range(3):
            near = min(abs(points[i, axis] - bounds[0, axis]), abs(points[i, axis] - bounds[1, axis]))
            corner *= 0.82 + 0.18 * min(1.0, near / 0.4)
        corner = max(corner, 0.6)
        light_r = ambient[0] * corner + 0.06 * nz
        light_g = ambient[1] * corner + 0.06 * nz
        light_b = ambient[2] * corner + 0.06 * nz
        for k in range(lights.shape[0]):
            vx, vy, vz = lights[k, 0] - points[i, 0], lights[k, 1] - points[i, 1], lights[k, 2] - points[i, 2]
            dist = np.sqrt(vx * vx + vy * vy + vz * vz) + 1e-6
            lambert = max(0.0, (nx * vx + ny * vy + nz * vz) / dist)
            power = lambert / (0.6 + 0.12 * dist * dist)
            if k == 0:
                power *= 0.25 + 0.75 * lit[i]
            light_r += lights[k, 3] * power
            light_g += lights[k, 4] * power
            light_b += lights[k, 5] * power
        for ch in range(3):
            base = row[1 + ch] * (1 - mix) + row[4 + ch] * mix
            light = light_r if ch == 0 else (light_g if ch == 1 else light_b)
            value = base * ((1 - glow) * light + glow)
            # a soft shoulder keeps highlights from clipping hard
            value = value if value < 0.8 else 0.8 + 0.2 * (1 - np.exp(-(value - 0.8) / 0.2))
            color[i, ch] = np.uint8(min(255.0, max(0.0, value * 255.0)))
    return color, cosine, loss
