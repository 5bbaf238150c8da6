"""camera_info to a pinhole camera, and to what makes images fit it.

Drivers send the same camera_info beside raw and beside rectified images, so the message alone does not say which one an image
is. The rule: a *rectified* image has the intrinsics P (K where P is not set), whatever D says. A *raw* one has K, D and R, and
is brought to P (to K where P is not set).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.distortion import Distortion
from mosaic3d_core.geometry.rectification import Rectifier
from mosaic3d_core.imaging.limits import check_size

_MOST_BINNING = 64


@dataclass(frozen=True)
class ImageCalibration:
    """How to use the images of a camera.

    Attributes:
        camera: Pinhole camera of the images after `rectifier`.
        raw_size: (width, height) of the images as they come.
        rectifier: To be applied to each image; None = they fit already.
    """

    camera: PinholeCamera
    raw_size: tuple[int, int]
    rectifier: Rectifier | None = None


def read_calibration(message: Any, rectified: bool, what: str = "camera") -> ImageCalibration:
    """Read a camera_info.

    Binning and region of interest are taken into account: the message tells of the full sensor, the image has the size of
    the region divided by the binning. A binned pixel is the mean of a block, so pixel centres move by half a pixel.

    Args:
        message: With the fields of sensor_msgs/CameraInfo.
        rectified: Whether the images are rectified already, see the module.
        what: Name for error texts ("depth", "colour").

    Raises:
        FrameError: ``bad_intrinsics`` when K is zero (an uncalibrated camera) or values are not finite; ``bad_roi`` when the
            region does not lie in the image; ``unknown_distortion``.
    """
    matrix = _matrix(message.k, (3, 3), what)
    if matrix[0, 0] == 0.0 or matrix[1, 1] == 0.0:
        raise FrameError(
            f"The {what} camera_info has K = 0, which means an uncalibrated camera; publish its calibration.",
            "bad_intrinsics",
        )
    projection = _matrix(message.p, (3, 4), what)[:, :3]
    if projection[0, 0] == 0.0 or projection[1, 1] == 0.0:
        projection = matrix
    window = _Window.of(message, what)
    if rectified:
        camera = window.camera(projection)
        return ImageCalibration(camera, (camera.width, camera.height))
    raw = window.camera(matrix)
    distortion = Distortion.from_message(str(message.distortion_model), message.d)
    turn = _matrix(message.r, (3, 3), what)
    if not turn.any():
        turn = np.eye(3)
    size = (raw.width, raw.height)
    if distortion is None and np.array_equal(turn, np.eye(3)):
        return ImageCalibration(raw, size)
    target = window.camera(projection)
    rotation = tuple(tuple(row) for row in turn.tolist())
    return ImageCalibration(target, size, Rectifier(raw, distortion, target, rotation))


def _matrix(values: Sequence[float], shape: tuple[int, int], what: str) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.size != shape[0] * shape[1]:
        raise FrameError(f"A matrix of the {what} camera_info has {matrix.size} values.", "bad_intrinsics")
    if not np.isfinite(matrix).all():
        raise FrameError(f"The {what} camera_info has values that are NaN or infinite; publish a calibration.", "bad_intrinsics")
    return matrix.reshape(shape)


@dataclass(frozen=True)
class _Window:
    """The part of the sensor that an image shows."""

    left: int
    top: int
    width: int
    height: int
    binning_x: int
    binning_y: int

    @classmethod
    def of(cls, message: Any, what: str) -> _Window:
        width, height, roi = int(message.width), int(message.height), message.roi
        left, top = int(roi.x_offset), int(roi.y_offset)
        # by the message's definition, a region of size zero is the whole image
        roi_width, roi_height = int(roi.width) or width - left, int(roi.height) or height - top
        if left + roi_width > width or top + roi_height > height or roi_width < 0 or roi_height < 0:
            raise FrameError(
                f"The {what} camera_info has a region of interest of {roi.width}x{roi.height} at ({left}, {top}), beyond its"
                f" {width}x{height} pixels.",
                "bad_roi",
            )
        binning_x, binning_y = int(message.binning_x) or 1, int(message.binning_y) or 1
        if max(binning_x, binning_y) > _MOST_BINNING:
            raise FrameError(f"The {what} camera_info has a binning of {binning_x}x{binning_y}.", "bad_roi")
        check_size(roi_width // binning_x, roi_height // binning_y, what)
        return cls(left, top, roi_width, roi_height, binning_x, binning_y)

    def camera(self, matrix: NDArray[np.float64]) -> PinholeCamera:
        bx, by = self.binning_x, self.binning_y
        return PinholeCamera(
            matrix[0, 0] / bx,
            matrix[1, 1] / by,
            (matrix[0, 2] - self.left + 0.5) / bx - 0.5,
            (matrix[1, 2] - self.top + 0.5) / by - 0.5,
            self.width // bx,
            self.height // by,
        )
