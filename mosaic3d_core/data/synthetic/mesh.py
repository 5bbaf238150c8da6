"""A small mesh builder: boxes, cylinders, cushions and the like, each with a material, merged into one triangle soup."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mosaic3d_core.data.synthetic.materials import Material

_BOX_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64) / 2
_BOX_FACES = np.array(
    [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [0, 2, 6],
        [0, 6, 4],
        [1, 5, 7],
        [1, 7, 3],
    ]
)


def rotation_z(angle_rad: float) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) about +z."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def rotation_x(angle_rad: float) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) about +x."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])


@dataclass
class Mesh:
    """Triangles with a material each, in metres.

    `vertices` (V, 3) float64, `faces` (F, 3) int64, `face_material` (F,) int64 rows into `materials`.
    """

    vertices: list[NDArray[np.float64]] = field(default_factory=list)
    faces: list[NDArray[np.int64]] = field(default_factory=list)
    face_material: list[NDArray[np.int64]] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)
    _count: int = 0

    def add(self, vertices: NDArray[np.float64], faces: NDArray[np.int64], material: Material) -> None:
        """Append triangles of one material; `faces` (F, 3) index into `vertices` (V, 3)."""
        if material not in self.materials:
            self.materials.append(material)
        self.vertices.append(vertices)
        self.faces.append(faces + self._count)
        self.face_material.append(np.full(len(faces), self.materials.index(material), np.int64))
        self._count += len(vertices)

    def box(self, center: ArrayLike, size: ArrayLike, material: Material, rotation: NDArray[np.float64] | None = None) -> None:
        """An axis-aligned box (or one rotated about its centre)."""
        corners = _BOX_CORNERS * np.asarray(size, np.float64)
        if rotation is not None:
            corners = corners @ rotation.T
        self.add(corners + np.asarray(center, np.float64), _BOX_FACES, material)

    def slab(self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], material: Material) -> None:
        """A box given by its extents along x, y and z."""
        low, high = np.array([x[0], y[0], z[0]]), np.array([x[1], y[1], z[1]])
        self.box((low + high) / 2, high - low, material)

    def rounded_box(self, center: ArrayLike, size: ArrayLike, radius: float, material: Material, n: int = 7) -> None:
        """A cushion: a box whose edges are rounded with `radius` metres."""
        size = np.asarray(size, np.float64)
        radius = min(radius, float(size.min()) / 2)
        grid = np.linspace(-0.5, 0.5, n)
        # denser samples near the edges, where the curvature is
        grid = np.sign(grid) * 0.5 * (1 - (1 - 2 * np.abs(grid)) ** 2)
        u, v = (g.ravel() for g in np.meshgrid(grid, grid, indexing="ij"))
        quads = np.array(
            [[i * n + j, (i + 1) * n + j, (i + 1) * n + j + 1, i * n + j + 1] for i in range(n - 1) for j in range(n - 1)]
        )
        faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
        for axis in range(3):
            for side in (-0.5, 0.5):
                points = np.insert(np.stack([u, v]), axis, np.full_like(u, side), axis=0).T * size
                inner = np.clip(points, -(size / 2 - radius), size / 2 - radius)
                offset = points - inner
                norm = np.linalg.norm(offset, axis=1, keepdims=True)
                self.add(inner + offset / np.maximum(norm, 1e-9) * radius + np.asarray(center), faces, material)

    def cylinder(
        self, p0: ArrayLike, p1: ArrayLike, r0: float, material: Material, r1: float | None = None, segments: int = 18
    ) -> None:
        """A capped cylinder or cone frustum from `p0` (radius `r0`) to `p1` (radius `r1`)."""
        a, b = np.asarray(p0, np.float64), np.asarray(p1, np.float64)
        r1 = r0 if r1 is None else r1
        axis = (b - a) / np.linalg.norm(b - a)
        side = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
        side /= np.linalg.norm(side)
        angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
        ring = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(axis, side)
        vertices = np.concatenate([a + ring * r0, b + ring * r1, a[None], b[None]])
        i = np.arange(segments)
        j = (i + 1) % segments
        faces = np.concatenate(
            [
                np.stack([i, j, j + segments], 1),
                np.stack([i, j + segments, i + segments], 1),
                np.stack([j, i, np.full_like(i, 2 * segments)], 1),
                np.stack([i + segments, j + segments, np.full_like(i, 2 * segments + 1)], 1),
            ]
        )
        self.add(vertices, faces, material)

    def lathe(
        self,
        profile: list[tuple[float, float]],
        center: ArrayLike,
        material: Material,
        stretch_y: float = 1.0,
        segments: int = 24,
    ) -> None:
        """A surface of revolution about z: `profile` lists (radius, height) from bottom to top; `stretch_y` makes it oval."""
        angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
        rings = [np.stack([r * np.cos(angle), stretch_y * r * np.sin(angle), np.full_like(angle, h)], 1) for r, h in profile]
        i = np.arange(segments)
        j = (i + 1) % segments
        faces = []
        for k in range(len(profile) - 1):
            lo, hi = k * segments, (k + 1) * segments
            faces += [np.stack([i + lo, j + lo, j + hi], 1), np.stack([i + lo, j + hi, i + hi], 1)]
        self.add(np.concatenate(rings) + np.asarray(center, np.float64), np.concatenate(faces), material)

    def ellipsoid(self, center: ArrayLike, radii: ArrayLike, material: Material, segments: int = 12) -> None:
        """An ellipsoid with the given half axes."""
        theta = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
        rx, ry, rz = np.asarray(radii, np.float64)
        profile = [(float(np.cos(t)) * rx, float(np.sin(t)) * rz) for t in theta]
        self.lathe(profile, center, material, stretch_y=ry / rx, segments=segments)

    def quad(self, corners: ArrayLike, material: Material) -> None:
        """A flat four-cornered face, corners (4, 3) in order."""
        self.add(np.asarray(corners, np.float64), np.array([[0, 1, 2], [0, 2, 3]]), material)

    def sheet(self, rows: NDArray[np.float64], material: Material) -> None:
        """A surface through a grid of points (R, C, 3)."""
        r, c = rows.shape[:2]
        index = np.arange(r * c).reshape(r, c)
        a, b, d, e = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel()
        self.add(rows.reshape(-1, 3), np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, e], 1)]), material)

    def merged(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """All (vertices (V, 3), faces (F, 3), face_material (F,))."""
        if not self.faces:
            return np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
        return np.concatenate(self.vertices), np.concatenate(self.faces), np.concatenate(self.face_material)
