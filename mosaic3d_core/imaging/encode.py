"""Arrays to what a camera driver would send: for players of recordings and for tests."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mosaic3d_core.imaging.bayer import RED_AT
from mosaic3d_core.imaging.compressed_depth import HEADER, RVL_SIZE
from mosaic3d_core.imaging.rvl import encode_rvl

#: The transport's defaults: depth up to 10 m, quantisation 100.
DEPTH_MAX_M = 10.0
DEPTH_QUANTIZATION = 100.0


def encode_picture(pixels: NDArray, codec: str, quality: int = 95) -> bytes:
    """A JPEG or PNG file.

    Args:
        pixels: (H, W, 3) or (H, W) uint8, or (H, W) uint16 (png only).
        codec: "jpeg" or "png".
        quality: Of a JPEG, 1 to 100.
    """
    out = io.BytesIO()
    if codec == "jpeg":
        Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    else:
        Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def encode_compressed_depth(values: NDArray, encoding: str, codec: str) -> bytes:
    """The data of a compressedDepth message.

    Args:
        values: (H, W), uint16 millimetres for ``16UC1``, float32 metres for ``32FC1`` (0 or NaN = none).
        encoding: ``16UC1`` or ``32FC1``.
        codec: "png" or "rvl".
    """
    quant_a = quant_b = 0.0
    if encoding == "32FC1":
        quant_a = DEPTH_QUANTIZATION * (DEPTH_QUANTIZATION + 1.0)
        quant_b = 1.0 - quant_a / DEPTH_MAX_M
        known = (values > 0) & (values < DEPTH_MAX_M)
        codes = quant_a / np.where(known, values, 1.0) + quant_b
        values = np.where(known, np.minimum(codes, 65535), 0).astype(np.uint16)
    header = HEADER.pack(0, quant_a, quant_b)
    if codec == "png":
        return header + encode_picture(values, "png")
    height, width = values.shape
    return header + RVL_SIZE.pack(width, height) + encode_rvl(values.ravel()).tobytes()


def mosaic(color: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    """What a Bayer sensor sees of a colour image (H, W, 3): (H, W) uint8."""
    row, column = RED_AT[pattern]
    out = color[..., 1].copy()
    out[row::2, column::2] = color[row::2, column::2, 0]
    out[1 - row :: 2, 1 - column :: 2] = color[1 - row :: 2, 1 - column :: 2, 2]
    return out
