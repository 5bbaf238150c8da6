"""The messages of one frame, before and after its pose is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.imaging import DEFAULT_READER, FrameReader
from mosaic3d_ros import conversions as convert


@dataclass(frozen=True)
class RawFrame:
    """The messages of one frame. Time and frame are those of the depth image.

    Attributes:
        depth: Depth image.
        color: Colour image.
        depth_info: Calibration of the depth camera.
        color_info: Calibration of the colour camera.
        arrived_s: When the frame was complete (monotonic clock, seconds).
        camera: Name of the camera; empty where there is only one.
        reader: Turns the messages into arrays.
    """

    depth: Image | CompressedImage
    color: Image | CompressedImage
    depth_info: CameraInfo
    color_info: CameraInfo
    arrived_s: float
    camera: str = ""
    reader: FrameReader = DEFAULT_READER

    @property
    def stamp_ns(self) -> int:
        """Time of the depth image."""
        return convert.stamp_to_ns(self.depth.header.stamp)


@dataclass(frozen=True)
class PosedFrame:
    """A raw frame with what TF said.

    Attributes:
        raw: The messages.
        T_world_camera: Pose of the depth camera (4, 4).
        T_color_depth: Depth-camera points to colour-camera points (4, 4); None = both images have the same
            frame.
    """

    raw: RawFrame
    T_world_camera: NDArray[np.float64]
    T_color_depth: NDArray[np.float64] | None


def assemble(posed: PosedFrame) -> RGBDFrame:
    """Read the messages into the frame type of the map.

    Raises:
        FrameError: With the reason the frame is dropped for.
    """
    raw = posed.raw
    depth, depth_camera = raw.reader.depth(raw.depth, raw.depth_info)
    color, color_camera = raw.reader.color(raw.color, raw.color_info)
    registered = posed.T_color_depth is None and color_camera == depth_camera
    return RGBDFrame(
        stamp_ns=raw.stamp_ns,
        color=color,
        depth=depth,
        depth_camera=depth_camera,
        T_world_camera=posed.T_world_camera,
        color_camera=None if registered else color_camera,
        T_color_depth=None if registered else posed.T_color_depth,
    )
