"""Colour from the mosaic of a sensor that sees one colour per pixel."""

# ruff: noqa: ANN001, ANN202 - numba kernels are typed at compile time
from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError

#: Pattern -> (row, column) of red in each square of 2x2 pixels; blue lies diagonally opposite.
RED_AT: dict[str, tuple[int, int]] = {"rggb": (0, 0), "grbg": (0, 1), "gbrg": (1, 0), "bggr": (1, 1)}


def demosaic(mosaic: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    """Bilinear demosaicing: the missing colours of a pixel are the mean of the nearest pixels that have them.

    Borders are mirrored at the outermost pixel.

    Args:
        mosaic: (H, W) uint8 with H, W >= 2.
        pattern: Colours of the first two pixels of the first two rows, one of :data:`RED_AT`.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        FrameError: ``bad_image_size`` for an image smaller than one square of the pattern.
    """
    height, width = mosaic.shape
    if height < 2 or width < 2:
        raise FrameError(f"A Bayer image needs at least 2x2 pixels, this one has {width}x{height}.", "bad_image_size")
    row, column = RED_AT[pattern]
    return _demosaic(mosaic, row, column)


@numba.njit(cache=True, nogil=True)
def _demosaic(m, red_row, red_column):  # type: ignore[no-untyped-def]
    h, w = m.shape
    out = np.empty((h, w, 3), np.uint8)
    for v in range(h):
        up = v - 1 if v > 0 else 1
        down = v + 1 if v < h - 1 else h - 2
        red_line = (v & 1) == red_row
        for u in range(w):
            left = u - 1 if u > 0 else 1
            right = u + 1 if u < w - 1 else w - 2
            here = np.int32(m[v, u])
            beside = np.int32(m[v, left]) + np.int32(m[v, right])
            above = np.int32(m[up, u]) + np.int32(m[down, u])
            red_here = (u & 1) == red_column
            if red_line == red_here:  # a red pixel of a red line, or a blue one of a blue line
                green = (beside + above + 2) >> 2
                corners = np.int32(m[up, left]) + np.int32(m[up, right]) + np.int32(m[down, left]) + np.int32(m[down, right])
                other = (corners + 2) >> 2
                red, blue = (here, other) if red_line else (other, here)
            else:
                green = here
                row_mean, column_mean = (beside + 1) >> 1, (above + 1) >> 1
                red, blue = (row_mean, column_mean) if red_line else (column_mean, row_mean)
            out[v, u, 0], out[v, u, 1], out[v, u, 2] = red, green, blue
    return out
