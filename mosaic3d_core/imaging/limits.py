"""Sizes that are taken; checked before anything of that size is allocated."""

from __future__ import annotations

from mosaic3d_core.errors import FrameError

#: Most pixels of one image. The largest colour image of a depth camera today has 12.6 million (Azure Kinect, 4096x3072).
MAX_PIXELS = 32_000_000
#: Most bytes of one compressed image; an incompressible one of MAX_PIXELS is larger than any camera's.
MAX_COMPRESSED_BYTES = 4 * MAX_PIXELS


def check_size(width: int, height: int, what: str) -> None:
    """Check the size of an image.

    Args:
        width: In pixels.
        height: In pixels.
        what: Name for error texts ("depth", "colour").

    Raises:
        FrameError: ``empty_image`` without pixels, ``image_too_large`` beyond :data:`MAX_PIXELS`.
    """
    if width <= 0 or height <= 0:
        raise FrameError(f"The {what} image has size {width}x{height}: an image with pixels is needed.", "empty_image")
    if width * height > MAX_PIXELS:
        raise FrameError(
            f"The {what} image says it has {width}x{height} pixels; at most {MAX_PIXELS // 1_000_000} million are taken."
            " Check the publisher.",
            "image_too_large",
        )


def check_expected(width: int, height: int, expected: tuple[int, int] | None, what: str) -> None:
    """Check the size of an image, and that it is the one its calibration tells of.

    Args:
        width: In pixels.
        height: In pixels.
        expected: (width, height) by the calibration; None = any.
        what: Name for error texts.

    Raises:
        FrameError: As :func:`check_size`, and ``size_mismatch``.
    """
    check_size(width, height, what)
    if expected is not None and (width, height) != expected:
        raise FrameError(
            f"The {what} image is {width}x{height} but its camera_info says {expected[0]}x{expected[1]}; both must describe"
            " the same image.",
            "size_mismatch",
        )
