"""A frozen copy of the map, the input of the encoder and of everything after it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree


def _z_up() -> NDArray[np.float64]:
    return np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class MapSnapshot:
    """The voxels of a map at one moment.

    Attributes:
        generation: Counts the changes of the map.
        stamp_ns: Stamp of the newest fused frame.
        voxel_size_m: Edge of a voxel.
        indices: (N, 3) int32, voxel index = floor(world / voxel_size_m).
        centroids: (N, 3) float32 mean surface point, world metres.
        colors: (N, 3) float32 mean RGB in [0, 255]; 128 where no colour camera saw the voxel.
        normals: (N, 3) float32 unit normal towards the cameras, 0 where unknown.
        weights: (N,) float32 capped number of pixels.
        last_seen_ns: (N,) int64 stamp of the last frame that hit the voxel.
        up: (3,) unit vector against gravity in the world frame.
    """

    generation: int
    stamp_ns: int
    voxel_size_m: float
    indices: NDArray[np.int32]
    centroids: NDArray[np.float32]
    colors: NDArray[np.float32]
    normals: NDArray[np.float32]
    weights: NDArray[np.float32]
    last_seen_ns: NDArray[np.int64]
    up: NDArray[np.float64] = field(default_factory=_z_up)

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def from_points(
        cls,
        points: ArrayLike,
        colors: ArrayLike,
        voxel_size_m: float = 0.02,
        normals: ArrayLike | None = None,
        up: ArrayLike = (0.0, 0.0, 1.0),
    ) -> MapSnapshot:
        """A snapshot of any coloured cloud; points of one voxel are averaged.

        Args:
            points: (P, 3) metres.
            colors: (P, 3) RGB in [0, 255].
            voxel_size_m: Edge of a voxel, > 0.
            normals: (P, 3) or None: then estimated from the neighbours of each voxel (sign undefined).
            up: Direction against gravity.

        Returns:
            The snapshot; rows are sorted by voxel. An empty cloud gives an empty snapshot.

        Raises:
            ValueError: If shapes differ, values are not finite, or voxel_size_m <= 0.
        """
        snapshot, _ = cls.from_points_with_inverse(points, colors, voxel_size_m, normals, up)
        return snapshot

    @classmethod
    def from_points_with_inverse(
        cls,
        points: ArrayLike,
        colors: ArrayLike,
        voxel_size_m: float = 0.02,
        normals: ArrayLike | None = None,
        up: ArrayLike = (0.0, 0.0, 1.0),
    ) -> tuple[MapSnapshot, NDArray[np.int64]]:
        """As `from_points`, with the snapshot row of every point (P,)."""
        p, c = np.asarray(points, np.float64), np.asarray(colors, np.float64)
        if p.ndim != 2 or p.shape[1] != 3 or c.shape != p.shape:
            raise ValueError(f"points and colors must both be (P, 3), got {p.shape} and {c.shape}")
        if not voxel_size_m > 0:
            raise ValueError(f"voxel_size_m must be > 0, got {voxel_size_m}")
        if not (np.isfinite(p).all() and np.isfinite(c).all()):
            raise ValueError("points and colors must be finite: drop NaN and infinite rows first")
        cells = np.floor(p / voxel_size_m).astype(np.int64)
        indices, inverse = (
            np.unique(cells, axis=0, return_inverse=True) if len(p) else (np.zeros((0, 3), np.int64), np.zeros(0, np.int64))
        )
        inverse = inverse.reshape(-1).astype(np.int64)
        n = len(indices)
        count = np.bincount(inverse, minlength=n).astype(np.float64)

        def mean(values: NDArray[np.float64]) -> NDArray[np.float32]:
            sums = np.stack([np.bincount(inverse, values[:, k], n) for k in range(3)], 1) if n else np.zeros((0, 3))
            return (sums / np.maximum(count, 1)[:, None]).astype(np.float32)

        centroids = mean(p)
        if normals is None:
            normal = estimate_normals(centroids, radius_m=3.0 * voxel_size_m)
        else:
            normal = mean(np.asarray(normals, np.float64))
            length = np.linalg.norm(normal, axis=1, keepdims=True)
            normal = np.where(length > 0.3, normal / np.maximum(length, 1e-9), 0).astype(np.float32)
        direction = np.asarray(up, np.float64)
        direction = direction / np.linalg.norm(direction)
        snapshot = cls(
            1,
            0,
            voxel_size_m,
            indices.astype(np.int32),
            centroids,
            mean(c),
            normal,
            count.astype(np.float32),
            np.zeros(n, np.int64),
            direction,
        )
        return snapshot, inverse


def estimate_normals(points: NDArray[np.float32], radius_m: float, neighbours: int = 16) -> NDArray[np.float32]:
    """Normals (N, 3) of the plane through each point's neighbours within a radius; 0 with fewer than 4; sign undefined."""
    n = len(points)
    if n < 4:
        return np.zeros((n, 3), np.float32)
    tree = cKDTree(points)
    out = np.zeros((n, 3), np.float32)
    k = min(neighbours, n)
    for start in range(0, n, 100_000):  # in pieces: the neighbour table of a large cloud does not fit in memory
        part = points[start : start + 100_000]
        distance, index = tree.query(part, k=k, distance_upper_bound=radius_m)
        valid = np.isfinite(distance)
        q = points[np.where(valid, index, 0)].astype(np.float64) * valid[..., None]
        count = valid.sum(1)
        mean = q.sum(1) / np.maximum(count, 1)[:, None]
        centred = (q - mean[:, None]) * valid[..., None]
        _, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
        out[start : start + len(part)] = np.where((count >= 4)[:, None], vectors[:, :, 0], 0)
    return out
