"""Uncompressed images: encodings, byte order and row steps.

Every reader checks what it is given and raises :class:`mosaic3d_core.errors.FrameError` with a short ``reason`` (the
counter under which the frame is dropped) and one sentence for a person.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError
from mosaic3d_core.imaging.bayer import RED_AT, demosaic
from mosaic3d_core.imaging.limits import check_size
from mosaic3d_core.imaging.pixels import metric_depth, pick_channels, yuv422_to_rgb

COLOR_ENCODINGS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "8UC3": (3, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "mono16": (2, (1, 1, 1)),
}
"""Encoding -> (bytes per pixel, positions of red, green, blue). ``8UC3`` is OpenCV's habit, blue first; of ``mono16`` the
high byte counts (the second one, unless the image is big endian)."""

BAYER_ENCODINGS: dict[str, str] = {f"bayer_{pattern}8": pattern for pattern in RED_AT}
"""Encoding -> pattern, see :func:`mosaic3d_core.imaging.bayer.demosaic`."""

YUV_ENCODINGS: dict[str, tuple[int, int, int]] = {
    "yuv422": (1, 0, 2),
    "uyvy": (1, 0, 2),
    "yuv422_yuy2": (0, 1, 3),
    "yuyv": (0, 1, 3),
}
"""Encoding -> positions of the first luma, the blue and the red difference in the four bytes of two pixels."""

KNOWN_COLOR_ENCODINGS = (*COLOR_ENCODINGS, *BAYER_ENCODINGS, *YUV_ENCODINGS)
"""All encodings of colour images that can be read."""

DEPTH_ENCODINGS: dict[str, tuple[str, float]] = {
    "16UC1": ("u2", 1e-3),
    "mono16": ("u2", 1e-3),
    "32FC1": ("f4", 1.0),
}
"""Encoding -> (dtype, metres per unit)."""


def image_bytes(data: Any) -> NDArray[np.uint8]:
    """The bytes of a message field (array, bytes or ndarray) without a copy."""
    return np.frombuffer(data, dtype=np.uint8) if len(data) else np.empty(0, np.uint8)


def image_rows(message: Any, bytes_per_row: int, what: str) -> NDArray[np.uint8]:
    """Image bytes without the padding at the end of rows.

    Args:
        message: With the fields of sensor_msgs/Image.
        bytes_per_row: Bytes of the pixels of a row.
        what: Name for error texts ("depth", "colour").

    Returns:
        (H, bytes_per_row) uint8, a view.

    Raises:
        FrameError: ``bad_image_size`` when the data is shorter than the header says.
    """
    height, step = int(message.height), int(message.step)
    data = image_bytes(message.data)
    if step < bytes_per_row or data.size < height * step:
        raise FrameError(
            f"The {what} image ({message.width}x{height}, {message.encoding}) says {step} bytes per row and carries"
            f" {data.size} bytes; at least {bytes_per_row} per row and {height * max(step, bytes_per_row)} in all are needed.",
            "bad_image_size",
        )
    return data[: height * step].reshape(height, step)[:, :bytes_per_row]


def decode_color(message: Any) -> NDArray[np.uint8]:
    """Colour of an uncompressed image.

    Args:
        message: With the fields of sensor_msgs/Image, in one of :data:`COLOR_ENCODINGS`, :data:`BAYER_ENCODINGS` or
            :data:`YUV_ENCODINGS`.

    Returns:
        (H, W, 3) uint8 RGB, contiguous; a view of the message where that is possible.

    Raises:
        FrameError: Unknown encoding or sizes that disagree with the data.
    """
    encoding, width, height = str(message.encoding), int(message.width), int(message.height)
    check_size(width, height, "colour")
    if encoding in BAYER_ENCODINGS:
        return demosaic(image_rows(message, width, "colour"), BAYER_ENCODINGS[encoding])
    if encoding in YUV_ENCODINGS:
        return _decode_yuv(message, width, height, YUV_ENCODINGS[encoding])
    if encoding not in COLOR_ENCODINGS:
        known = ", ".join([*COLOR_ENCODINGS, *BAYER_ENCODINGS, *YUV_ENCODINGS])
        raise FrameError(
            f"The colour image has encoding '{encoding[:40]}'; known ones are {known}. Convert it, for example with image_proc.",
            "bad_encoding",
        )
    channels, order = COLOR_ENCODINGS[encoding]
    if encoding == "mono16" and message.is_bigendian:
        order = (0, 0, 0)
    pixels = image_rows(message, width * channels, "colour")
    if channels == 3 and order == (0, 1, 2):
        return np.ascontiguousarray(pixels).reshape(height, width, channels)
    return pick_channels(pixels.reshape(height, width, channels), order)


def _decode_yuv(message: Any, width: int, height: int, positions: tuple[int, int, int]) -> NDArray[np.uint8]:
    if width % 2:
        raise FrameError(f"A {message.encoding} image needs an even width, this one has {width}.", "bad_image_size")
    pairs = image_rows(message, 2 * width, "colour").reshape(height, width // 2, 4)
    return yuv422_to_rgb(pairs, *positions)


def decode_depth(message: Any) -> NDArray[np.float32]:
    """Depth of an uncompressed image.

    Args:
        message: With the fields of sensor_msgs/Image: ``16UC1`` (or ``mono16``) in millimetres with 0 = none, or ``32FC1`` in
            metres with NaN = none (REP-118).

    Returns:
        (H, W) float32 metres; 0 = none.

    Raises:
        FrameError: Unknown encoding or sizes that disagree with the data.
    """
    encoding, width, height = str(message.encoding), int(message.width), int(message.height)
    check_size(width, height, "depth")
    if encoding not in DEPTH_ENCODINGS:
        raise FrameError(
            f"The depth image has encoding '{encoding[:40]}'; expected 16UC1 (millimetres) or 32FC1 (metres).",
            "bad_encoding",
        )
    kind, scale = DEPTH_ENCODINGS[encoding]
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    rows = np.ascontiguousarray(image_rows(message, width * dtype.itemsize, "depth"))
    values = rows.view(dtype)
    return metric_depth(values if dtype.isnative else values.astype(dtype.newbyteorder("=")), scale)
