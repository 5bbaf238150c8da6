"""/diagnostics of a node and its own warnings: the doctor's checks on what the node sees itself."""

import json

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor

from mosaic3d_core.doctor import CODES, Settings
from mosaic3d_core.doctor.observations import Endpoint, NodeState, Transport, role_kinds
from mosaic3d_core.doctor.self_report import read_report, since
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import parameters
from mosaic3d_ros.diagnostics import statuses
from mosaic3d_ros.self_check import NodeFacts, SelfCheck, settings_from, transport_warning

from .conftest import wait_until
from .doctor_rig import Faults, FaultyCamera, Graph, StandIn

pytestmark = pytest.mark.ros
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
CAMERA = PinholeCamera(50.0, 50.0, 31.5, 23.5, 64, 48)
ROLES = ("rgb/image", "depth/image", "rgb/camera_info", "depth/camera_info")


class Robot:
    """A node's look at itself, with time that the test sets."""

    def __init__(self, publishers=1, **facts):
        self.time_s = 100.0
        self.facts = {"model_loaded": True, "received": {}, **facts}
        self.check = SelfCheck(
            "/robot/perception_node",
            {role: f"/{role}" for role in (*ROLES, "tf")},
            Settings(pose_source="static", use_sim_time=False),
            lambda: NodeFacts(**self.facts),
            lambda topic: () if topic == "/clock" else (Endpoint("/driver", role_kinds(topic[1:])[0]),) * publishers,
            lambda: START + round(self.time_s * 1e9),
            window_s=5.0,
            clock_s=lambda: self.time_s,
            transport=Transport("/robot/perception_node", 128 << 20),
        )

    def run(self, seconds, silent=(), fuse=True, encoding="16UC1"):
        """Frames at 10 Hz."""
        for _ in range(round(seconds * 10)):
            self.time_s += 0.1
            header = convert.make_header("camera", START + round(self.time_s * 1e9))
            depth = convert.depth_message(np.ones((48, 64), np.float32), header)
            depth.encoding = encoding
            info = convert.camera_info_message(CAMERA, header)
            color = convert.color_message(np.zeros((48, 64, 3), np.uint8), header)
            for role, message in zip(ROLES, (color, depth, info, info)):
                if role not in silent:
                    self.check.see(role, message)
                    self.facts["received"] = {**self.facts["received"], role: self.facts["received"].get(role, 0) + 1}
            if fuse:
                self.facts["fused"] = self.facts.get("fused", 0) + 1

    def codes(self):
        return [f.code for f in self.check.findings()]


def test_a_node_that_fuses_warns_of_nothing():
    robot = Robot()
    robot.run(6.0)
    assert robot.codes() == []


def test_a_camera_that_stops_and_returns_is_told_and_forgotten():
    robot = Robot()
    robot.run(6.0)
    robot.time_s += 5.5
    assert robot.codes() == ["topic_silent"] * 2  # calibrations stay
    assert "No messages on '/rgb/image' (1 publisher) in 5 s." in robot.check.warning()
    assert "'ros2 topic hz'" in robot.check.warning()
    robot.run(2.0)
    assert robot.codes() == []


def test_a_warning_is_the_first_cause_and_names_the_others():
    robot = Robot(publishers=0)
    robot.time_s += 6.0
    warning = robot.check.warning()
    assert warning.startswith("No messages on '/rgb/image': nobody publishes it.")
    assert "[topic_absent]" in warning
    assert (
        "3 more: topic_absent /depth/image, topic_absent /rgb/camera_info, topic_absent /depth/camera_info; see /diagnostics"
        in warning
    )


def test_frames_without_effect_are_explained_by_their_drops():
    robot = Robot()
    robot.run(6.0, fuse=False)
    robot.facts |= {"dropped": {"bad_frame": 40}}
    robot.check.note_drop("The frame is strange.")
    assert robot.codes() == ["nothing_fused"]
    assert "bad_frame 40 (the last: The frame is strange)" in robot.check.warning()


def test_a_failure_is_told_for_a_while():
    robot = Robot()
    robot.run(6.0)
    robot.check.note_failure(MemoryError("3 GB are not there"))
    assert robot.codes() == ["worker_failed"]
    assert "MemoryError: 3 GB are not there" in robot.check.warning()
    robot.run(11.0)
    assert robot.codes() == []


def test_a_paused_node_does_not_warn_but_says_so():
    robot = Robot(paused=True)
    robot.run(6.0, fuse=False)
    assert robot.codes() == ["node_paused"]


def test_an_inactive_node_does_not_complain_of_inputs():
    robot = Robot(publishers=0, lifecycle="inactive")
    robot.time_s += 6.0
    assert robot.codes() == []


def test_an_unconfigured_node_tells_why_its_model_is_missing():
    robot = Robot(lifecycle="unconfigured", model_loaded=False)
    assert robot.codes() == []
    robot.facts["last_error"] = "No such checkpoint: /nowhere."
    assert robot.codes() == ["model_not_loaded"]
    assert "(No such checkpoint: /nowhere)" in robot.check.warning()


def test_restart_forgets_and_takes_other_inputs():
    robot = Robot()
    robot.run(6.0, encoding="8UC1")
    assert "encoding_unsupported" in robot.codes()
    robot.check.restart({"left/depth/image": "/left/depth/image"}, Settings(pose_source="static"))
    assert robot.codes() == []
    robot.time_s += 6.0
    assert robot.codes() == ["topic_silent"]


def test_statuses_hold_rates_drops_age_map_encoder_and_device():
    robot = Robot(
        dropped={"no_pose": 3}, fused=7, map_voxels=1234, generation=9, encoded_generation=8, encode_ms=261.04, device="cuda:0"
    )
    robot.run(3.0)
    made = {status.name: status for status in statuses(robot.check, START)}
    assert list(made) == [f"robot/perception_node: {area}" for area in ("node", "inputs", "poses", "map")]
    values = {pair.key: pair.value for status in made.values() for pair in status.values}
    expected = {
        "topic depth/image": "/depth/image", "received rgb/image": "30", "fused": "37", "dropped no_pose": "3",
        "map voxels": "1234", "generation": "9", "encoded generation": "8", "encode ms": "261.0", "device": "cuda:0",
        "lifecycle": "active", "model loaded": "true", "paused": "false", "shared memory bytes": str(128 << 20),
        "pose source": "static", "map frame": "map",
    }  # fmt: skip
    assert {key: values[key] for key in expected} == expected
    assert float(values["rate depth/image Hz"]) == pytest.approx(10.0)
    assert float(values["memory MB"]) > 10
    assert all(status.hardware_id for status in made.values())


def test_what_the_node_writes_the_doctor_reads():
    robot = Robot(dropped={"no_pose": 3}, fused=7, paused=True)
    robot.check.note_drop("No pose.")
    robot.check.note_failure(MemoryError("3 GB"))
    robot.run(1.0)
    values = {pair.key: pair.value for status in statuses(robot.check, START) for pair in status.values}
    report = read_report("/robot/perception_node", values)
    assert report.topics == robot.check.topics
    assert report.transport == robot.check.transport
    expected = NodeState(
        "/robot/perception_node", "active", True, True, True, 10, 17, {"no_pose": 3}, "No pose.", "MemoryError: 3 GB"
    )
    assert report.state == expected


def test_counts_between_two_reports():
    earlier = NodeState("/n", received=10, fused=4, dropped={"no_pose": 6})
    later = NodeState("/n", received=30, fused=20, dropped={"no_pose": 6, "queue_full": 4})
    change = since(earlier, later)
    assert (change.received, change.fused, change.dropped) == (20, 16, {"queue_full": 4})
    assert since(NodeState("/n"), later).received is None


def test_strange_diagnostics_of_others_are_survived():
    report = read_report("/n", {"fused": "-1", "received depth/image": "nan", "dropped x": "1e9", "shared memory bytes": "many"})
    assert (report.state.received, report.state.fused, dict(report.state.dropped)) == (0, 0, {})
    assert report.transport.segment_bytes is None


def test_settings_are_those_of_the_parameters():
    defaults = {spec.name: spec.default for spec in parameters.perception_specs()}
    assert settings_from(defaults, None) == Settings()
    fixed = settings_from({**defaults, "T_color_depth": [0.0] * 6 + [1.0], "map_frame": "world"}, True)
    assert (fixed.has_extrinsics, fixed.map_frame, fixed.use_sim_time) == (True, "world", True)


def test_missing_transport_profile_of_this_process_is_named(monkeypatch):
    assert transport_warning() is None
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE")
    assert "config/fastdds.xml" in transport_warning()


@pytest.mark.parametrize(
    ("faults", "level", "area", "word"),
    [
        (Faults(), DiagnosticStatus.OK, "inputs", "depth/image 20"),
        (Faults(info_fx=0.0), DiagnosticStatus.ERROR, "inputs", "no usable K"),
        (Faults(depth_value=0), DiagnosticStatus.WARN, "inputs", "0.0 % of the pixels"),
        (Faults(edges=()), DiagnosticStatus.ERROR, "poses", "nobody publishes"),
    ],
    ids=["sound", "K zero", "no depth", "no TF"],
)
def test_levels_on_a_true_graph(faults, level, area, word):
    newest = {}
    with Graph() as graph:
        node = rclpy.create_node("monitor")
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: newest.update({s.name: (m, s) for s in m.status}), 10)
        graph.add(FaultyCamera(faults))
        graph.add(StandIn())

        def status():
            return newest.get(f"perception_node: {area}", (None, None))[1]

        wait_until(
            lambda: status() and status().level == level and word.split()[0] in status().message,
            lambda: executor.spin_once(timeout_sec=0.1),
            20.0,
            f"level {level} in {json.dumps({k: str(v) for k, v in newest.items()})[:2000]}",
        )
        message, found = newest[f"perception_node: {area}"]
        executor.shutdown()
        node.destroy_node()
    assert message.header.stamp.sec > 0
    codes = {pair.key.removeprefix("finding ") for pair in found.values if pair.key.startswith("finding ")}
    assert codes <= {entry.code for entry in CODES}
    assert bool(codes) == (level != DiagnosticStatus.OK)
    if word.split()[0] != "depth/image":
        assert word in found.message
    others = [s.level for _, s in newest.values() if s.name != f"perception_node: {area}"]
    assert others == [DiagnosticStatus.OK] * 3
