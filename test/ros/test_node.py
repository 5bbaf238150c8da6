"""perception_node as a process: what a client, a late viewer and Ctrl-C get from it."""

import numpy as np
import pytest
from mosaic3d_msgs.srv import LoadMap, SaveMap, SetVocabulary
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.mapping import load_map
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import qos

from .conftest import wait_until
from .robot import Robot

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def process(start_node, checkpoint):
    return start_node("mosaic3d_ros.perception_node", "-p", f"checkpoint:={checkpoint}", "-p", "watchdog_period_s:=1.0",
                      "-p", "pose_timeout_s:=0.5")  # fmt: skip


@pytest.fixture(scope="module")
def robot(process):
    robot = Robot()
    yield robot
    robot.close()


@pytest.fixture(scope="module")
def mapped(robot):
    """A robot whose node has an encoded map."""
    robot.call(SetBool, "perception_node/pause", SetBool.Request(data=False))
    wait_until(robot.connected, robot.spin, 60.0, "all subscriptions")
    robot.send_until(lambda: robot.progress["fused"] >= 5, "fusion")
    wait_until(lambda: robot.progress["encoded_generation"] == robot.progress["generation"], robot.spin, 60.0, "encoding")
    return robot


def test_query_before_the_first_map_says_so(robot):
    reply = robot.ask("chair")
    assert not reply.success
    assert "no map yet" in reply.message
    reply = robot.call(SaveMap, "perception_node/save_map", SaveMap.Request(path="nowhere.m3dmap"))
    assert not reply.success
    assert "no map yet" in reply.message


def test_missing_inputs_are_named(robot, process):
    wait_until(lambda: "No messages on '/rgb/image'" in process.output(), robot.spin, 30.0, "a warning about the topics")


def test_missing_poses_are_named(robot, process):
    wait_until(robot.connected, robot.spin, 60.0, "all subscriptions")
    robot.send_until(lambda: "the node waits for 'map' <- 'camera'" in process.output(), "the warning", pose=False)
    wait_until(lambda: robot.progress["dropped"].get("no_pose"), robot.spin, 30.0, "the count")


def test_query_is_answered(mapped):
    reply = mapped.ask("floor", "box")
    assert reply.success, reply.message
    assert reply.header.frame_id == "map"
    assert reply.map_generation > 0
    assert all(0 <= found.score <= 1 and found.id >= 1 for found in reply.objects)


def test_any_object_carries_points_when_asked(mapped):
    reply = mapped.ask("floor", "box", "table", min_score=0.001, max_objects=1, include_points=True)
    assert reply.success
    for found in reply.objects:
        assert found.points.width == found.num_voxels
        assert min(found.size.x, found.size.y, found.size.z) >= 0


@pytest.mark.parametrize(
    ("texts", "fields", "message"),
    [
        ([], {}, "at least one"),
        ([""], {}, "empty"),
        (["x" * 10_000], {}, "1000"),
        (["chair"], {"min_score": 1.5}, "1.5"),
        (["chair"], {"frame_id": "mars"}, "'mars' is unknown"),
    ],
    ids=["empty list", "empty text", "10 kB text", "min_score 1.5", "unknown frame"],
)
def test_bad_request_gets_a_sentence(mapped, texts, fields, message):
    reply = mapped.ask(*texts, **fields)
    assert not reply.success
    assert message in reply.message
    assert not reply.objects


@pytest.mark.parametrize(("kind", "topic"), [(PointCloud2, "labelled_cloud"), (MarkerArray, "instances")])
def test_late_subscriber_gets_the_newest_at_once(mapped, kind, topic):
    got = []
    subscription = mapped.node.create_subscription(kind, f"perception_node/{topic}", got.append, qos.LATCHED)
    wait_until(lambda: got, mapped.spin, 10.0, f"a latched message on {topic}")
    mapped.node.destroy_subscription(subscription)
    if kind is PointCloud2:
        rows = convert.points_from_cloud(got[-1])
        assert len(rows) > 500
        assert np.abs(rows["z"]).min() < 0.05


def test_unknown_encoding_is_counted_and_the_node_goes_on(mapped):
    mapped.send_until(lambda: mapped.progress["dropped"].get("bad_encoding"), "the drop", encoding="8UC1")
    before = mapped.progress["fused"]
    mapped.send_until(lambda: mapped.progress["fused"] > before, "fusion afterwards")


def test_sizes_that_disagree_are_counted(mapped):
    other = PinholeCamera(130.0, 130.0, 99.5, 59.5, 200, 120)
    mapped.send_until(lambda: mapped.progress["dropped"].get("size_mismatch"), "the drop", camera=other)
    before = mapped.progress["fused"]
    mapped.send_until(lambda: mapped.progress["fused"] > before, "fusion afterwards")


def test_vocabulary_can_be_replaced(mapped):
    reply = mapped.call(SetVocabulary, "perception_node/set_vocabulary", SetVocabulary.Request(texts=["floor", "red box"]))
    assert reply.success
    assert "2 words" in reply.message
    reply = mapped.call(SetVocabulary, "perception_node/set_vocabulary", SetVocabulary.Request(texts=["floor", " "]))
    assert not reply.success
    assert mapped.call(SetVocabulary, "perception_node/set_vocabulary", SetVocabulary.Request()).success


def test_map_is_saved_to_a_file(mapped, tmp_path):
    target = tmp_path / "room.m3dmap"
    reply = mapped.call(SaveMap, "perception_node/save_map", SaveMap.Request(path=str(target)))
    assert reply.success, reply.message
    assert len(load_map(target)) > 500
    again = mapped.call(SaveMap, "perception_node/save_map", SaveMap.Request(path=str(target)))
    assert not again.success
    assert "overwrite" in again.message


def test_a_saved_map_is_loaded_back_and_answers(mapped, tmp_path):
    target = tmp_path / "room.m3dmap"
    assert mapped.call(SaveMap, "perception_node/save_map", SaveMap.Request(path=str(target))).success
    assert mapped.call(Trigger, "perception_node/reset_map", Trigger.Request()).success
    assert not mapped.ask("floor").success
    reply = mapped.call(LoadMap, "perception_node/load_map", LoadMap.Request(path=str(target)))
    assert reply.success, reply.message
    assert f"{len(load_map(target))} voxels" in reply.message
    assert "objects keep their ids" in reply.message, reply.message
    wait_until(lambda: mapped.ask("floor").success, mapped.spin, 30.0, "an answer from the loaded map")
    before = mapped.progress["fused"]
    mapped.send_until(lambda: mapped.progress["fused"] > before, "fusion into the loaded map")
    for path in (tmp_path / "none.m3dmap", __file__):
        reply = mapped.call(LoadMap, "perception_node/load_map", LoadMap.Request(path=str(path)))
        assert not reply.success
        assert "The map stays as it is" in reply.message
    assert mapped.ask("floor").success


def test_pause_and_reset(mapped):
    assert mapped.call(SetBool, "perception_node/pause", SetBool.Request(data=True)).success
    mapped.send_until(lambda: mapped.progress["dropped"].get("paused"), "a paused frame")
    assert mapped.call(Trigger, "perception_node/reset_map", Trigger.Request()).success
    assert "no map yet" in mapped.ask("chair").message
    assert mapped.call(SetBool, "perception_node/pause", SetBool.Request(data=False)).success
    mapped.send_until(lambda: mapped.ask("chair").success, "a new map")


def test_interrupt_ends_the_process_cleanly(mapped, process):
    assert process.interrupt() == 0
    assert "Fused" in process.output()
    assert "Traceback" not in process.output()


@pytest.mark.parametrize(
    ("option", "message"),
    [("pose_source:=gps", "tf, pose, odom"), ("checkpoint:=/nowhere/model.safetensors", "/nowhere/model.safetensors")],
)
def test_wrong_setting_ends_with_one_line(start_node, checkpoint, option, message):
    settings = ["-p", f"checkpoint:={checkpoint}"] if not option.startswith("checkpoint") else []
    node = start_node("mosaic3d_ros.perception_node", *settings, "-p", option)
    assert node.process.wait(60) == 2
    assert "Cannot start" in node.output()
    assert message in node.output()
    assert "Traceback" not in node.output()
