"""Image messages with their calibration to arrays with a pinhole camera."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.imaging.calibration import ImageCalibration, read_calibration
from mosaic3d_core.imaging.compressed import decode_compressed_color, decode_png_depth
from mosaic3d_core.imaging.compressed_depth import decode_compressed_depth
from mosaic3d_core.imaging.limits import check_expected
from mosaic3d_core.imaging.raw_images import decode_color, decode_depth

_KEPT_CALIBRATIONS = 4
#: First bytes of PNG and JPEG files; compressedDepth begins with a number.
_FILES = (b"\x89PN", b"\xff\xd8\xff")
#: Words that image_pipeline and drivers put into the names of topics with rectified images (image_rect, image_rect_color ...).
_RECTIFIED_NAME = re.compile(r"(^|[/_])rect(ified)?($|[/_])")


def is_rectified_topic(topic: str) -> bool:
    """Whether a topic has rectified images by the naming of image_pipeline: its name has the word ``rect`` or ``rectified``."""
    return _RECTIFIED_NAME.search(topic) is not None


class FrameReader:
    """Reads the images of one camera. Messages may come from ROS or from a bag: only their fields count.

    Args:
        color_rectified: Whether colour images are rectified already. If not, the distortion of their camera_info is undone.
        depth_rectified: The same for depth images.
    """

    def __init__(self, color_rectified: bool = True, depth_rectified: bool = True) -> None:
        self._color_rectified = color_rectified
        self._depth_rectified = depth_rectified
        self._calibrations: OrderedDict[tuple[object, ...], ImageCalibration] = OrderedDict()

    def depth(self, message: Any, info: Any) -> tuple[NDArray[np.float32], PinholeCamera]:
        """Read a depth image.

        Args:
            message: With the fields of sensor_msgs/Image or CompressedImage (compressedDepth, or a 16-bit PNG).
            info: With the fields of sensor_msgs/CameraInfo.

        Returns:
            (H, W) float32 metres, 0 = none; and the pinhole camera of these pixels.

        Raises:
            FrameError: With the reason the frame is dropped for.
        """
        calibration = self._calibration(info, self._depth_rectified, "depth")
        pixels: NDArray[np.float32] = _decode(message, calibration.raw_size, "depth", decode_depth, _decode_small_depth)
        rectifier = calibration.rectifier
        return (pixels if rectifier is None else rectifier.depth(pixels)), calibration.camera

    def color(self, message: Any, info: Any) -> tuple[NDArray[np.uint8], PinholeCamera]:
        """Read a colour image.

        Args:
            message: With the fields of sensor_msgs/Image or CompressedImage (JPEG, PNG).
            info: With the fields of sensor_msgs/CameraInfo.

        Returns:
            (H, W, 3) uint8 RGB; and the pinhole camera of these pixels.

        Raises:
            FrameError: With the reason the frame is dropped for.
        """
        calibration = self._calibration(info, self._color_rectified, "colour")
        pixels: NDArray[np.uint8] = _decode(message, calibration.raw_size, "colour", decode_color, decode_compressed_color)
        rectifier = calibration.rectifier
        return (pixels if rectifier is None else rectifier.color(pixels)), calibration.camera

    def _calibration(self, info: Any, rectified: bool, what: str) -> ImageCalibration:
        """Of a camera_info; kept, because the maps of a lens cost much more than an image."""
        if len(info.d) > 14:
            raise FrameError(f"The {what} camera_info has {len(info.d)} distortion coefficients.", "unknown_distortion")
        roi = info.roi
        matrices = map(_bytes, (info.k, info.r, info.p))
        window = (info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height)
        key = (what, rectified, info.width, info.height, info.distortion_model, tuple(info.d), *matrices, *window)
        found = self._calibrations.get(key)
        if found is None:
            found = self._calibrations[key] = read_calibration(info, rectified, what)
            if len(self._calibrations) > _KEPT_CALIBRATIONS:
                self._calibrations.popitem(last=False)
        else:
            self._calibrations.move_to_end(key)
        return found


DEFAULT_READER = FrameReader()
"""For images that are rectified."""


def _bytes(values: Any) -> bytes:
    return np.asarray(values, np.float64).tobytes()


def _decode(
    message: Any,
    size: tuple[int, int],
    what: str,
    raw: Callable[[Any], NDArray],
    compressed: Callable[[Any, tuple[int, int]], NDArray],
) -> NDArray:
    if not hasattr(message, "encoding"):
        return compressed(message, size)
    check_expected(int(message.width), int(message.height), size, what)
    return raw(message)


def _decode_small_depth(message: Any, expected: tuple[int, int]) -> NDArray[np.float32]:
    # by the data, because publishers leave the format empty or write only the encoding into it
    if bytes(message.data[:3]) in _FILES:
        return decode_png_depth(message, expected)
    return decode_compressed_depth(message, expected)
