"""The pinhole camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mosaic3d_core.errors import FrameError


@dataclass(frozen=True)
class PinholeCamera:
    """Rectified pinhole intrinsics in pixels; pixel centres lie at integer coordinates.

    Raises:
        FrameError: For focal lengths or sizes that are not positive and finite.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        for name in ("fx", "fy"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise FrameError(f"camera {name} must be > 0 pixels, got {value}: the camera is not calibrated", "bad_intrinsics")
        if not (math.isfinite(self.cx) and math.isfinite(self.cy)):
            raise FrameError(f"camera principal point must be finite, got ({self.cx}, {self.cy})", "bad_intrinsics")
        if self.width <= 0 or self.height <= 0:
            raise FrameError(f"camera size must be positive, got {self.width}x{self.height}", "bad_intrinsics")

    @classmethod
    def from_matrix(cls, K: ArrayLike, width: int, height: int) -> PinholeCamera:
        """From a 3x3 intrinsic matrix (or its 9 values row by row)."""
        k = np.asarray(K, np.float64)
        if k.size != 9:
            raise FrameError(f"K must have 9 values, got {k.size}", "bad_intrinsics")
        k = k.reshape(3, 3)
        return cls(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), int(width), int(height))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The intrinsic matrix (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def scaled(self, width: int, height: int) -> PinholeCamera:
        """The same camera for an image resized to width x height."""
        sx, sy = width / self.width, height / self.height
        return PinholeCamera(self.fx * sx, self.fy * sy, (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5, width, height)

    def unproject(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Camera points (H, W, 3) float32 metres of a depth image (H, W)."""
        v, u = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]].astype(np.float32)
        return np.stack([(u - self.cx) / self.fx * depth, (v - self.cy) / self.fy * depth, depth], -1).astype(np.float32)

    def project(self, points: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pixel coordinates (N, 2) and depth (N,) of camera points (N, 3); pixels of points at z <= 0 are NaN."""
        z = np.asarray(points[:, 2], np.float64)
        safe = np.where(z > 0, z, np.nan)
        u, v = points[:, 0] / safe * self.fx + self.cx, points[:, 1] / safe * self.fy + self.cy
        return np.stack([u, v], 1).astype(np.float32), z.astype(np.float32)
