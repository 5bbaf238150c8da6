"""JPEG and PNG images, as image_transport's ``compressed`` sends them.

The sizes in the file's own header are checked before a pixel is decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mosaic3d_core.errors import FrameError
from mosaic3d_core.imaging.bayer import demosaic
from mosaic3d_core.imaging.limits import MAX_COMPRESSED_BYTES, check_expected
from mosaic3d_core.imaging.pixels import metric_depth
from mosaic3d_core.imaging.raw_images import BAYER_ENCODINGS

# What Pillow raises for damaged files, beyond the OSError that it promises.
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, AttributeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def decode_picture(data: bytes, what: str, expected: tuple[int, int] | None = None) -> Image.Image:
    """Decode a JPEG or PNG file.

    Args:
        data: The file.
        what: Name for error texts ("depth", "colour").
        expected: (width, height) that the image has to have; None = any.

    Returns:
        The decoded image.

    Raises:
        FrameError: ``empty_image``, ``image_too_large``, ``size_mismatch`` or ``bad_compression``.
    """
    if not data:
        raise FrameError(f"The compressed {what} image has no data.", "empty_image")
    if len(data) > MAX_COMPRESSED_BYTES:
        raise FrameError(f"The compressed {what} image has {len(data)} bytes; that is no camera image.", "image_too_large")
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except _DAMAGED as error:
        raise _damaged(what, error) from error
    with picture:
        check_expected(picture.width, picture.height, expected, what)
        try:
            picture.load()
        except _DAMAGED as error:
            raise _damaged(what, error) from error
        return picture


def _damaged(what: str, error: BaseException) -> FrameError:
    kind = str(error).split("<")[0].strip() or type(error).__name__
    return FrameError(
        f"The compressed {what} image cannot be decoded ({kind[:80]}); expected a whole JPEG or PNG file. Check the transport.",
        "bad_compression",
    )


def decode_compressed_color(message: Any, expected: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Colour of a compressed image.

    The mosaic of a Bayer sensor is sent in one channel, with its pattern before the semicolon of ``format``.

    Args:
        message: With the fields of sensor_msgs/CompressedImage.
        expected: (width, height) that the image has to have; None = any.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        FrameError: As :func:`decode_picture`.
    """
    picture = decode_picture(bytes(message.data), "colour", expected)
    if picture.mode in _DEEP:
        high = (np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(high[..., None], 3, axis=2)
    encoding = str(message.format).partition(";")[0].strip()
    if picture.mode == "L" and encoding in BAYER_ENCODINGS:
        return demosaic(np.asarray(picture), BAYER_ENCODINGS[encoding])
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def decode_png_depth(message: Any, expected: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Depth of a 16-bit PNG in millimetres.

    Args:
        message: With the fields of sensor_msgs/CompressedImage.
        expected: (width, height) that the image has to have; None = any.

    Returns:
        (H, W) float32 metres; 0 = none.

    Raises:
        FrameError: As :func:`decode_picture`, and ``bad_encoding`` for an image that is not 16 bits deep.
    """
    return metric_depth(deep_values(bytes(message.data), expected), 1e-3)


def deep_values(data: bytes, expected: tuple[int, int] | None = None) -> NDArray[np.uint16]:
    """Values (H, W) uint16 of a 16-bit greyscale PNG; raises like :func:`decode_png_depth`."""
    picture = decode_picture(data, "depth", expected)
    if picture.mode not in _DEEP:
        raise FrameError(
            f"The compressed depth image is a {picture.format} of kind {picture.mode}; expected a greyscale PNG of 16 bits."
            " JPEG cannot carry depth: set the publisher's format to png, or use compressedDepth.",
            "bad_encoding",
        )
    return np.asarray(picture).astype(np.uint16)
