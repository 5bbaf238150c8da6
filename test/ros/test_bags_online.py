"""A bag gives the same map offline (`mosaic3d map`) and online (played over DDS into perception_node), voxel by voxel."""

import functools
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from mosaic3d_msgs.srv import SaveMap
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

pytest.importorskip("rosbags", reason="reading bags is optional: pip install rosbags")
pytest.importorskip("open3d", reason="generated rooms need open3d")

from mosaic3d_core.cli import main as command_line
from mosaic3d_core.mapping import load_map

from . import bag_writer
from .bag_writer import Recording, write_bag
from .conftest import wait_until
from .robot import Robot

pytestmark = pytest.mark.ros
PLAYER = Path(__file__).with_name("bag_player.py")
REMAPPINGS = {
    "rgb/image": bag_writer.RGB,
    "rgb/camera_info": bag_writer.RGB_INFO,
    "depth/image": bag_writer.DEPTH,
    "depth/camera_info": bag_writer.DEPTH_INFO,
    "odom": "/odom",
}


@pytest.fixture
def robot():
    robot = Robot()
    yield robot
    robot.close()


def settings(**parameters):
    return [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]


@pytest.fixture
def start_mapping(start_node, checkpoint):
    """The node as perception.launch.py starts it for a bag."""

    started = []

    def start(**parameters):
        parameters = {"checkpoint": checkpoint, "use_sim_time": "true", **parameters}
        remappings = [part for name, topic in REMAPPINGS.items() for part in ("-r", f"{name}:={topic}")]
        started.append(start_node("mosaic3d_ros.perception_node", *remappings, *settings(**parameters)))
        return started[-1]

    yield start
    for node in started:  # the next test has a node of the same name
        node.end()


@pytest.fixture
def play(tmp_path):
    """`ros2 bag play` (its stand-in) in a process of its own."""
    started = []

    def play(bag, *arguments):
        log = tmp_path / f"player_{len(started)}.txt"
        topics = (bag_writer.RGB, bag_writer.RGB_INFO, bag_writer.DEPTH, bag_writer.DEPTH_INFO)
        # matched is not yet listening: as with `ros2 bag play`, a moment of delay, or the first frames may be lost
        waits = [part for topic in topics for part in ("--wait-for", topic)]
        command = [sys.executable, str(PLAYER), str(bag), "--clock", "--delay", "1.0", *waits, *arguments]
        with log.open("wb") as output:
            started.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
        return started[-1]

    yield play
    for process in started:
        process.kill()
        process.wait()


class Recorder:
    """`ros2 bag record` for a test: writes the serialized messages of the player's topics as they come."""

    TOPICS: ClassVar = {
        "rgb/image": (Image, bag_writer.RGB),
        "rgb/camera_info": (CameraInfo, bag_writer.RGB_INFO),
        "depth/image": (Image, bag_writer.DEPTH),
        "depth/camera_info": (CameraInfo, bag_writer.DEPTH_INFO),
        "/tf": (TFMessage, "/tf"),
    }

    def __init__(self, robot, folder):
        self.folder = folder
        self.robot = robot
        self.messages = []
        self.ends = [
            robot.node.create_subscription(kind, topic, functools.partial(self.take, name), bag_writer.RELIABLE, raw=True)
            for topic, (kind, name) in self.TOPICS.items()
        ]

    def take(self, name, raw):
        self.messages.append((name, time.time_ns(), bytes(raw)))

    def count(self, name):
        return sum(message[0] == name for message in self.messages)

    def close(self):
        for end in self.ends:
            self.robot.node.destroy_subscription(end)
        kinds = {name: bag_writer.message_name(kind) for kind, name in self.TOPICS.values()}
        return bag_writer.write_raw(self.folder, kinds, self.messages)


def offline(bag, target):
    assert command_line(["map", str(bag), "--out", str(target), "--no-features"]) == 0
    return load_map(target)


def online(robot, target, frames):
    """The map that the node saves once it has fused and encoded so many frames."""

    def is_complete():
        progress = robot.progress
        return progress["fused"] >= frames and progress["encoded_generation"] == progress["generation"]

    wait_until(is_complete, robot.spin, 60.0, f"the fusion of {frames} frames")
    reply = robot.call(SaveMap, "perception_node/save_map", SaveMap.Request(path=str(target)))
    assert reply.success, reply.message
    return load_map(target)


def assert_same_map(left, right):
    assert len(left) > 500
    assert np.array_equal(left.indices, right.indices)
    for field in ("weights", "colors", "centroids", "normals", "last_seen_ns"):
        assert np.array_equal(getattr(left, field), getattr(right, field)), field
    assert np.array_equal(left.up, right.up)


RECORDINGS = {
    "tf": Recording(),
    "odometry of the base, TF to the camera": Recording(poses="odom"),
    "colour later and half as often, bent lenses": Recording(
        frames=24, color_delay_ns=8_000_000, color_every=2, distortion=(-0.2, 0.05, 0.001, -0.001, 0.0)
    ),
    "time jumps ahead": Recording(ahead_ns=3_000_000_000),
}


@pytest.mark.parametrize("recording", RECORDINGS.values(), ids=RECORDINGS)
def test_online_and_offline_give_the_same_voxels(robot, start_mapping, play, tmp_path, recording):
    bag = write_bag(tmp_path / "bag", recording)
    node = start_mapping(pose_source=recording.poses)
    play(bag)  # and /clock stops with it: the node must go on
    alone = recording.frames - recording.frames // recording.color_every
    mapped = online(robot, tmp_path / "online.m3dmap", recording.frames - alone)
    # the last image that is alone still waits for its colour image
    assert robot.progress["dropped"] == ({"no_color": alone - 1} if alone else {})
    assert_same_map(mapped, offline(bag, tmp_path / "offline.m3dmap"))
    assert "Traceback" not in node.output()


def test_a_bag_in_a_loop_keeps_the_map_and_names_the_jump(robot, start_mapping, play, tmp_path):
    bag = write_bag(tmp_path / "bag", Recording(frames=8))
    node = start_mapping()
    play(bag, "--loop")
    wait_until(lambda: robot.progress["fused"] >= 20, robot.spin, 60.0, "a third round")
    assert "Time jumped back by 0.7 s" in node.output()  # the length of the recording
    # what waited when time jumped is counted; all else was fused
    assert set(robot.progress["dropped"]) <= {"time_jump"}
    wait_until(lambda: robot.progress["encoded_generation"] > 8, robot.spin, 30.0, "an encoding")
    reply = robot.ask("floor")
    assert reply.success, reply.message
    assert 1 <= reply.header.stamp.sec <= 2  # the time of the bag, not of the machine
    assert "Traceback" not in node.output()


def test_a_bag_recorded_from_the_players_topics_gives_the_map_of_what_was_played(
    robot, start_node, start_mapping, play, tmp_path
):
    """Record and replay: what rgbd_player sends is written as it comes, with its QoS, and mapped again with /clock."""
    recorder = Recorder(robot, tmp_path / "recorded")
    start_node(
        "mosaic3d_ros.rgbd_player",
        *settings(sequence="room:7", stamps="sequence", publish_clock="true", rate=10.0, wait_for_subscribers_s=60.0),
        *settings(sequence_options="[frames=8, width=160, height=120]", max_frames=8),
    )
    wait_until(lambda: recorder.count(bag_writer.DEPTH) >= 8, robot.spin, 60.0, "a recording of 8 frames")
    bag = recorder.close()
    start_mapping()
    play(bag)
    mapped = online(robot, tmp_path / "online.m3dmap", 8)
    assert robot.progress["dropped"] == {}
    assert_same_map(mapped, offline(bag, tmp_path / "offline.m3dmap"))
