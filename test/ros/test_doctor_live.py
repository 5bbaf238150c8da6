"""A live graph over Fast DDS with faults of the camera or the node: each is told; a sound graph is well."""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser

import pytest
import rclpy
from sensor_msgs.msg import CompressedImage

from mosaic3d_core.cli import cmd_doctor
from mosaic3d_core.doctor import examine, transport_of
from mosaic3d_core.doctor.report import EXIT_ERRORS, exit_code
from mosaic3d_ros import conversions as convert
from mosaic3d_ros.doctor.__main__ import wanted_from
from mosaic3d_ros.doctor.live import LiveObserver, SeveralNodesError

from .conftest import ROOT, wait_until
from .doctor_rig import Faults, FaultyCamera, Graph, StandIn

pytestmark = pytest.mark.ros
COMMAND = [sys.executable, "-m", "mosaic3d_core.cli", "doctor"]


def observe(*options, environment=None, patience_s=0.8):
    """What the observer of the command sees in a second, in this process."""
    parser = ArgumentParser()
    cmd_doctor.add_options(parser)
    wanted = wanted_from(parser.parse_args(["--seconds", "1.1", *options]))
    node = rclpy.create_node("doctor_under_test", start_parameter_services=False)
    observer = LiveObserver(node, transport_of(environment), discovery_s=(0.3, patience_s))
    try:
        return observer.observe(wanted)
    finally:
        observer.close()
        node.destroy_node()


def diagnose(camera=None, node=None, options=(), **faults):
    """Codes with subjects, and all sentences, of a graph with a camera and a node."""
    with Graph() as graph:
        graph.add(FaultyCamera(camera or Faults(**faults)))
        if node is not None:
            graph.add(StandIn(**node))
        found = examine(observe(*options))
    return {(f.code, f.subject) for f in found}, " ".join(f"{f.problem} {f.remedy}" for f in found)


def test_a_sound_graph_is_well_for_the_command():
    with Graph() as graph:
        graph.add(FaultyCamera(Faults()))
        graph.add(StandIn())
        result = subprocess.run(
            [*COMMAND, "--json", "-", "--seconds", "2"], capture_output=True, text=True, timeout=60, check=False
        )
    answer = json.loads(result.stdout)
    assert answer["findings"] == []
    assert (result.returncode, answer["verdict"], answer["node"]) == (0, "well", "/perception_node")
    assert answer["inputs"]["depth/image"]["encodings"] == ["16UC1"]
    assert answer["inputs"]["rgb/image"]["rate_hz"] == pytest.approx(20.0, rel=0.3)
    assert result.stderr == ""


def test_the_command_tells_a_fault_and_its_cure(tmp_path):
    with Graph() as graph:
        graph.add(FaultyCamera(Faults(info_fx=0.0)))
        graph.add(StandIn())
        command = [*COMMAND, "--seconds", "2", "--json", str(tmp_path / "found.json")]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == EXIT_ERRORS
    assert "ERROR info_uncalibrated" in result.stdout
    assert "-> Publish its calibration" in result.stdout
    assert "2 errors; the first is the first cause." in result.stdout
    codes = [f["code"] for f in json.loads((tmp_path / "found.json").read_text())["findings"]]
    assert codes == ["info_uncalibrated"] * 2


def test_interrupt_ends_the_command_cleanly():
    with subprocess.Popen([*COMMAND, "--seconds", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                          start_new_session=True) as process:  # fmt: skip
        time.sleep(3.0)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: both processes get it
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_nobody_in_sight():
    rclpy.init(args=[])
    try:
        found = examine(observe())
    finally:
        rclpy.try_shutdown()
    assert [f.code for f in found] == ["no_graph"]
    assert os.environ["ROS_DOMAIN_ID"] in found[0].problem


def test_a_camera_can_be_looked_at_before_the_node_runs():
    names = {"rgb/image": "/cam/color/image_raw", "depth/image": "/cam/depth/image_raw"}
    with Graph() as graph:
        graph.add(FaultyCamera(Faults(names=names)))
        found = examine(observe())
        named = examine(observe("--rgb", "/cam/color/image_raw", "--depth", "/cam/depth/image_raw"))
    assert [(f.code, f.subject) for f in found] == [
        ("node_absent", "perception_node"),
        ("topic_absent", "/rgb/image"),
        ("topic_absent", "/depth/image"),
    ]
    assert "rgb:=/cam/color/image_raw" in found[1].remedy
    assert "depth:=/cam/depth/image_raw" in found[2].remedy
    assert [f.code for f in named] == ["node_absent"]


def test_topics_that_are_absent_silent_or_not_connected():
    faults = Faults(absent=("rgb/camera_info",), silent=("rgb/image",), best_effort=("depth/image",))
    found, text = diagnose(faults, {"reliable": True, "reliable_images": True})
    assert found == {
        ("topic_absent", "/rgb/camera_info"),
        ("topic_silent", "/rgb/image"),
        ("qos_incompatible", "/depth/image"),
    }
    assert "/camera_driver" in text
    assert "set the node's parameter reliable_images to false" in text.lower()


def test_images_and_calibrations_that_do_not_fit():
    found, _ = diagnose(node={}, depth_encoding="8UC1", info_width=320, info_frame="lens")
    assert found == {
        ("encoding_unsupported", "/depth/image"),
        ("info_size", "/rgb/image"),
        ("info_size", "/depth/image"),
        ("frame_differs", "/rgb/image"),
        ("frame_differs", "/depth/image"),
    }


def test_uncalibrated_cameras_and_empty_depth():
    found, _ = diagnose(node={}, info_fx=0.0, depth_value=0)
    assert found == {
        ("info_uncalibrated", "/rgb/camera_info"),
        ("info_uncalibrated", "/depth/camera_info"),
        ("depth_empty", "/depth/image"),
    }


def test_colour_that_is_half_a_period_late():
    found, text = diagnose(node={}, color_shift_s=0.5 / 20.0)
    assert {code for code, _ in found} <= {"stamps_unsynchronised", "stamps_partly_unsynchronised"}
    assert found
    assert "within 20 ms" in text


def test_stamps_of_another_clock_and_clock_that_nobody_uses():
    found, text = diagnose(node={}, all_shift_s=-7200.0, clock=True)
    assert found == {
        ("clock_unused", "/clock"),
        ("stamp_age", "/rgb/image"),
        ("stamp_age", "/depth/image"),
        ("tf_gap", "'map' <- 'base'"),
        ("tf_gap", "'base' <- 'camera'"),
    }
    assert "2.0 h behind this machine's clock" in text


def test_simulated_time_without_a_clock():
    found, _ = diagnose(node={"use_sim_time": True})
    assert ("clock_absent", "/clock") in found


def test_images_without_time():
    found, _ = diagnose(node={}, zero_stamps=True)
    assert found == {("stamp_zero", "/rgb/image"), ("stamp_zero", "/depth/image")}


@pytest.mark.parametrize(
    ("edges", "finding", "word"),
    [
        ((), ("tf_absent", "/tf"), "'map' <- 'camera'"),
        ((("map", "base", 0.0),), ("tf_unknown_frame", "camera"), "known frames: base, map"),
        ((("map", "odom", 0.0), ("base", "camera", 0.0)), ("tf_disconnected", "'map' <- 'camera'"), "'map' <- 'base'"),
        ((("map", "base", 5.0), ("base", "camera", 0.0)), ("tf_gap", "'map' <- 'base'"), "is 5.0 s older"),
        ((("map", "base", 0.0), ("odom", "base", 0.0), ("base", "camera", 0.0)), ("tf_several_parents", "base"), "'odom'"),
    ],
    ids=["none", "camera missing", "two trees", "old edge", "two parents"],
)
def test_gaps_in_tf_are_named(edges, finding, word):
    found, text = diagnose(node={}, edges=edges)
    assert found == {finding}
    assert word in text


def test_what_the_node_says_of_itself():
    found, _ = diagnose(node={"facts": {"model_loaded": False, "paused": True, "last_error": "MemoryError: 3 GB"}})
    assert found == {
        ("model_not_loaded", "/perception_node"),
        ("node_paused", "/perception_node"),
        ("worker_failed", "/perception_node"),
    }


def test_a_terminal_without_the_transport_profile_is_told():
    with Graph() as graph:
        graph.add(FaultyCamera(Faults()))
        found = examine(observe(environment={}))
    assert [f.code for f in found] == ["node_absent", "transport_small"]
    assert "512 KB" in found[1].problem


def test_compressed_colour_is_looked_at_as_it_comes():
    with Graph() as graph:
        camera = graph.add(FaultyCamera(Faults(absent=("rgb/image",))))
        publisher = camera.create_publisher(CompressedImage, "/rgb/image/compressed", 10)

        def send():
            header = convert.make_header("camera", camera.get_clock().now().nanoseconds)
            publisher.publish(CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=b"\xff\xd8\xff"))

        camera.create_timer(0.05, send)
        seen = observe("--rgb", "/rgb/image/compressed")
    assert [f.code for f in examine(seen)] == ["node_absent"]
    assert seen.topics["rgb/image"].encodings == ("rgb8; jpeg compressed bgr8",)


@pytest.mark.slow
def test_the_real_node_that_was_not_configured_is_told(start_node):
    process = start_node("mosaic3d_ros.perception_node", "-p", "autostart:=false")
    with Graph() as graph:
        graph.add(FaultyCamera(Faults()))
        wait_until(lambda: "Waiting to be configured" in process.output(), lambda: time.sleep(0.1), 60.0, "the start")
        found = examine(observe(patience_s=10.0))
    assert process.interrupt() == 0
    assert [f.code for f in found] == ["node_inactive", "model_not_loaded"]
    assert "ros2 lifecycle set /perception_node configure" in found[0].remedy


@pytest.mark.slow
def test_the_real_node_with_a_player_is_well(start_node, checkpoint):
    options = ("-p", "sequence:=room:7", "-p", "sequence_options:=['frames=20','width=160','height=120']", "-p", "loop:=true")
    start_node("mosaic3d_ros.rgbd_player", *options, "-p", "rate:=5.0")
    node = start_node("mosaic3d_ros.perception_node", "-p", f"checkpoint:={checkpoint}")
    wait_until(lambda: "Ready" in node.output(), lambda: time.sleep(0.1), 120.0, "the start")
    with Graph():
        wait_until(lambda: examine(observe(patience_s=10.0)) == (), lambda: None, 60.0, "a graph in which all is well")
    assert node.interrupt() == 0


def test_one_of_two_robots_is_chosen_by_its_namespace():
    with Graph() as graph:
        for robot in ("one", "two"):
            graph.add(FaultyCamera(Faults(absent=("rgb/image",) if robot == "two" else ()), namespace=robot))
            graph.add(StandIn(namespace=robot))
        with pytest.raises(SeveralNodesError, match="/one/perception_node, /two/perception_node"):
            observe()
        found = examine(observe("--namespace", "/two"))
        assert examine(observe("--node", "/one/perception_node")) == ()
    assert [(f.code, f.subject) for f in found] == [("topic_absent", "/two/rgb/image")]
    assert exit_code(found) == EXIT_ERRORS
