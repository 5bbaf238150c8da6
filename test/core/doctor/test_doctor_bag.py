"""`mosaic3d doctor BAG`: small bags with one fault each, written here, and one without; no ROS is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="reading bags is optional: pip install rosbags")
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from mosaic3d_core.cli import app
from mosaic3d_core.doctor import Settings, examine
from mosaic3d_core.doctor.bag import observe_bag
from mosaic3d_core.errors import SequenceError

STORE = get_typestore(Stores.ROS2_HUMBLE)
T = STORE.types
STEP, START, FRAMES = 50_000_000, 1_700_000_000_000_000_000, 30


def header(stamp_ns, frame):
    return T["std_msgs/msg/Header"](T["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9), frame)


def image(stamp, frame, encoding, pixels):
    data = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8)
    height, width = pixels.shape[:2]
    return T["sensor_msgs/msg/Image"](header(stamp, frame), height, width, encoding, 0, data.size // height, data)


def info(stamp, frame, fx):
    region = T["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    k = np.array([fx, 0, 19.5, 0, fx, 14.5, 0, 0, 1.0])
    return T["sensor_msgs/msg/CameraInfo"](
        header(stamp, frame), 30, 40, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), np.zeros(12), 0, 0, region
    )


def transform(stamp, parent, child, x=0.0):
    move, turn = T["geometry_msgs/msg/Vector3"](x, 0.0, 0.0), T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    body = T["geometry_msgs/msg/Transform"](move, turn)
    return T["tf2_msgs/msg/TFMessage"]([T["geometry_msgs/msg/TransformStamped"](header(stamp, parent), child, body)])


def odometry(stamp):
    zero = T["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    pose = T["geometry_msgs/msg/Pose"](
        T["geometry_msgs/msg/Point"](0.0, 0.0, 0.0), T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    body = T["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36))
    twist = T["geometry_msgs/msg/TwistWithCovariance"](T["geometry_msgs/msg/Twist"](zero, zero), np.zeros(36))
    return T["nav_msgs/msg/Odometry"](header(stamp, "map"), "camera", body, twist)


def write(
    path: Path,
    plugin=StoragePlugin.MCAP,
    without=(),
    encoding="16UC1",
    fx=30.0,
    color_shift_ns=0,
    tf_until=FRAMES + 1,
    poses="tf",
    extra_image=False,
) -> Path:
    """A bag of 1.5 s: images at 20 Hz from a camera on a moving base."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        made = {}

        def send(topic, time_ns, message):
            if topic in without:
                return
            if topic not in made:
                made[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(made[topic], time_ns, STORE.serialize_cdr(message, message.__msgtype__))

        if poses == "tf":
            send("/tf_static", START - STEP, transform(0, "base", "camera"))
        for k in range(-1, FRAMES + 1):
            stamp = START + k * STEP
            if poses == "tf" and k < tf_until:
                send("/tf", stamp, transform(stamp, "map", "base", 0.01 * k))
            elif poses == "odom":
                send("/odometry", stamp, odometry(stamp))
            if not 0 <= k < FRAMES:
                continue
            depth = np.full((30, 40), 1500, np.uint16)
            send("/cam/depth/camera_info", stamp, info(stamp, "camera", fx))
            send("/cam/color/camera_info", stamp, info(stamp, "camera", fx))
            color = image(stamp + color_shift_ns, "camera", "bgr8", np.zeros((30, 40, 3), np.uint8))
            send("/cam/color/image_raw", stamp, color)
            if extra_image:
                send("/cam/infra/image_raw", stamp, color)
            send("/cam/depth/image_raw", stamp, image(stamp, "camera", encoding, depth))
    return path


def codes(path, **options):
    return [(finding.code, finding.subject) for finding in examine(observe_bag(path, **options))]


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def test_a_sound_bag_is_well(tmp_path, plugin):
    seen = observe_bag(write(tmp_path / "bag", plugin))
    assert examine(seen) == ()
    assert seen.window_s == pytest.approx(1.55)
    depth = seen.topics["depth/image"]
    assert (depth.name, depth.count, depth.encodings) == ("/cam/depth/image_raw", FRAMES, ("16UC1",))
    assert depth.depth.median == 1500
    assert depth.rate_hz == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ({"without": ("/cam/depth/image_raw",)}, [("topic_absent", "/depth/image"), ("topic_absent", "/depth/camera_info")]),
        ({"without": ("/cam/color/camera_info", "/cam/depth/camera_info")},
         [("topic_absent", "/rgb/camera_info"), ("topic_absent", "/depth/camera_info")]),
        ({"encoding": "64FC1"}, [("encoding_unsupported", "/cam/depth/image_raw")]),
        ({"fx": 0.0}, [("info_uncalibrated", "/cam/color/camera_info"), ("info_uncalibrated", "/cam/depth/camera_info")]),
        ({"color_shift_ns": STEP // 2}, [("stamps_unsynchronised", "/cam/depth/image_raw")]),
        ({"without": ("/tf",)}, [("tf_unknown_frame", "map")]),
        ({"without": ("/tf_static",)}, [("tf_unknown_frame", "camera")]),
        ({"without": ("/tf", "/tf_static")}, [("tf_absent", "/tf")]),
        ({"tf_until": FRAMES - 10}, [("tf_gap", "'map' <- 'base'")]),
    ],
    ids=["depth", "infos", "encoding", "K zero", "half a period", "tf", "tf_static", "no tf at all", "tf ends early"],
)  # fmt: skip
def test_each_fault_of_a_bag_is_told(tmp_path, fault, found):
    assert codes(write(tmp_path / "bag", **fault)) == found


def test_images_outside_the_poses_are_counted(tmp_path):
    (finding,) = examine(observe_bag(write(tmp_path / "bag", tf_until=FRAMES - 10)))
    assert f"10 of {FRAMES} images" in finding.problem


def test_odometry_is_offered_and_taken(tmp_path):
    bag = write(tmp_path / "bag", poses="odom")
    (finding,) = examine(observe_bag(bag))
    assert finding.code == "tf_absent"
    assert "set pose_source to odom for /odometry" in finding.remedy
    assert codes(bag, settings=Settings(pose_source="odom")) == []


def test_only_the_beginning_is_read_when_asked(tmp_path):
    seen = observe_bag(write(tmp_path / "bag"), seconds=0.5)
    assert 9 <= seen.topics["depth/image"].count <= 11
    assert examine(seen) == ()


def test_topics_that_could_be_either_are_asked_for(tmp_path):
    bag = write(tmp_path / "bag", extra_image=True)
    with pytest.raises(SequenceError, match=r"2 topics that may be rgb images .*name one with --rgb"):
        observe_bag(bag)
    assert codes(bag, names={"rgb/image": "/cam/color/image_raw"}) == []


def run(*arguments, code="import sys; from mosaic3d_core.cli import main; sys.exit(main())"):
    return subprocess.run(
        [sys.executable, "-c", code, "doctor", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_needs_no_ros(tmp_path):
    bag = write(tmp_path / "bag", fx=0.0)
    without_ros = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('rclpy', 'rosgraph_msgs', 'sensor_msgs'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from mosaic3d_core.cli import main\n"
        "sys.exit(main())\n"
    )
    result = run(bag, "--json", tmp_path / "found.json", code=without_ros)
    assert result.returncode == 3, result.stderr
    assert "ERROR info_uncalibrated" in result.stdout
    assert "/cam/color/camera_info" in result.stdout
    answer = json.loads((tmp_path / "found.json").read_text())
    assert (answer["source"], answer["verdict"], answer["version"]) == ("bag", "errors", 1)
    live = run(code=without_ros)
    assert live.returncode == 2
    assert "rclpy cannot be imported" in live.stderr
    assert "mosaic3d doctor BAG" in live.stderr


def test_the_command_says_all_well(tmp_path, capsys):
    assert app.run(["doctor", str(write(tmp_path / "bag"))]) == 0
    printed = capsys.readouterr()
    assert "All well." in printed.out
    assert printed.err == ""
    assert app.run(["doctor", str(tmp_path / "bag"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "well"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.mcap",), "does not exist"),
        (("pyproject.toml",), "cannot be read"),
        (("--pose", "/pose"), "--pose-source"),
        (("bag", "--node", "perception_node"), "a bag has none"),
        (("--seconds", "0.2"), "too short"),
        (("--seconds", "-1"), "positive"),
    ],
)
def test_bad_input_gets_one_line(arguments, words, capsys):
    assert app.run(["doctor", *arguments]) == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert len(errors.strip().splitlines()) == 1


def test_help_shows_examples_and_exit_codes(capsys):
    assert app.run(["doctor", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("examples:", "mosaic3d doctor recording.mcap", "exit codes: 0 all well, 1 warnings only, 3 errors"):
        assert word in text
