"""Messages to arrays and back: the only place that knows encodings, byte order and row steps.

Every reader checks what it is given and raises :class:`mosaic3d_core.errors.FrameError` with a short
``reason`` (the counter under which the node drops the frame) and one sentence for a person.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Transform
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.transforms import matrix_to_quaternion_xyzw, pose_to_matrix

COLOR_ENCODINGS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "8UC3": (3, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}
"""Encoding -> (bytes per pixel, positions of red, green, blue). ``8UC3`` is OpenCV's habit, blue first."""

DEPTH_ENCODINGS: dict[str, tuple[str, float]] = {
    "16UC1": ("u2", 1e-3),
    "mono16": ("u2", 1e-3),
    "32FC1": ("f4", 1.0),
}
"""Encoding -> (dtype, metres per unit)."""

POINT_DTYPE = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "instance", "score", "label"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<u4", "<f4", "<u2"],
        "offsets": [0, 4, 8, 12, 16, 20, 24],
        "itemsize": 28,
    }
)
"""One point of ``~/labelled_cloud``.

``rgb`` is announced as FLOAT32, as every viewer expects of packed colour.
"""

XYZRGB_DTYPE = np.dtype({"names": ["x", "y", "z", "rgb"], "formats": ["<f4", "<f4", "<f4", "<u4"]})
XYZRGB_SCORE_DTYPE = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "score", "label"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<f4", "<u2"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)
"""One point of ``~/query_cloud``: ``label`` is the index of the query text, ``score`` its score."""

_POINT_FIELD_TYPES = {"f4": PointField.FLOAT32, "u4": PointField.UINT32, "u2": PointField.UINT16}
_NUMPY_TYPES = {
    PointField.INT8: "i1",
    PointField.UINT8: "u1",
    PointField.INT16: "i2",
    PointField.UINT16: "u2",
    PointField.INT32: "i4",
    PointField.UINT32: "u4",
    PointField.FLOAT32: "f4",
    PointField.FLOAT64: "f8",
}


def stamp_to_ns(stamp: Time) -> int:
    """Message time to integer nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """Integer nanoseconds to message time."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def make_header(frame_id: str, stamp_ns: int) -> Header:
    """Header from a frame name and nanoseconds."""
    return Header(frame_id=frame_id, stamp=ns_to_stamp(stamp_ns))


def fill_data(message: Image | PointCloud2, values: NDArray) -> None:
    """Put an array's bytes into ``message.data`` the fast way.

    Only an ``array.array('B')`` that is assigned after construction skips the element-by-element check of the
    message classes (8 ms instead of more than 1 s for a million points).
    """
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(values).data.cast("B"))
    message.data = data


def _rows(message: Image, bytes_per_pixel: int, what: str) -> NDArray[np.uint8]:
    """Image bytes as (H, row bytes) uint8 without the padding at the end of rows."""
    height, width, step = message.height, message.width, message.step
    row = width * bytes_per_pixel
    if height == 0 or width == 0:
        raise FrameError(f"The {what} image has size {width}x{height}: an image with pixels is needed.", "empty_image")
    data = np.frombuffer(message.data, dtype=np.uint8)
    if step < row or data.size < height * step:
        raise FrameError(
            f"The {what} image ({width}x{height}, {message.encoding}) says {step} bytes per row and carries"
            f" {data.size} bytes; at least {row} per row and {height * max(step, row)} in all are needed.",
            "bad_image_size",
        )
    return data[: height * step].reshape(height, step)[:, :row]


def color_from_image(message: Image) -> NDArray[np.uint8]:
    """Colour image as an array.

    Args:
        message: An image in one of :data:`COLOR_ENCODINGS`.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        FrameError: Unknown encoding or sizes that disagree with the data.
    """
    if message.encoding not in COLOR_ENCODINGS:
        known = ", ".join(COLOR_ENCODINGS)
        raise FrameError(
            f"The colour image has encoding '{message.encoding}'; known ones are {known}. Convert it, for"
            " example with image_proc.",
            "bad_encoding",
        )
    channels, order = COLOR_ENCODINGS[message.encoding]
    pixels = _rows(message, channels, "colour").reshape(message.height, message.width, channels)
    if channels == 3 and order == (0, 1, 2):
        return np.ascontiguousarray(pixels)
    return np.ascontiguousarray(pixels[:, :, list(order)])


def depth_from_image(message: Image) -> NDArray[np.float32]:
    """Depth image in metres.

    Args:
        message: ``16UC1`` (or ``mono16``) in millimetres with 0 = none, or ``32FC1`` in metres with NaN =
            none (REP-118).

    Returns:
        (H, W) float32 metres; 0 or NaN = none.

    Raises:
        FrameError: Unknown encoding or sizes that disagree with the data.
    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise FrameError(
            f"The depth image has encoding '{message.encoding}'; expected 16UC1 (millimetres) or 32FC1 (metres).",
            "bad_encoding",
        )
    kind, scale = DEPTH_ENCODINGS[message.encoding]
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    rows = np.ascontiguousarray(_rows(message, dtype.itemsize, "depth"))
    values = rows.view(dtype).reshape(message.height, message.width)
    if scale == 1.0:
        return values.astype(np.float32)
    return values.astype(np.float32) * np.float32(scale)


def camera_from_info(message: CameraInfo, what: str = "camera") -> PinholeCamera:
    """Pinhole camera of rectified images.

    The rectified intrinsics ``P`` are used where they are set, else ``K``.

    Args:
        message: Calibration that came with the images.
        what: Name for error texts ("depth", "colour").

    Raises:
        FrameError: ``bad_intrinsics`` when K is zero (an uncalibrated camera) or not finite.
    """
    matrix = np.asarray(message.k, dtype=np.float64).reshape(3, 3)
    if matrix[0, 0] == 0.0 or matrix[1, 1] == 0.0:
        raise FrameError(
            f"The {what} camera_info has K = 0, which means an uncalibrated camera; publish its calibration.",
            "bad_intrinsics",
        )
    projection = np.asarray(message.p, dtype=np.float64).reshape(3, 4)[:, :3]
    if projection[0, 0] != 0.0 and projection[1, 1] != 0.0:
        matrix = projection
    return PinholeCamera.from_matrix(matrix, int(message.width), int(message.height))


def check_same_size(image: Image, camera: PinholeCamera, what: str) -> None:
    """Check an image against its calibration.

    Raises:
        FrameError: ``size_mismatch`` when the sizes differ.
    """
    if (image.width, image.height) != (camera.width, camera.height):
        raise FrameError(
            f"The {what} image is {image.width}x{image.height} but its camera_info says"
            f" {camera.width}x{camera.height}; both must describe the same image.",
            "size_mismatch",
        )


def matrix_from_pose(pose: Pose) -> NDArray[np.float64]:
    """Pose message to a (4, 4) float64 matrix.

    Raises:
        FrameError: Values that are not finite or a quaternion that is not a rotation (``nan_pose``,
            ``non_rigid_pose``).
    """
    return _matrix(pose.position, pose.orientation)


def matrix_from_transform(transform: Transform) -> NDArray[np.float64]:
    """Transform message to a (4, 4) float64 matrix; raises like :func:`matrix_from_pose`."""
    return _matrix(transform.translation, transform.rotation)


def _matrix(position: object, rotation: object) -> NDArray[np.float64]:
    place = np.array([position.x, position.y, position.z])  # type: ignore[attr-defined]
    turn = np.array([rotation.x, rotation.y, rotation.z, rotation.w])  # type: ignore[attr-defined]
    if not (np.isfinite(place).all() and np.isfinite(turn).all()):
        raise FrameError(
            "The pose has values that are NaN or infinite; the source of the poses must not send those.",
            "nan_pose",
        )
    length = float(np.linalg.norm(turn))
    if abs(length - 1.0) > 1e-2:
        raise FrameError(f"The pose has a quaternion of length {length:.3g}; a rotation needs length 1.", "non_rigid_pose")
    return pose_to_matrix(place, turn / length)


def pose_from_matrix(matrix: NDArray[np.float64]) -> Pose:
    """(4, 4) rigid matrix to a pose message."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (float(value) for value in matrix[:3, 3])
    x, y, z, w = (float(value) for value in matrix_to_quaternion_xyzw(matrix[:3, :3]))
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = x, y, z, w
    return pose


def transform_from_matrix(matrix: NDArray[np.float64]) -> Transform:
    """(4, 4) rigid matrix to a transform message."""
    pose = pose_from_matrix(matrix)
    transform = Transform(rotation=pose.orientation)
    place = pose.position
    transform.translation.x, transform.translation.y, transform.translation.z = place.x, place.y, place.z
    return transform


def color_message(color: NDArray[np.uint8], header: Header) -> Image:
    """(H, W, 3) uint8 RGB to an ``rgb8`` image."""
    height, width = color.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    fill_data(message, color)
    return message


def depth_message(depth: NDArray[np.float32], header: Header, encoding: str = "16UC1") -> Image:
    """(H, W) float32 metres (0 or NaN = none) to ``16UC1`` millimetres or ``32FC1`` metres."""
    if encoding == "32FC1":
        values: NDArray = np.ascontiguousarray(depth, dtype=np.float32)
    else:
        millimetres = np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0) * 1000.0
        values = np.where(millimetres <= 65535.0, np.round(millimetres), 0.0).astype(np.uint16)
    height, width = depth.shape
    message = Image(header=header, height=height, width=width, encoding=encoding, step=values.itemsize * width)
    message.is_bigendian = int(sys.byteorder == "big")
    fill_data(message, values)
    return message


def camera_info_message(camera: PinholeCamera, header: Header) -> CameraInfo:
    """Calibration of an undistorted pinhole camera."""
    message = CameraInfo(header=header, width=camera.width, height=camera.height, distortion_model="plumb_bob")
    message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    message.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.d = [0.0] * 5
    return message


def pack_rgb(colors: NDArray) -> NDArray[np.uint32]:
    """(N, 3) colours in 0..255 to (N,) packed 0x00RRGGBB."""
    channels = np.clip(np.rint(np.asarray(colors, dtype=np.float32)), 0, 255).astype(np.uint32)
    return np.asarray((channels[:, 0] << 16) | (channels[:, 1] << 8) | channels[:, 2], np.uint32)


def structured_points(dtype: np.dtype, points: NDArray, colors: NDArray, **fields: NDArray) -> NDArray:
    """Rows of a point cloud.

    Args:
        dtype: One of the point dtypes above.
        points: (N, 3) metres.
        colors: (N, 3) in 0..255.
        fields: The remaining fields of ``dtype``, (N,) each.

    Returns:
        (N,) structured array.
    """
    rows = np.zeros(len(points), dtype=dtype)
    rows["x"], rows["y"], rows["z"] = points[:, 0], points[:, 1], points[:, 2]
    rows["rgb"] = pack_rgb(colors)
    for name, values in fields.items():
        rows[name] = values
    return rows


def cloud_message(rows: NDArray, header: Header) -> PointCloud2:
    """Structured rows to an unordered point cloud."""
    message = PointCloud2(header=header, height=1, width=len(rows), is_dense=True)
    message.point_step = rows.dtype.itemsize
    message.row_step = rows.dtype.itemsize * len(rows)
    for name, (dtype, offset, *_) in (rows.dtype.fields or {}).items():
        kind = PointField.FLOAT32 if name == "rgb" else _POINT_FIELD_TYPES[dtype.str[1:]]
        message.fields.append(PointField(name=name, offset=int(offset), datatype=kind, count=1))
    fill_data(message, rows)
    return message


def points_from_cloud(message: PointCloud2) -> NDArray:
    """Point cloud to structured rows with the message's own fields; packed ``rgb`` comes back as uint32.

    Raises:
        ValueError: If the data is shorter than the header says.
    """
    count = message.width * message.height
    if len(message.data) < count * message.point_step:
        raise ValueError(f"The cloud says {count} points of {message.point_step} bytes but carries {len(message.data)} bytes.")
    order = ">" if message.is_bigendian else "<"
    names: Sequence[str] = [field.name for field in message.fields]
    formats = [order + ("u4" if f.name == "rgb" else _NUMPY_TYPES[f.datatype]) for f in message.fields]
    offsets = [f.offset for f in message.fields]
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": message.point_step})
    return np.frombuffer(message.data, dtype=dtype, count=count)
