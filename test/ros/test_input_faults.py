"""Hostile and unlucky inputs: every frame is accounted for, every refusal has one reason, nothing large is allocated."""

import resource

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped, TransformStamped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from tf2_msgs.msg import TFMessage

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.transform_buffer import TransformBuffer, TransformLookupError
from mosaic3d_core.imaging import FrameReader
from mosaic3d_core.imaging.encode import encode_compressed_depth, encode_picture
from mosaic3d_core.imaging.raw_images import KNOWN_COLOR_ENCODINGS
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import parameters
from mosaic3d_ros.frame_counters import FrameCounters
from mosaic3d_ros.frame_intake import FrameIntake, PendingFrames
from mosaic3d_ros.frames import assemble
from mosaic3d_ros.pose_inputs import PoseInputs
from mosaic3d_ros.pose_source import StaticPoseSource, TfPoseSource

MS = 1_000_000
SECOND = 1000 * MS
CAMERA = PinholeCamera(20.0, 20.0, 7.5, 5.5, 16, 12)
#: Growth of the process over a whole fuzz run: far below one image of the sizes that messages lie about (up to 2^64 bytes).
ALLOWED_GROWTH_KB = 200_000

REASONS = {
    "bad_encoding", "bad_image_size", "empty_image", "image_too_large", "bad_intrinsics", "size_mismatch", "bad_compression",
    "bad_roi", "unknown_distortion", "no_camera_info", "no_color", "no_pose", "too_old", "time_jump", "queue_full", "stopped",
}  # fmt: skip


class Rig:
    """An intake, and a fusion that reads frames as the node's does."""

    def __init__(self, capacity=4, timeout_s=60.0, queue=3, static=False, rectified=False):
        self.counters = FrameCounters()
        self.buffer = TransformBuffer(jump_back_s=0.5)
        poses = StaticPoseSource(np.eye(4)) if static else TfPoseSource(self.buffer, "map")
        drop = lambda reason, _text: self.counters.dropped(reason, "front")  # noqa: E731
        self.pending = PendingFrames(poses, self.buffer, capacity, timeout_s, self.fuse, drop)
        reader = FrameReader(rectified, rectified)
        self.intake = FrameIntake(self.pending, self.counters, 0.02, queue, 0.5, lambda _s: None, "front", reader)

    def fuse(self, posed):
        try:
            assemble(posed)
        except FrameError as error:
            self.counters.dropped(error.reason, "front")
        else:
            self.counters.fused("front")

    def check(self):
        """received = fused + dropped + waiting, in all and for the camera."""
        counts = self.counters.as_dict()
        for scope in (counts, counts.get("cameras", {}).get("front", counts)):
            accounted = scope["fused"] + sum(scope["dropped"].values()) + self.intake.waiting
            assert scope["received"].get("depth/image", 0) == accounted
            assert set(scope["dropped"]) <= REASONS
        used = counts["received"].get("rgb/image", 0) - counts["unused_color"] - self.intake.waiting_color
        assert 0 <= used <= counts["received"].get("depth/image", 0)


def messages(stamp_ns=SECOND):
    header = convert.make_header("camera", stamp_ns)
    info = convert.camera_info_message(CAMERA, header)
    color = convert.color_message(np.full((12, 16, 3), 90, np.uint8), header)
    depth = convert.depth_message(np.full((12, 16), 1.5, np.float32), header)
    return color, depth, info


moments = st.integers(0, 40)
events = st.lists(
    st.one_of(
        st.tuples(st.just("depth"), moments),
        st.tuples(st.just("color"), moments),
        st.tuples(st.just("pose"), moments),
        st.tuples(st.just("bad depth"), moments),
        st.tuples(st.sampled_from(["infos", "poll", "late", "back"]), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(events, st.sampled_from([0.0, 60.0]), st.booleans())
def test_every_frame_is_accounted_for_in_any_order_of_events(sequence, timeout_s, stop):
    """Depth, colour, poses, calibrations in any order, wrong encodings, jumps of an hour forward and back."""
    rig, base = Rig(timeout_s=timeout_s), 7200 * SECOND
    for kind, moment in sequence:
        color, depth, info = messages(base + moment * 10 * MS)
        if kind == "depth":
            rig.intake.add_depth(depth)
        elif kind == "bad depth":
            depth.encoding = "8UC1"
            rig.intake.add_depth(depth)
        elif kind == "color":
            rig.intake.add_color(color)
        elif kind == "pose":
            rig.buffer.set("map", "camera", base + moment * 10 * MS, np.eye(4))
        elif kind == "infos":
            rig.intake.add_depth_info(info)
            rig.intake.add_color_info(info)
        elif kind == "poll":
            rig.intake.poll()
        else:
            base += 3600 * SECOND if kind == "late" else -3600 * SECOND
            base = max(base, 0)
        rig.check()
    if stop:
        rig.intake.stop()
        rig.intake.add_depth(messages()[1])
        rig.intake.add_color(messages()[0])
        rig.check()
        assert rig.intake.waiting == rig.intake.waiting_color == 0


def test_a_good_sequence_loses_nothing():
    rig = Rig(static=True)
    for k in range(50):
        color, depth, info = messages(SECOND + k * 33 * MS)
        rig.intake.add_depth_info(info)
        rig.intake.add_color_info(info)
        rig.intake.add_depth(depth)
        rig.intake.add_color(color)
    counts = rig.counters.as_dict()
    assert (counts["fused"], counts["dropped"], counts["unused_color"]) == (50, {}, 0)
    rig.check()


@pytest.mark.parametrize(("depth_every", "color_every", "fused"), [(1, 3, 10), (3, 1, 10), (1, 1, 30)])
def test_rates_that_differ_use_every_frame_of_the_slower_camera(depth_every, color_every, fused):
    rig = Rig(static=True, queue=10)
    for k in range(30):
        color, depth, info = messages(SECOND + k * 33 * MS)
        rig.intake.add_depth_info(info)
        rig.intake.add_color_info(info)
        if k % depth_every == 0:
            rig.intake.add_depth(depth)
        if k % color_every == 0:
            rig.intake.add_color(color)
    assert rig.counters.as_dict()["fused"] == fused
    rig.check()


# Fuzzed contents ------------------------------------------------------------------------------------------------

uint32 = st.one_of(st.integers(0, 40), st.sampled_from([2**16, 2**31, 2**32 - 1, 2**32 - 16]), st.integers(0, 2**32 - 1))
wild = st.one_of(st.floats(), st.sampled_from([0.0, -1.0, 1e-300, 1e300, 20.0]))
encodings = st.one_of(
    st.sampled_from([*KNOWN_COLOR_ENCODINGS, "16UC1", "32FC1", "", "16UC1; compressedDepth png", "32FC1; compressedDepth rvl"]),
    st.text(max_size=20),
)
datas = st.one_of(st.binary(max_size=80), st.integers(0, 800).map(bytes))


def field(name, values):
    return st.tuples(st.just(name), values)


image_changes = st.lists(
    st.one_of(
        field("width", uint32), field("height", uint32), field("step", uint32), field("encoding", encodings),
        field("is_bigendian", st.integers(0, 255)), field("data", datas),
    ),
    max_size=4,
)  # fmt: skip
info_changes = st.lists(
    st.one_of(
        field("width", uint32), field("height", uint32), field("distortion_model", encodings),
        field("distortion_model", st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant"])),
        field("d", st.lists(wild, max_size=9)), field("d", st.integers(0, 3000).map(lambda n: [0.1] * n)),
        field("k", st.lists(wild, min_size=9, max_size=9)), field("r", st.lists(wild, min_size=9, max_size=9)),
        field("p", st.lists(wild, min_size=12, max_size=12)), field("binning_x", uint32), field("binning_y", uint32),
        field("roi.x_offset", uint32), field("roi.y_offset", uint32), field("roi.width", uint32), field("roi.height", uint32),
    ),
    max_size=3,
)  # fmt: skip
stamps = st.one_of(st.just((1, 0)), st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)))


def change(message, changes):
    for name, value in changes:
        target, _, last = message if "." not in name else getattr(message, name.split(".")[0]), "", name.split(".")[-1]
        setattr(target, last, value)


def feed(rig, color, depth, color_info, depth_info):
    rig.intake.add_color_info(color_info)
    rig.intake.add_depth_info(depth_info)
    rig.intake.add_color(color)
    rig.intake.add_depth(depth)
    rig.intake.poll()
    rig.check()
    rig.intake.stop()
    rig.check()


@pytest.fixture
def memory():
    """Fails when the process has grown much during a test."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ALLOWED_GROWTH_KB


FUZZ = settings(max_examples=1500, suppress_health_check=list(HealthCheck))


@FUZZ
@given(
    image_changes,
    image_changes,
    info_changes,
    info_changes,
    stamps,
    st.booleans(),
    st.one_of(st.none(), st.tuples(uint32, uint32)),
)
def test_fuzzed_images_and_calibrations_are_fused_or_counted(
    memory, in_color, in_depth, in_c_info, in_d_info, stamp, rectified, agreed
):
    rig = Rig(static=True, rectified=rectified)
    (color, depth, depth_info), color_info = messages(), messages()[2]
    for message, changes in ((color, in_color), (depth, in_depth), (color_info, in_c_info), (depth_info, in_d_info)):
        change(message, changes)
    if agreed:  # an image and its calibration that tell the same lie
        depth.width, depth.height = depth_info.width, depth_info.height = agreed
        depth.step = min(2 * depth.width, 2**32 - 1)
    depth.header.stamp.sec, depth.header.stamp.nanosec = stamp
    if stamp == (1, 0):
        color.header.stamp = depth.header.stamp
    feed(rig, color, depth, color_info, depth_info)
    counts = rig.counters.as_dict()
    assert counts["fused"] + sum(counts["dropped"].values()) == 1


@FUZZ
@given(
    st.sampled_from(["jpeg", "png", "16UC1 png", "16UC1 rvl", "32FC1 png", "32FC1 rvl"]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=5),
    st.one_of(st.none(), st.integers(0, 1500)),
    st.one_of(st.none(), encodings),
)
def test_fuzzed_compressed_images_are_fused_or_counted(memory, kind, flips, length, image_format):
    rig = Rig(static=True)
    color, depth, info = messages()
    if kind in ("jpeg", "png"):
        pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
        data, name = encode_picture(pixels, kind), f"rgb8; {kind} compressed bgr8"
    else:
        encoding, codec = kind.split()
        values = np.full((12, 16), 1500, np.uint16) if encoding == "16UC1" else np.full((12, 16), 1.5, np.float32)
        data, name = encode_compressed_depth(values, encoding, codec), f"{encoding}; compressedDepth {codec}"
    damaged = bytearray(data)
    for at, value in flips:
        damaged[at % len(damaged)] = value
    packed = CompressedImage(header=color.header, format=name if image_format is None else image_format)
    packed.data = bytes(damaged[:length])
    color, depth = (packed, depth) if kind in ("jpeg", "png") else (color, packed)
    feed(rig, color, depth, info, info)
    counts = rig.counters.as_dict()
    assert counts["fused"] + sum(counts["dropped"].values()) == 1


names = st.one_of(st.sampled_from(["map", "base", "camera", "/map", "", "odom"]), st.text(max_size=8))
places = st.tuples(wild, wild, wild)
turns = st.one_of(st.just((0.0, 0.0, 0.0, 1.0)), st.tuples(wild, wild, wild, wild))


@pytest.fixture(scope="module")
def node():
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = Node("faults", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def fill(position, rotation, place, turn):
    position.x, position.y, position.z = place
    rotation.x, rotation.y, rotation.z, rotation.w = turn


class Poses:
    """PoseInputs of a real node whose callbacks are called directly."""

    def __init__(self, node, source):
        values = {spec.name: spec.default for spec in parameters.PERCEPTION} | {"pose_source": source}
        self.changes, self.bad = [], []
        self.inputs = PoseInputs(
            node, values, MutuallyExclusiveCallbackGroup(), lambda: self.changes.append(1), lambda r, t: self.bad.append((r, t))
        )

    def pose(self):
        """A valid pose or a reason why there is none."""
        try:
            found = self.inputs.source.pose_at("camera", SECOND)
        except TransformLookupError as error:
            return error.reason
        assert np.isfinite(found).all()
        return found


BAD_POSES = {"nan_pose", "non_rigid_pose", "bad_frame_id", "too_many_frames"}


@pytest.fixture(scope="module")
def poses(node):
    made = {source: Poses(node, source) for source in ("tf", "pose", "odom")}
    yield made
    for inputs in made.values():
        inputs.inputs.destroy()


@FUZZ
@given(st.lists(st.tuples(names, names, stamps, places, turns, st.booleans()), min_size=1, max_size=4))
def test_fuzzed_transforms_are_kept_or_counted(memory, poses, transforms):
    rig = poses["tf"]
    rig.bad.clear()
    for parent, child, stamp, place, turn, static in transforms:
        item = TransformStamped(child_frame_id=child)
        item.header.frame_id = parent
        item.header.stamp.sec, item.header.stamp.nanosec = stamp
        fill(item.transform.translation, item.transform.rotation, place, turn)
        (rig.inputs._on_tf_static if static else rig.inputs._on_tf)(TFMessage(transforms=[item]))
    assert {reason for reason, _ in rig.bad} <= BAD_POSES
    assert all(len(text) < 500 for _, text in rig.bad)
    rig.pose()


@FUZZ
@given(st.lists(st.tuples(names, names, stamps, places, turns), min_size=1, max_size=4), st.sampled_from(["pose", "odom"]))
def test_fuzzed_poses_are_kept_or_counted(memory, poses, sent, source):
    rig = poses[source]
    rig.bad.clear()
    rig.changes.clear()
    for frame, child, stamp, place, turn in sent:
        message = PoseStamped() if source == "pose" else Odometry(child_frame_id=child)
        message.header.frame_id = frame
        message.header.stamp.sec, message.header.stamp.nanosec = stamp
        pose = message.pose if source == "pose" else message.pose.pose
        fill(pose.position, pose.orientation, place, turn)
        (rig.inputs._on_pose if source == "pose" else rig.inputs._on_odometry)(message)
    assert len(rig.bad) + len(rig.changes) == len(sent)
    assert {reason for reason, _ in rig.bad} <= BAD_POSES
    rig.pose()


def test_more_frames_than_any_robot_has_are_refused(node):
    rig = Poses(node, "tf")
    item = TransformStamped()
    item.header.frame_id = "map"
    for k in range(10_050):
        item.child_frame_id = f"link{k}"
        rig.inputs._on_tf(TFMessage(transforms=[item]))
    assert [reason for reason, _ in rig.bad] == ["too_many_frames"] * 50
    rig.inputs.destroy()
