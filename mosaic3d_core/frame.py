"""One posed RGB-D frame, the input of fusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.transforms import check_transform


@dataclass(frozen=True, eq=False)
class RGBDFrame:
    """Colour and depth with cameras and pose.

    Attributes:
        stamp_ns: Time of the depth image in nanoseconds.
        color: (Hc, Wc, 3) uint8 RGB.
        depth: (H, W) float32 metres along the optical axis; 0 or NaN where there is no measurement.
        depth_camera: Intrinsics of the depth image.
        T_world_camera: (4, 4) float64 pose of the depth camera (optical frame).
        color_camera: Intrinsics of the colour image; None when colour is registered to depth.
        T_color_depth: (4, 4) maps points of the depth camera into the colour camera; None is the identity.

    Raises:
        FrameError: When shapes, types, sizes or transforms do not fit; `reason` is the counter key.
    """

    stamp_ns: int
    color: NDArray[np.uint8]
    depth: NDArray[np.float32]
    depth_camera: PinholeCamera
    T_world_camera: NDArray[np.float64]
    color_camera: PinholeCamera | None = None
    T_color_depth: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.color.ndim != 3 or self.color.shape[2] != 3 or self.color.dtype != np.uint8:
            raise FrameError(f"color must be (H, W, 3) uint8 RGB, got {self.color.shape} {self.color.dtype}", "bad_encoding")
        if self.depth.ndim != 2 or self.depth.dtype != np.float32:
            raise FrameError(f"depth must be (H, W) float32 metres, got {self.depth.shape} {self.depth.dtype}", "bad_encoding")
        self._check_size("depth", self.depth, self.depth_camera)
        self._check_size("color", self.color, self.color_camera or self.depth_camera)
        object.__setattr__(self, "T_world_camera", check_transform(self.T_world_camera, "T_world_camera"))
        if self.T_color_depth is not None:
            object.__setattr__(self, "T_color_depth", check_transform(self.T_color_depth, "T_color_depth"))

    @staticmethod
    def _check_size(name: str, image: NDArray, camera: PinholeCamera) -> None:
        if image.shape[:2] != (camera.height, camera.width):
            raise FrameError(
                f"{name} image is {image.shape[1]}x{image.shape[0]} but its camera says {camera.width}x{camera.height}: "
                "publish the camera_info (or calibration) of this image size",
                "size_mismatch",
            )

    @property
    def registered(self) -> bool:
        """True when colour and depth share camera and pixel grid."""
        return self.color_camera is None and self.T_color_depth is None
