"""Image messages with their calibration to arrays with a pinhole camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image

from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_ros import conversions as convert


class FrameReader:
    """Reads the images of one camera."""

    def depth(self, message: Image, info: CameraInfo) -> tuple[NDArray[np.float32], PinholeCamera]:
        """Depth image (H, W) float32 metres and its camera.

        Raises:
            FrameError: With the reason the frame is dropped for.
        """
        camera = convert.camera_from_info(info, "depth")
        convert.check_same_size(message, camera, "depth")
        return convert.depth_from_image(message), camera

    def color(self, message: Image, info: CameraInfo) -> tuple[NDArray[np.uint8], PinholeCamera]:
        """Colour image (H, W, 3) uint8 RGB and its camera; raises like :meth:`depth`."""
        camera = convert.camera_from_info(info, "colour")
        convert.check_same_size(message, camera, "colour")
        return convert.color_from_image(message), camera


DEFAULT_READER = FrameReader()
