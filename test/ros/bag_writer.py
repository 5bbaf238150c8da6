"""Writes a robot's recording of a generated room as a ROS 2 bag: topics, frames and stamps as drivers have them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from mosaic3d_core.data.sequences import open_sequence
from mosaic3d_core.geometry.transforms import interpolate_pose, invert_transform, matrix_to_quaternion_xyzw

STORE = get_typestore(Stores.ROS2_HUMBLE)
T = STORE.types
RGB, RGB_INFO = "/camera/color/image_raw", "/camera/color/camera_info"
DEPTH, DEPTH_INFO = "/camera/depth/image_raw", "/camera/depth/camera_info"
# The optical frame in the robot's base: forward, half a metre up.
T_BASE_CAMERA = np.array([[0, 0, 1, 0.1], [-1, 0, 0, 0], [0, -1, 0, 0.5], [0, 0, 0, 1]], np.float64)


RELIABLE = 100  # depth of a reliable subscription


def _qos(durability: QosDurability) -> Qos:
    never = QosTime(9_223_372_036, 854_775_807)
    return Qos(QosHistory.KEEP_LAST, 50, QosReliability.RELIABLE, durability, never, never, QosLiveliness.AUTOMATIC, never, False)


@dataclass(frozen=True)
class Recording:
    """What is special about a recording.

    Attributes:
        frames: Depth images.
        poses: "tf" (base in map, 25 Hz, camera fixed on it) or "odom" (of the base, the camera fixed on it by TF).
        color_delay_ns: Colour images are this much later than depth images.
        color_every: Every n-th depth image has a colour image.
        distortion: plumb_bob coefficients in the camera_info of both cameras.
        ahead_ns: Time jumps ahead by so much in the middle: stamps and times of recording alike, as when a clock is set.
    """

    frames: int = 12
    poses: str = "tf"
    color_delay_ns: int = 0
    color_every: int = 1
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)
    ahead_ns: int = 0


def message_name(kind: type) -> str:
    """sensor_msgs/msg/Image for the class of it."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def _header(stamp_ns: int, frame: str):
    return T["std_msgs/msg/Header"](T["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9), frame)


def _image(stamp_ns: int, frame: str, encoding: str, pixels: np.ndarray):
    data = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8)
    height, width = pixels.shape[:2]
    return T["sensor_msgs/msg/Image"](_header(stamp_ns, frame), height, width, encoding, 0, data.size // height, data)


def _info(stamp_ns: int, frame: str, camera, distortion: tuple[float, ...]):
    region = T["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    k = np.array([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1])
    p = np.array([camera.fx, 0, camera.cx, 0, 0, camera.fy, camera.cy, 0, 0, 0, 1, 0])
    return T["sensor_msgs/msg/CameraInfo"](
        _header(stamp_ns, frame), camera.height, camera.width, "plumb_bob", np.array(distortion), k, np.eye(3).ravel(), p, 0, 0,
        region,
    )  # fmt: skip


def _parts(matrix: np.ndarray, position: str):
    turn = T["geometry_msgs/msg/Quaternion"](*matrix_to_quaternion_xyzw(matrix[:3, :3]))
    return T[f"geometry_msgs/msg/{position}"](*matrix[:3, 3]), turn


def _tf(stamp_ns: int, parent: str, child: str, matrix: np.ndarray):
    body = T["geometry_msgs/msg/Transform"](*_parts(matrix, "Vector3"))
    stamped = T["geometry_msgs/msg/TransformStamped"](_header(stamp_ns, parent), child, body)
    return T["tf2_msgs/msg/TFMessage"]([stamped])


def _odometry(stamp_ns: int, matrix: np.ndarray):
    zero = T["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    twist = T["geometry_msgs/msg/TwistWithCovariance"](T["geometry_msgs/msg/Twist"](zero, zero), np.zeros(36))
    pose = T["geometry_msgs/msg/PoseWithCovariance"](T["geometry_msgs/msg/Pose"](*_parts(matrix, "Point")), np.zeros(36))
    return T["nav_msgs/msg/Odometry"](_header(stamp_ns, "map"), "base", pose, twist)


def _messages(recording: Recording):
    """(time, topic, message) of everything, not sorted."""
    room = list(open_sequence("room:7", frames=recording.frames, width=160, height=120))
    bases = [frame.T_world_camera @ invert_transform(T_BASE_CAMERA) for frame in room]
    stamps = [frame.stamp_ns for frame in room]
    middle = stamps[len(stamps) // 2] - 50_000_000

    def told(stamp: int) -> int:
        return stamp + recording.ahead_ns * (stamp > middle)

    yield stamps[0] - 100_000_000, "/tf_static", _tf(stamps[0] - 100_000_000, "base", "camera", T_BASE_CAMERA)
    # Poses come at a rate of their own, so that those of the images lie between two of them.
    for stamp in range(stamps[0] - 35_000_000, stamps[-1] + 70_000_000, 40_000_000):
        at = float(np.interp(stamp, stamps, np.arange(len(stamps))))
        before = min(int(at), len(room) - 2)
        base = interpolate_pose(bases[before], bases[before + 1], at - before)
        if recording.poses == "tf":
            yield told(stamp) + 1_000_000, "/tf", _tf(told(stamp), "map", "base", base)
        else:
            yield told(stamp) + 1_000_000, "/odom", _odometry(told(stamp), base)
    for number, frame in enumerate(room):
        camera, stamp = frame.depth_camera, told(frame.stamp_ns)
        millimetres = np.round(frame.depth * 1000).astype(np.uint16)
        yield stamp + 20_000_000, DEPTH_INFO, _info(stamp, "camera", camera, recording.distortion)
        yield stamp + 20_000_001, DEPTH, _image(stamp, "camera", "16UC1", millimetres)
        if number % recording.color_every == 0:
            color_stamp = stamp + recording.color_delay_ns
            yield color_stamp + 20_000_002, RGB_INFO, _info(color_stamp, "camera", camera, recording.distortion)
            yield color_stamp + 20_000_003, RGB, _image(color_stamp, "camera", "rgb8", frame.color)


def write_bag(folder: Path, recording: Recording = Recording()) -> Path:
    """Write a recording as an MCAP bag.

    Args:
        folder: Where the bag's folder will be; must not exist.
        recording: What is special about it.

    Returns:
        The folder.
    """
    messages = sorted(_messages(recording), key=lambda item: item[0])
    kinds = {topic: message.__msgtype__ for _, topic, message in messages}
    raw = ((topic, time_ns, STORE.serialize_cdr(message, kinds[topic])) for time_ns, topic, message in messages)
    return write_raw(folder, kinds, raw)


def write_raw(folder: Path, kinds: dict[str, str], messages: Iterable[tuple[str, int, bytes]]) -> Path:
    """Write serialized messages as an MCAP bag.

    Args:
        folder: Where the bag's folder will be; must not exist.
        kinds: Type of each topic, as sensor_msgs/msg/Image.
        messages: (topic, time in ns, serialized message) in the order of time.

    Returns:
        The folder.
    """
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for topic, kind in kinds.items():
            qos = _qos(QosDurability.TRANSIENT_LOCAL if topic == "/tf_static" else QosDurability.VOLATILE)
            connections[topic] = writer.add_connection(topic, kind, typestore=STORE, offered_qos_profiles=[qos])
        for topic, time_ns, raw in messages:
            writer.write(connections[topic], time_ns, raw)
    return folder
