"""Images as a camera driver sends them: in the encoding, through the transport and with the lens that one asks for."""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.distortion import Distortion
from mosaic3d_core.geometry.rectification import sample_bilinear, sample_nearest
from mosaic3d_core.imaging.bayer import RED_AT
from mosaic3d_core.imaging.encode import encode_compressed_depth, encode_picture, mosaic
from mosaic3d_ros import conversions as convert

COLOR_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", *(f"bayer_{pattern}8" for pattern in RED_AT))
#: Word of the player's parameters -> end of the topic's name.
COLOR_TRANSPORTS = {"raw": "", "jpeg": "/compressed", "png": "/compressed"}
DEPTH_TRANSPORTS = {
    "raw": "",
    "png": "/compressed",
    "compressedDepth png": "/compressedDepth",
    "compressedDepth rvl": "/compressedDepth",
}


class Lens:
    """Bends ideal images the way a lens does.

    Args:
        distortion: The lens.
        camera: Intrinsics of the ideal image, and of the bent one.
    """

    def __init__(self, distortion: Distortion, camera: PinholeCamera) -> None:
        v, u = np.mgrid[0 : camera.height, 0 : camera.width]
        seen = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy], -1).reshape(-1, 2)
        ideal = distortion.undistort(seen) * [camera.fx, camera.fy] + [camera.cx, camera.cy]
        self._where = ideal.reshape(camera.height, camera.width, 2).astype(np.float32)

    def color(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Colour (H, W, 3) as the lens shows it."""
        return sample_bilinear(image, self._where)

    def depth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Depth (H, W) metres as the lens shows it; 0 where the ideal image ends."""
        return sample_nearest(image, self._where)


class DriverImages:
    """Makes the messages of a camera.

    Args:
        values: The player's parameters.

    Raises:
        ValueError: For a lens that does not exist.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._color_encoding: str = values["rgb_encoding"]
        self._color_transport: str = values["rgb_transport"]
        self._depth_encoding: str = values["depth_encoding"]
        self._depth_transport: str = values["depth_transport"]
        if self._depth_transport == "png" and self._depth_encoding != "16UC1":
            raise ValueError("Parameter 'depth_transport' is png, which needs depth_encoding = 16UC1.")
        self._distortion = Distortion.from_message(values["distortion_model"], values["distortion"])
        self._lenses: dict[PinholeCamera, Lens] = {}

    @property
    def topics(self) -> dict[str, tuple[type, str]]:
        """Message class and end of the name of each topic."""
        color, depth = COLOR_TRANSPORTS[self._color_transport], DEPTH_TRANSPORTS[self._depth_transport]
        return {
            "rgb/camera_info": (CameraInfo, ""),
            "depth/camera_info": (CameraInfo, ""),
            "rgb/image": (CompressedImage if color else Image, color),
            "depth/image": (CompressedImage if depth else Image, depth),
        }

    def camera_info(self, camera: PinholeCamera, header: Header) -> CameraInfo:
        """Calibration with the lens."""
        message = convert.camera_info_message(camera, header)
        if self._distortion is not None:
            message.distortion_model = self._distortion.model
            message.d = list(self._distortion.coefficients)
        return message

    def color(self, color: NDArray[np.uint8], camera: PinholeCamera, header: Header) -> Image | CompressedImage:
        """Colour (H, W, 3) uint8 RGB to a message."""
        lens = self._lens(camera)
        if lens is not None:
            color = lens.color(color)
        encoding = self._color_encoding
        pixels = encoded_color(color, encoding)
        if self._color_transport == "raw":
            return _image(pixels, encoding, header)
        codec = self._color_transport
        if encoding == "mono16":
            codec = "png"  # a JPEG has no 16 bits
        channels = pixels.ndim == 3
        data = encode_picture(color if channels else pixels, codec)
        return _compressed(data, f"{encoding}; {codec} compressed {'bgr8' if channels else ''}", header)

    def depth(self, depth: NDArray[np.float32], camera: PinholeCamera, header: Header) -> Image | CompressedImage:
        """Depth (H, W) float32 metres to a message."""
        lens = self._lens(camera)
        if lens is not None:
            depth = lens.depth(depth)
        message = convert.depth_message(depth, header, self._depth_encoding)
        if self._depth_transport == "raw":
            return message
        kind = np.uint16 if self._depth_encoding == "16UC1" else np.float32
        values = np.frombuffer(message.data, kind).reshape(depth.shape)
        if self._depth_transport == "png":
            return _compressed(encode_picture(values, "png"), "16UC1; png compressed ", header)
        codec = self._depth_transport.split()[1]
        data = encode_compressed_depth(values, self._depth_encoding, codec)
        return _compressed(data, f"{self._depth_encoding}; compressedDepth {codec}", header)

    def _lens(self, camera: PinholeCamera) -> Lens | None:
        if self._distortion is None:
            return None
        if camera not in self._lenses:
            self._lenses[camera] = Lens(self._distortion, camera)
        return self._lenses[camera]


def encoded_color(color: NDArray[np.uint8], encoding: str) -> NDArray:
    """Pixels of an image message of one of :data:`COLOR_ENCODINGS`.

    Args:
        color: (H, W, 3) uint8 RGB.
        encoding: Name of the encoding.

    Returns:
        (H, W, C) or (H, W) uint8 or uint16.
    """
    if encoding.startswith("bayer_"):
        return mosaic(color, encoding[6:10])
    if encoding.startswith("mono"):
        grey = np.rint(color @ np.array([0.299, 0.587, 0.114]))
        return grey.astype(np.uint8) if encoding == "mono8" else (grey * 257).astype(np.uint16)
    pixels = color if encoding.startswith("rgb") else color[..., ::-1]
    if "a8" in encoding:
        pixels = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], axis=2)
    return np.ascontiguousarray(pixels)


def _image(pixels: NDArray, encoding: str, header: Header) -> Image:
    height, width = pixels.shape[:2]
    message = Image(header=header, height=height, width=width, encoding=encoding, step=pixels.nbytes // height)
    convert.fill_data(message, pixels)
    return message


def _compressed(data: bytes, image_format: str, header: Header) -> CompressedImage:
    message = CompressedImage(header=header, format=image_format)
    values = array.array("B")
    values.frombytes(data)
    message.data = values
    return message
