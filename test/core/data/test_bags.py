"""ROS 2 bags, written here with the rosbags writers and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="reading bags is optional: pip install rosbags")
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from mosaic3d_core.data.sequences import open_sequence
from mosaic3d_core.errors import SequenceError

STORE = get_typestore(Stores.ROS2_HUMBLE)
T = STORE.types
H, W = 6, 8
COLOR = np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3)
DEPTH = (np.arange(H * W).reshape(H, W) + 500).astype(np.uint16)


def header(stamp_ns: int, frame: str):
    return T["std_msgs/msg/Header"](T["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9), frame)


def image(stamp: int, frame: str, encoding: str, pixels: np.ndarray):
    data = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8)
    return T["sensor_msgs/msg/Image"](header(stamp, frame), H, W, encoding, 0, data.size // H, data)


def info(stamp: int, frame: str, fx: float = 10.0):
    region = T["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    k = np.array([fx, 0, 3.5, 0, 10.0, 2.5, 0, 0, 1])
    return T["sensor_msgs/msg/CameraInfo"](
        header(stamp, frame), H, W, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), np.zeros(12), 0, 0, region
    )


def pose_parts(x: float):
    return (0.0 + x, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0)


def transform(stamp: int, parent: str, child: str, x: float):
    move, turn = pose_parts(x)
    body = T["geometry_msgs/msg/Transform"](T["geometry_msgs/msg/Vector3"](*move), T["geometry_msgs/msg/Quaternion"](*turn))
    return T["tf2_msgs/msg/TFMessage"]([T["geometry_msgs/msg/TransformStamped"](header(stamp, parent), child, body)])


def write(
    path: Path,
    plugin: StoragePlugin,
    poses: str = "tf",
    depth: tuple[str, np.ndarray] = ("16UC1", DEPTH),
    color=("bgr8", COLOR[..., ::-1]),
) -> Path:
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        made = {}

        def send(topic: str, stamp: int, message) -> None:
            kind = message.__msgtype__
            if topic not in made:
                made[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(made[topic], stamp, STORE.serialize_cdr(message, kind))

        if poses == "tf":
            send("/tf_static", 0, transform(0, "base", "camera", 0.5))
        for k in range(-1, 5):
            stamp = 1_000_000_000 + k * 100_000_000
            if poses == "tf":
                send("/tf", stamp, transform(stamp - 20_000_000, "map", "base", 0.1 * k - 0.02))
            elif poses in ("pose", "odom"):
                move, turn = pose_parts(0.1 * k)
                pose = T["geometry_msgs/msg/Pose"](T["geometry_msgs/msg/Point"](*move), T["geometry_msgs/msg/Quaternion"](*turn))
                if poses == "pose":
                    send("/slam/pose", stamp, T["geometry_msgs/msg/PoseStamped"](header(stamp, "map"), pose))
                else:
                    zero = T["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
                    twist = T["geometry_msgs/msg/TwistWithCovariance"](T["geometry_msgs/msg/Twist"](zero, zero), np.zeros(36))
                    body = T["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36))
                    send("/odom", stamp, T["nav_msgs/msg/Odometry"](header(stamp, "map"), "camera", body, twist))
            if 0 <= k < 3:
                send("/cam/depth/camera_info", stamp, info(stamp, "camera"))
                send("/cam/color/camera_info", stamp, info(stamp, "camera"))
                send("/cam/color/image_raw", stamp, image(stamp, "camera", *color))
                send("/cam/depth/image_raw", stamp, image(stamp, "camera", *depth))
    return path


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
@pytest.mark.parametrize("poses", ["tf", "pose", "odom"])
def test_a_bag_delivers_its_frames_with_poses_at_their_stamps(tmp_path, plugin, poses):
    sequence = open_sequence(write(tmp_path / "bag", plugin, poses))
    frames = list(sequence)
    assert len(frames) == 3
    for k, frame in enumerate(frames):
        assert frame.stamp_ns == 1_000_000_000 + k * 100_000_000
        assert np.array_equal(frame.color, COLOR)
        assert np.allclose(frame.depth, DEPTH / 1000.0)
        x = 0.1 * k + (0.5 if poses == "tf" else 0.0)
        assert np.allclose(frame.T_world_camera[:3, 3], [x, 0, 2.0 if poses == "tf" else 1.0], atol=1e-6)
        assert frame.registered


def test_float_depth_in_metres_is_read_and_nan_becomes_none(tmp_path):
    depth = DEPTH.astype(np.float32) / 1000
    depth[0, 0] = np.nan
    frame = open_sequence(write(tmp_path / "bag", StoragePlugin.MCAP, depth=("32FC1", depth)))[0]
    assert frame.depth[0, 0] == 0
    assert np.allclose(frame.depth[1:], depth[1:])


def test_an_unknown_encoding_is_counted_and_in_the_end_an_error(tmp_path):
    sequence = open_sequence(write(tmp_path / "bag", StoragePlugin.MCAP, depth=("64FC1", DEPTH.astype(np.float64))))
    with pytest.raises(SequenceError, match=r"depth image has encoding '64FC1'"):
        list(sequence)
    assert sequence.skipped == {"bad_encoding": 3}


def test_a_bag_without_poses_says_so(tmp_path):
    with pytest.raises(SequenceError, match="has no poses: no /tf"):
        open_sequence(write(tmp_path / "bag", StoragePlugin.MCAP, poses="none"))


def test_a_truncated_bag_is_named(tmp_path):
    bag = write(tmp_path / "bag", StoragePlugin.MCAP)
    file = next(bag.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(SequenceError, match="cannot be read"):
        open_sequence(bag)
