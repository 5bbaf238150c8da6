"""rgbd_player into perception_node, as processes: a real Kinect recording that starts anew, with Odometry as poses."""

import json

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from mosaic3d_ros import qos

from .conftest import wait_until

pytestmark = pytest.mark.ros


class Listener:
    """Keeps the newest progress of perception_node."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        self.node = Node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.progress = {"fused": 0, "dropped": {}}
        self.node.create_subscription(String, "perception_node/progress", self._on_progress, qos.LATCHED)

    def _on_progress(self, message):
        self.progress = json.loads(message.data)

    def spin(self):
        self.executor.spin_once(timeout_sec=0.1)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


def options(**values):
    return [part for name, value in values.items() for part in ("-p", f"{name}:={value}")]


@pytest.mark.slow
def test_real_recording_with_unregistered_color_loops_on_odometry(start_node, checkpoint, listener, shared_data):
    recording = shared_data / "7scenes_redkitchen"
    node = start_node("mosaic3d_ros.perception_node", *options(checkpoint=checkpoint, pose_source="odom"))
    player = start_node(
        "mosaic3d_ros.rgbd_player",
        *options(sequence=recording, pose_output="odom", stamps="sequence", loop="true", rate=4.0, max_frames=8),
        *options(wait_for_subscribers_s=90.0),
    )
    wait_until(lambda: listener.progress["fused"] > 8, listener.spin, 120.0, "the second round")
    assert "Time jumped back" in node.output()
    assert set(listener.progress["dropped"]) <= {"time_jump", "no_color"}
    wait_until(lambda: listener.progress["encoded_generation"] > 0, listener.spin, 60.0, "an encoding")
    assert player.interrupt() == 0
    assert node.interrupt() == 0
    assert "Traceback" not in node.output() + player.output()


@pytest.mark.parametrize(
    ("sequence", "message"),
    [("/nowhere/at_all", "/nowhere/at_all"), ("room:minus_one", "room:minus_one")],
)
def test_sequence_that_cannot_be_opened_ends_with_one_line(start_node, sequence, message):
    player = start_node("mosaic3d_ros.rgbd_player", *options(sequence=sequence))
    assert player.process.wait(60) == 2
    assert "Cannot start" in player.output()
    assert message in player.output()
    assert "Traceback" not in player.output()
