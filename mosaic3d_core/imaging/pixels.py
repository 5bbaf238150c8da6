"""Kernels that bring pixels into the form of the map in one pass."""

# ruff: noqa: ANN001, ANN202 - numba kernels are typed at compile time
from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


def pick_channels(pixels: NDArray[np.uint8], order: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Three channels (H, W, 3) of an image (H, W, C) uint8, in the given order."""
    return _pick(pixels, order[0], order[1], order[2])


@numba.njit(cache=True, nogil=True)
def _pick(pixels, r, g, b):  # type: ignore[no-untyped-def]
    h, w = pixels.shape[:2]
    out = np.empty((h, w, 3), np.uint8)
    for v in range(h):
        for u in range(w):
            out[v, u, 0], out[v, u, 1], out[v, u, 2] = pixels[v, u, r], pixels[v, u, g], pixels[v, u, b]
    return out


def yuv422_to_rgb(pairs: NDArray[np.uint8], y0: int, u: int, v: int) -> NDArray[np.uint8]:
    """RGB of 4:2:2 video (ITU-R BT.601, luma 16 to 235), as the drivers of webcams send it.

    Args:
        pairs: (H, W / 2, 4) uint8, two pixels each.
        y0: Position of the luma of the first pixel in the four bytes; that of the second is two later.
        u: Position of the blue difference.
        v: Position of the red difference.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    return _yuv(pairs, y0, u, v)


@numba.njit(cache=True, nogil=True)
def _clip(value):  # type: ignore[no-untyped-def]
    return min(max(int(value + 0.5), 0), 255) if value > 0 else 0


@numba.njit(cache=True, nogil=True)
def _yuv(pairs, y0, u_at, v_at):  # type: ignore[no-untyped-def]
    h, half = pairs.shape[:2]
    out = np.empty((h, 2 * half, 3), np.uint8)
    for row in range(h):
        for pair in range(half):
            du, dv = pairs[row, pair, u_at] - 128.0, pairs[row, pair, v_at] - 128.0
            for second in range(2):
                luma = 255.0 / 219.0 * (pairs[row, pair, y0 + 2 * second] - 16.0)
                column = 2 * pair + second
                out[row, column, 0] = _clip(luma + 1.596027 * dv)
                out[row, column, 1] = _clip(luma - 0.391762 * du - 0.812968 * dv)
                out[row, column, 2] = _clip(luma + 2.017232 * du)
    return out


def metric_depth(values: NDArray, scale: float) -> NDArray[np.float32]:
    """Depth (H, W) float32 metres of raw values, in one pass.

    Args:
        values: (H, W), integers or floats in units of `scale` metres.
        scale: Metres per unit.

    Returns:
        (H, W) float32 metres; 0 where the value is not positive, NaN or infinite (REP-117, REP-118).
    """
    return _metric(values, np.float32(scale))


@numba.njit(cache=True, nogil=True)
def _metric(values, scale):  # type: ignore[no-untyped-def]
    h, w = values.shape
    out = np.empty((h, w), np.float32)
    for v in range(h):
        for u in range(w):
            z = np.float32(values[v, u]) * scale
            out[v, u] = z if 0.0 < z < np.inf else 0.0
    return out
