"""Messages to arrays and back.

Every reader checks what it is given and raises :class:`mosaic3d_core.errors.FrameError` with a short
``reason`` (the counter under which the node drops the frame) and one sentence for a person. Encodings, compression and
distortion are read by :mod:`mosaic3d_core.imaging`.
"""

from __future__ import annotations

import array
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Transform
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.transforms import matrix_to_quaternion_xyzw
from mosaic3d_core.imaging.calibration import read_calibration
from mosaic3d_core.imaging.limits import check_expected
from mosaic3d_core.imaging.raw_images import decode_color, decode_depth

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


def color_from_image(message: Image) -> NDArray[np.uint8]:
    """Colour image (H, W, 3) uint8 RGB; see :func:`mosaic3d_core.imaging.raw_images.decode_color`."""
    return decode_color(message)


def depth_from_image(message: Image) -> NDArray[np.float32]:
    """Depth image (H, W) float32 metres; see :func:`mosaic3d_core.imaging.raw_images.decode_depth`."""
    return decode_depth(message)


def camera_from_info(message: CameraInfo, what: str = "camera") -> PinholeCamera:
    """Pinhole camera of rectified images: the intrinsics ``P`` where they are set, else ``K``.

    Args:
        message: Calibration that came with the images.
        what: Name for error texts ("depth", "colour").

    Raises:
        FrameError: See :func:`mosaic3d_core.imaging.calibration.read_calibration`.
    """
    return read_calibration(message, rectified=True, what=what).camera


def check_same_size(image: Image, camera: PinholeCamera, what: str) -> None:
    """Check an image against its calibration.

    Raises:
        FrameError: ``size_mismatch`` when the sizes differ.
    """
    check_expected(int(image.width), int(image.height), (camera.width, camera.height), what)


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


def _matrix(position: Any, rotation: Any) -> NDArray[np.float64]:
    # plain floats: a robot sends thousands of transforms per second, and small arrays cost more than the arithmetic
    place = (position.x, position.y, position.z)
    x, y, z, w = rotation.x, rotation.y, rotation.z, rotation.w
    if not all(map(math.isfinite, (*place, x, y, z, w))):
        raise FrameError(
            "The pose has values that are NaN or infinite; the source of the poses must not send those.",
            "nan_pose",
        )
    length = math.hypot(x, y, z, w)
    if abs(length - 1.0) > 1e-2:
        raise FrameError(f"The pose has a quaternion of length {length:.3g}; a rotation needs length 1.", "non_rigid_pose")
    x, y, z, w = x / length, y / length, z / length, w / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), place[0]],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), place[1]],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), place[2]],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


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
