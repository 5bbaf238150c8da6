"""Colour for depth pixels when the two cameras differ."""

# ruff: noqa: ANN001, ANN202, C901 - numba kernels are typed at compile time
from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.geometry.camera import PinholeCamera

#: A point is hidden from the colour camera when something at least this much nearer covers it: metres, and share of depth.
OCCLUSION_MARGIN_M = 0.04
OCCLUSION_MARGIN_SHARE = 0.02
#: Side of the cells of the depth buffer in colour pixels; larger than the gaps between projected depth pixels.
_CELL_PX = 3


def register_color_to_depth(
    color: NDArray[np.uint8],
    color_camera: PinholeCamera,
    T_color_depth: NDArray[np.float64],
    depth: NDArray[np.float32],
    depth_camera: PinholeCamera,
    stride: int = 1,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Look up the colour of every depth pixel, leaving out points that the colour camera cannot see.

    Args:
        color: (Hc, Wc, 3) uint8.
        color_camera: Its intrinsics.
        T_color_depth: (4, 4), maps depth-camera points into the colour camera.
        depth: (H, W) float32 metres, 0 or NaN = none.
        depth_camera: Its intrinsics.
        stride: Look up every n-th pixel in both directions only; the others stay unknown.

    Returns:
        Colour (H, W, 3) uint8 on the depth grid (0 where unknown) and a mask (H, W) of where it is known.
    """
    T = np.asarray(T_color_depth, np.float64)
    d = np.array([depth_camera.fx, depth_camera.fy, depth_camera.cx, depth_camera.cy])
    c = np.array([color_camera.fx, color_camera.fy, color_camera.cx, color_camera.cy])
    return _lookup(np.ascontiguousarray(color), c, T, np.ascontiguousarray(depth), d, stride)


@numba.njit(cache=True, nogil=True)
def _lookup(color, c, T, depth, d, stride):  # type: ignore[no-untyped-def]
    h, w = depth.shape
    hc, wc = color.shape[0], color.shape[1]
    out = np.zeros((h, w, 3), np.uint8)
    known = np.zeros((h, w), np.bool_)
    where = np.full((h, w, 2), -1, np.int32)
    zs = np.zeros((h, w), np.float32)
    nearest = np.full((hc // _CELL_PX + 1, wc // _CELL_PX + 1), np.inf, np.float32)
    for v in range(0, h, stride):
        for u in range(0, w, stride):
            z = depth[v, u]
            if not z > 0:
                continue
            x, y = (u - d[2]) / d[0] * z, (v - d[3]) / d[1] * z
            zc = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
            if zc <= 0.01:
                continue
            uc = (T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]) / zc * c[0] + c[2]
            vc = (T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]) / zc * c[1] + c[3]
            ui, vi = int(np.floor(uc + 0.5)), int(np.floor(vc + 0.5))
            if ui < 0 or vi < 0 or ui >= wc or vi >= hc:
                continue
            where[v, u, 0], where[v, u, 1] = ui, vi
            zs[v, u] = zc
            if zc < nearest[vi // _CELL_PX, ui // _CELL_PX]:
                nearest[vi // _CELL_PX, ui // _CELL_PX] = zc
    for v in range(0, h, stride):
        for u in range(0, w, stride):
            ui, vi = where[v, u, 0], where[v, u, 1]
            if ui < 0:
                continue
            front = nearest[vi // _CELL_PX, ui // _CELL_PX]
            if zs[v, u] <= front + OCCLUSION_MARGIN_M + OCCLUSION_MARGIN_SHARE * front:
                known[v, u] = True
                out[v, u, 0], out[v, u, 1], out[v, u, 2] = color[vi, ui, 0], color[vi, ui, 1], color[vi, ui, 2]
    return out, known
