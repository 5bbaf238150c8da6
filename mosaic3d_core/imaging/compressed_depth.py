"""Depth images as image_transport's ``compressedDepth`` sends them.

The data begins with 12 bytes: an int32 and the two float32 numbers A and B of the quantisation (little endian). After them
comes a 16-bit PNG, or the width and the height (uint32 each) and RVL data. ``16UC1`` holds millimetres; ``32FC1`` holds
q = A / metres + B, with 0 for none.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError
from mosaic3d_core.imaging.compressed import deep_values
from mosaic3d_core.imaging.limits import check_expected
from mosaic3d_core.imaging.pixels import metric_depth
from mosaic3d_core.imaging.rvl import decode_rvl

HEADER = struct.Struct("<iff")
RVL_SIZE = struct.Struct("<II")


def decode_compressed_depth(message: Any, expected: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Depth of a compressedDepth message.

    Args:
        message: With the fields of sensor_msgs/CompressedImage.
        expected: (width, height) that the image has to have; None = any.

    Returns:
        (H, W) float32 metres; 0 = none.

    Raises:
        FrameError: ``bad_compression``, ``bad_encoding``, ``empty_image``, ``image_too_large`` or ``size_mismatch``.
    """
    encoding, _, codec = str(message.format).partition(";")
    encoding = encoding.strip() or "16UC1"
    if encoding not in ("16UC1", "mono16", "32FC1"):
        raise FrameError(
            f"The compressedDepth image has encoding '{encoding[:40]}'; expected 16UC1 (millimetres) or 32FC1 (metres).",
            "bad_encoding",
        )
    data = bytes(message.data)
    if len(data) <= HEADER.size:
        raise FrameError(
            f"The compressedDepth image has {len(data)} bytes; its header alone has {HEADER.size}. Is the topic one of"
            " compressedDepth?",
            "empty_image" if not data else "bad_compression",
        )
    _, quant_a, quant_b = HEADER.unpack_from(data)
    values = _rvl_values(data[HEADER.size :], expected) if "rvl" in codec else deep_values(data[HEADER.size :], expected)
    return metric_depth(values, 1e-3) if encoding != "32FC1" else _dequantise(values, quant_a, quant_b)


def _dequantise(values: NDArray[np.uint16], quant_a: float, quant_b: float) -> NDArray[np.float32]:
    if not (math.isfinite(quant_a) and math.isfinite(quant_b) and quant_a > 0):
        raise FrameError(
            f"The compressedDepth image says its quantisation is A = {quant_a:.3g}, B = {quant_b:.3g}; A must be positive and"
            " both finite.",
            "bad_compression",
        )
    # a table of all 65536 values costs less than a division per pixel
    codes = np.arange(65536, dtype=np.float32) - np.float32(quant_b)
    with np.errstate(divide="ignore", over="ignore"):
        table = np.where(codes > 0, np.float32(quant_a) / codes, np.float32(0)).astype(np.float32)
    table[0] = 0
    return metric_depth(table[values], 1.0)


def _rvl_values(data: bytes, expected: tuple[int, int] | None) -> NDArray[np.uint16]:
    if len(data) < RVL_SIZE.size:
        raise FrameError("The RVL data of the depth image ends before its size.", "bad_compression")
    width, height = RVL_SIZE.unpack_from(data)
    check_expected(width, height, expected, "depth")
    return decode_rvl(np.frombuffer(data, np.uint8, offset=RVL_SIZE.size), width * height).reshape(height, width)
