"""rgbd_player into perception_node, as processes: a real Kinect recording that starts anew, with Odometry as poses."""

import json

import numpy as np
import pytest
import rclpy
from mosaic3d_msgs.srv import SaveMap
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from scipy.spatial import cKDTree
from std_msgs.msg import String

from mosaic3d_core.mapping import load_map
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


def map_through(start_node, checkpoint, listener, path, player_options, node_options):
    """The map that a node makes of a generated room as one named camera sends it."""
    listener.progress = {"fused": 0, "dropped": {}, "encoded_generation": -1}
    node = start_node(
        "mosaic3d_ros.perception_node",
        *options(checkpoint=checkpoint, cameras="['front']", pose_timeout_s=10.0, fusion_queue_size=100, **node_options),
    )
    player = start_node(
        "mosaic3d_ros.rgbd_player",
        *options(sequence="room:3", sequence_options="['frames=20', 'width=160', 'height=120']", rate=5.0, camera="front"),
        *options(wait_for_subscribers_s=90.0, **player_options),
    )
    wait_until(lambda: player.process.poll() is not None, listener.spin, 120.0, "the end of the recording")

    def ready():
        counts = listener.progress
        return counts["fused"] >= 18 and counts["encoded_generation"] == counts["generation"]

    wait_until(ready, listener.spin, 60.0, "the map")
    assert listener.progress["cameras"]["front"]["fused"] == listener.progress["fused"]
    assert set(listener.progress["dropped"]) <= {"no_color"}
    client = listener.node.create_client(SaveMap, "perception_node/save_map")
    assert client.wait_for_service(30.0)
    future = client.call_async(SaveMap.Request(path=str(path)))
    wait_until(future.done, listener.spin, 30.0, "the saved map")
    assert future.result().success
    assert node.interrupt() == 0
    return load_map(path)


@pytest.mark.slow
def test_a_driver_with_a_lens_and_compressed_topics_gives_the_map_of_the_plain_one(start_node, checkpoint, listener, tmp_path):
    """As JPEG and RVL, best effort, through a lens, against raw ideal images of the same room."""
    plain = map_through(start_node, checkpoint, listener, tmp_path / "plain.m3dmap", {}, {})
    bent = map_through(
        start_node,
        checkpoint,
        listener,
        tmp_path / "bent.m3dmap",
        {
            "rgb_transport": "jpeg",
            "depth_transport": "'compressedDepth rvl'",
            "best_effort": "true",
            "distortion": "[-0.1, 0.02, 0.0005, 0.0, 0.0]",
        },
        {"rgb_transport": "compressed", "depth_transport": "compressedDepth"},
    )
    distance, nearest = cKDTree(plain.centroids).query(bent.centroids)
    # depth comes from the nearest pixel twice, so a point may lie one pixel aside: some millimetres on a surface
    assert (distance < plain.voxel_size_m).mean() > 0.95
    assert 0.8 < len(bent) / len(plain) < 1.2
    near = distance < plain.voxel_size_m
    assert np.median(np.abs(bent.colors[near] - plain.colors[nearest[near]])) < 5


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
