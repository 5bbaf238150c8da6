"""Images of a real lens to images of a pinhole camera."""

# ruff: noqa: ANN001, ANN202 - numba kernels are typed at compile time
from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numba
import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.distortion import Distortion

_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Rectifier:
    """Brings raw images onto the pixel grid of a pinhole camera. The maps are made at first use and kept.

    Attributes:
        raw: Intrinsics of the raw image (without the lens).
        distortion: The lens; None = ideal.
        target: Camera of the result.
        rotation: R of the camera_info (3, 3), as nested tuples: turns directions of the raw camera into those of the target.

    Raises:
        FrameError: ``bad_intrinsics`` when `rotation` is no rotation.
    """

    raw: PinholeCamera
    distortion: Distortion | None
    target: PinholeCamera
    rotation: tuple[tuple[float, ...], ...] = field(default=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))

    def __post_init__(self) -> None:
        turn = np.array(self.rotation)
        # entries of a rotation are at most 1; what is larger would only overflow in the products
        if (
            not (np.abs(turn) < 1.1).all()
            or np.abs(turn @ turn.T - np.eye(3)).max() > _ROTATION_TOLERANCE
            or np.linalg.det(turn) < 0
        ):
            raise FrameError("R of the camera_info is no rotation; publish the identity where there is none.", "bad_intrinsics")

    def sources(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where each pixel of the result comes from.

        Returns:
            Pixel coordinates (H, W, 2) in the raw image, and the raw camera's z (H, W) of the point at z = 1 of the target;
            coordinates are NaN where that is not in front of the raw camera.
        """
        t = self.target
        v, u = np.mgrid[0 : t.height, 0 : t.width]
        rays = np.stack([(u - t.cx) / t.fx, (v - t.cy) / t.fy, np.ones_like(u, float)], -1).reshape(-1, 3)
        rays = rays @ np.array(self.rotation)  # the same as R^T applied to each
        z = np.where(rays[:, 2] > 1e-6, rays[:, 2], np.nan)
        points = rays[:, :2] / z[:, None]
        with np.errstate(all="ignore"):
            bent = points if self.distortion is None else self.distortion.distort(points)
            where = bent * [self.raw.fx, self.raw.fy] + [self.raw.cx, self.raw.cy]
        return where.reshape(t.height, t.width, 2), z.reshape(t.height, t.width)

    @functools.cached_property
    def _maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        where, z = self.sources()
        turned = np.array_equal(np.array(self.rotation), np.eye(3))
        return where.astype(np.float32), None if turned else z.astype(np.float32)

    def color(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rectified colour (H, W, 3) uint8, bilinear; beyond the border the nearest pixel counts."""
        return sample_bilinear(image, self._maps[0])

    def depth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rectified depth (H, W) float32 metres by the nearest pixel, never a mean over an edge; 0 beyond the border.

        z of a point stays what it is, unless R turns the camera.
        """
        where, z = self._maps
        out = sample_nearest(image, where)
        return out if z is None else (out / np.where(np.isnan(z), np.inf, z)).astype(np.float32)


def sample_bilinear(image: NDArray[np.uint8], where: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colours (H, W, 3) uint8 of an image (Hi, Wi, 3) at coordinates (H, W, 2), x first.

    Beyond the border the nearest pixel counts; 0 where a coordinate is NaN.
    """
    return _bilinear(np.ascontiguousarray(image), where)


def sample_nearest(image: NDArray[np.float32], where: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values (H, W) float32 of the pixels of an image (Hi, Wi) nearest to coordinates (H, W, 2), x first; 0 beyond the border."""
    return _nearest(np.ascontiguousarray(image), where)


@numba.njit(cache=True, nogil=True)
def _bilinear(image, where):  # type: ignore[no-untyped-def]
    h, w = image.shape[:2]
    rows, columns = where.shape[:2]
    out = np.zeros((rows, columns, 3), np.uint8)
    for i in range(rows):
        for j in range(columns):
            x, y = where[i, j, 0], where[i, j, 1]
            if np.isnan(x) or np.isnan(y):
                continue
            x, y = min(max(x, np.float32(0.0)), np.float32(w - 1)), min(max(y, np.float32(0.0)), np.float32(h - 1))
            u, v = min(int(x), max(w - 2, 0)), min(int(y), max(h - 2, 0))
            a, b = x - u, y - v
            u1, v1 = min(u + 1, w - 1), min(v + 1, h - 1)
            for c in range(3):
                above = image[v, u, c] * (1 - a) + image[v, u1, c] * a
                below = image[v1, u, c] * (1 - a) + image[v1, u1, c] * a
                out[i, j, c] = np.uint8(above * (1 - b) + below * b + 0.5)
    return out


@numba.njit(cache=True, nogil=True)
def _nearest(image, where):  # type: ignore[no-untyped-def]
    h, w = image.shape
    rows, columns = where.shape[:2]
    out = np.zeros((rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            x, y = where[i, j, 0] + np.float32(0.5), where[i, j, 1] + np.float32(0.5)
            if x >= 0 and y >= 0 and x < w and y < h:
                out[i, j] = image[int(y), int(x)]
    return out
