"""From camera topics and poses to frames: every pose source, colour of another camera, and a reason for every drop."""

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.transform_buffer import TransformBuffer
from mosaic3d_core.query import DetectedObject, OrientedBox
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import parameters, qos
from mosaic3d_ros.frame_intake import FrameCounters, FrameIntake, PendingFrames, assemble
from mosaic3d_ros.markers import MarkerMemory
from mosaic3d_ros.pose_inputs import PoseInputs
from mosaic3d_ros.pose_source import TfPoseSource

from .conftest import wait_until

SECOND = 1_000_000_000
DEPTH_CAMERA = PinholeCamera(50.0, 50.0, 31.5, 23.5, 64, 48)
COLOR_CAMERA = PinholeCamera(90.0, 90.0, 47.5, 31.5, 96, 64)


def shifted(x, y=0.0, z=0.0):
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    return pose


class Camera:
    """Feeds an intake by hand and keeps what comes out of it."""

    def __init__(self, capacity=30, timeout_s=60.0):
        self.buffer = TransformBuffer(jump_back_s=0.5)
        self.counters = FrameCounters()
        self.ready, self.jumps, self.sentences = [], [], []
        source = TfPoseSource(self.buffer, "map")
        self.pending = PendingFrames(source, self.buffer, capacity, timeout_s, self.ready.append, self._drop)
        self.intake = FrameIntake(self.pending, self.counters, 0.02, 10, 0.5, self.jumps.append)

    def _drop(self, reason, sentence):
        self.counters.dropped(reason)
        self.sentences.append(sentence)

    @property
    def dropped(self):
        return self.counters.as_dict()["dropped"]

    def send(self, stamp_ns, color_frame="depth", color_camera=DEPTH_CAMERA, info=True, depth_info=None):
        depth_header = convert.make_header("depth", stamp_ns)
        color_header = convert.make_header(color_frame, stamp_ns)
        if info:
            self.intake.add_depth_info(depth_info or convert.camera_info_message(DEPTH_CAMERA, depth_header))
            self.intake.add_color_info(convert.camera_info_message(color_camera, color_header))
        color = np.full((color_camera.height, color_camera.width, 3), 99, np.uint8)
        self.intake.add_color(convert.color_message(color, color_header))
        self.intake.add_depth(convert.depth_message(np.full((48, 64), 1.5, np.float32), depth_header))


def test_frame_waits_for_its_pose_and_later_ones_overtake_nothing():
    camera = Camera()
    camera.send(SECOND)
    camera.send(2 * SECOND)
    assert camera.ready == []
    camera.buffer.set("map", "depth", 0, shifted(0))
    camera.buffer.set("map", "depth", 4 * SECOND, shifted(4))
    camera.pending.poll()
    assert [posed.raw.stamp_ns for posed in camera.ready] == [SECOND, 2 * SECOND]
    np.testing.assert_allclose([posed.T_world_camera[0, 3] for posed in camera.ready], [1.0, 2.0], atol=1e-9)
    assert camera.dropped == {}


def test_pose_that_never_comes_is_counted_and_named():
    camera = Camera(timeout_s=0.0)
    camera.send(SECOND)
    assert camera.dropped == {"no_pose": 1}
    assert "'map' is unknown" in camera.sentences[0]


def test_image_from_before_all_poses_is_too_old():
    camera = Camera(timeout_s=0.0)
    camera.buffer.set("map", "depth", 5 * SECOND, shifted(0))
    camera.send(SECOND)
    assert camera.dropped == {"too_old": 1}


def test_many_that_wait_cost_one_question_each_time():
    camera, asked = Camera(capacity=30), []
    lookup = camera.buffer.lookup
    camera.buffer.lookup = lambda *question: (asked.append(question), lookup(*question))[1]
    for number in range(30):
        camera.send(SECOND + number * SECOND // 30)
    asked.clear()
    camera.buffer.set("map", "depth", SECOND // 2, shifted(0))
    camera.pending.poll()
    assert len(asked) == 1
    assert len(camera.pending) == 30
    camera.buffer.set("map", "depth", SECOND + SECOND // 2, shifted(0))
    camera.pending.poll()
    assert len(asked) == 1 + 16 + 1  # the 16 whose time has come, and the first of the others
    assert [posed.raw.stamp_ns for posed in camera.ready] == [SECOND + number * SECOND // 30 for number in range(16)]


def test_when_too_many_wait_the_oldest_goes():
    camera = Camera(capacity=2)
    for number in (1, 2, 3):
        camera.send(number * SECOND)
    assert camera.dropped == {"queue_full": 1}
    camera.buffer.set("map", "depth", 0, shifted(0))
    camera.buffer.set("map", "depth", 4 * SECOND, shifted(0))
    camera.pending.poll()
    assert [posed.raw.stamp_ns for posed in camera.ready] == [2 * SECOND, 3 * SECOND]


def test_images_that_overtake_the_calibration_wait_for_it():
    camera = Camera()
    camera.buffer.set("map", "depth", 0, shifted(0))
    camera.buffer.set("map", "depth", 4 * SECOND, shifted(0))
    camera.send(SECOND, info=False)
    assert camera.ready == []
    camera.send(2 * SECOND)
    assert [posed.raw.stamp_ns for posed in camera.ready] == [SECOND, 2 * SECOND]
    assert camera.dropped == {}


def test_images_whose_calibration_never_comes_are_counted():
    camera = Camera()
    for number in range(12):  # ten may wait
        camera.send(number * SECOND // 10 + SECOND, info=False)
    assert camera.dropped == {"no_camera_info": 2}


def test_registered_color_has_no_camera_of_its_own():
    camera = Camera()
    camera.buffer.set("map", "depth", SECOND, shifted(1))
    camera.send(SECOND)
    frame = assemble(camera.ready[0])
    assert frame.color_camera is None
    assert frame.T_color_depth is None


def test_color_of_another_camera_brings_its_intrinsics_and_the_transform():
    camera = Camera()
    camera.buffer.set("map", "depth", SECOND, shifted(1))
    camera.send(SECOND, color_frame="color", color_camera=COLOR_CAMERA)
    assert camera.ready == []
    camera.buffer.set("depth", "color", 0, shifted(0.025), is_static=True)
    camera.pending.poll()
    frame = assemble(camera.ready[0])
    assert frame.color_camera == COLOR_CAMERA
    np.testing.assert_allclose(frame.T_color_depth, shifted(-0.025), atol=1e-9)
    np.testing.assert_allclose(frame.T_world_camera, shifted(1), atol=1e-9)


def test_calibration_of_zeros_drops_the_frame_for_its_reason():
    camera = Camera()
    camera.buffer.set("map", "depth", SECOND, shifted(1))
    info = convert.camera_info_message(DEPTH_CAMERA, convert.make_header("depth", SECOND))
    info.k = [0.0] * 9
    camera.send(SECOND, depth_info=info)
    with pytest.raises(FrameError, match="uncalibrated") as caught:
        assemble(camera.ready[0])
    assert caught.value.reason == "bad_intrinsics"


def test_recording_that_starts_anew_goes_on_with_the_new_time():
    camera = Camera()
    for number in range(10, 13):
        camera.buffer.set("map", "depth", number * SECOND, shifted(number))
        camera.send(number * SECOND)
    camera.send(13 * SECOND)
    assert len(camera.ready) == 3
    camera.buffer.set("map", "depth", SECOND, shifted(1))
    camera.send(SECOND)
    camera.send(SECOND + SECOND // 10)
    assert camera.jumps == [pytest.approx(12.0)]
    assert camera.dropped == {"time_jump": 1}
    assert camera.ready[-1].raw.stamp_ns == SECOND
    np.testing.assert_allclose(camera.ready[-1].T_world_camera, shifted(1), atol=1e-9)


class Messages:
    """PoseInputs on a real node, and publishers that feed it, over DDS."""

    def __init__(self, pose_source, **changes):
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        self.node = Node("inputs", context=self.context)
        self.robot = Node("driver", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.robot)
        values = {spec.name: spec.default for spec in parameters.PERCEPTION} | {"pose_source": pose_source, **changes}
        self.bad, self.changes = [], []
        group = MutuallyExclusiveCallbackGroup()
        self.inputs = PoseInputs(
            self.node, values, group, lambda: self.changes.append(1), lambda reason, text: self.bad.append((reason, text))
        )
        kind, topic = {"tf": (TFMessage, "/tf"), "pose": (PoseStamped, "pose"), "odom": (Odometry, "odom")}[pose_source]
        self.out = self.robot.create_publisher(kind, topic, qos.TF)
        self.static = self.robot.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
        wait_until(self.out.get_subscription_count, self.spin, 20.0, "the subscription")

    def spin(self):
        self.executor.spin_once(timeout_sec=0.05)

    def send(self, publisher, message):
        count = len(self.changes) + len(self.bad)
        publisher.publish(message)
        wait_until(lambda: len(self.changes) + len(self.bad) > count, self.spin, 20.0, "the message")

    def send_until(self, publisher, message, condition):
        publisher.publish(message)
        wait_until(condition, self.spin, 20.0, "the effect of the message")

    def knows(self, frame_id, stamp_ns):
        try:
            self.inputs.source.pose_at(frame_id, stamp_ns)
        except LookupError:
            return False
        return True

    def close(self):
        self.inputs.destroy()
        self.executor.shutdown()
        self.node.destroy_node()
        self.robot.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def connect():
    opened = []

    def open_messages(pose_source, **changes):
        opened.append(Messages(pose_source, **changes))
        return opened[-1]

    yield open_messages
    for messages in opened:
        messages.close()


def transform(parent, child, stamp_ns, pose):
    header = convert.make_header(parent, stamp_ns)
    return TransformStamped(header=header, child_frame_id=child, transform=convert.transform_from_matrix(pose))


@pytest.mark.ros
def test_stamped_poses_are_interpolated_at_the_image(connect):
    messages = connect("pose")
    for number in (10, 11):
        header = convert.make_header("map", number * SECOND // 5)
        messages.send(messages.out, PoseStamped(header=header, pose=convert.pose_from_matrix(shifted(number))))
    pose = messages.inputs.source.pose_at("camera", 21 * SECOND // 10)
    np.testing.assert_allclose(pose, shifted(10.5), atol=1e-9)
    with pytest.raises(LookupError, match="poses on topic '/pose'"):
        messages.inputs.source.pose_at("camera", 30 * SECOND)


@pytest.mark.ros
def test_stamped_poses_of_the_base_reach_the_camera_through_tf(connect):
    messages = connect("pose", pose_child_frame="base")
    messages.send(messages.static, TFMessage(transforms=[transform("base", "camera", 0, shifted(0, 0, 0.4))]))
    pose = PoseStamped(header=convert.make_header("map", SECOND), pose=convert.pose_from_matrix(shifted(1)))
    messages.send_until(messages.out, pose, lambda: messages.knows("camera", SECOND))
    np.testing.assert_allclose(messages.inputs.source.pose_at("camera", SECOND), shifted(1, 0, 0.4), atol=1e-9)


@pytest.mark.ros
def test_images_without_a_frame_are_told_to_have_one(connect):
    messages = connect("tf")
    with pytest.raises(LookupError, match="empty frame_id"):
        messages.inputs.source.pose_at("", SECOND)


@pytest.mark.ros
def test_odometry_of_the_base_reaches_the_camera_through_tf(connect):
    messages = connect("odom")
    messages.send(messages.static, TFMessage(transforms=[transform("base", "camera", 0, shifted(0, 0, 0.4))]))
    messages.send(messages.static, TFMessage(transforms=[transform("map", "odom", 0, shifted(100))]))
    odometry = Odometry(header=convert.make_header("odom", SECOND), child_frame_id="base")
    odometry.pose.pose = convert.pose_from_matrix(shifted(1))
    messages.send_until(messages.out, odometry, lambda: messages.knows("camera", SECOND))
    np.testing.assert_allclose(messages.inputs.source.pose_at("camera", SECOND), shifted(101, 0, 0.4), atol=1e-9)


@pytest.mark.ros
@pytest.mark.parametrize("pose_source", ["tf", "pose"])
def test_pose_that_is_not_finite_is_refused_by_name(connect, pose_source):
    messages = connect(pose_source)
    if pose_source == "tf":
        bad = transform("map", "camera", SECOND, shifted(1))
        bad.transform.translation.x = float("nan")
        messages.send(messages.out, TFMessage(transforms=[bad]))
        wait_until(lambda: messages.bad, messages.spin, 20.0, "the refusal")
        assert "'map' <- 'camera'" in messages.bad[0][1]
    else:
        bad = PoseStamped(header=convert.make_header("map", SECOND), pose=convert.pose_from_matrix(shifted(1)))
        bad.pose.position.y = float("inf")
        messages.send(messages.out, bad)
    assert messages.bad[0][0] == "nan_pose"
    assert "NaN or infinite" in messages.bad[0][1]
    with pytest.raises(LookupError):
        messages.inputs.source.pose_at("camera", SECOND)


def found(number, x):
    box = OrientedBox(np.array([x, 0.0, 0.5]), np.eye(3), np.array([0.4, 0.6, 1.0]))
    return DetectedObject(number, "chair", 0.9, box, np.arange(40)), (1.0, 0.0, 0.0)


def test_markers_are_complete_each_time_and_the_vanished_are_deleted_once():
    memory, header = MarkerMemory("instances"), convert.make_header("map", SECOND)
    first = memory.update([found(3, 0.0), found(5, 2.0)], header).markers
    assert {(m.ns, m.id, m.action) for m in first} == {
        (f"instances/{kind}", number, 0) for kind in ("boxes", "labels") for number in (3, 5)
    }
    assert all(m.lifetime.sec == 0 and m.lifetime.nanosec == 0 and m.header.frame_id == "map" for m in first)
    second = memory.update([found(5, 2.0), found(7, 4.0)], header).markers
    assert {(m.id, m.action) for m in second} == {(5, 0), (7, 0), (3, 2)}
    third = memory.update([found(5, 2.0), found(7, 4.0)], header).markers
    assert all(m.action == 0 for m in third)
    assert [m.action for m in memory.clear(header).markers] == [3]
    assert all(m.action == 0 for m in memory.update([], header).markers)


def test_box_marker_spans_the_box():
    markers = MarkerMemory("query").update([found(1, 2.0)], convert.make_header("map", SECOND)).markers
    wires = next(m for m in markers if m.ns == "query/boxes")
    corners = np.array([[p.x, p.y, p.z] for p in wires.points])
    assert len(corners) == 24
    np.testing.assert_allclose(corners.max(axis=0) - corners.min(axis=0), [0.4, 0.6, 1.0])
    assert wires.pose.position.x == pytest.approx(2.0)
