"""Every fault alone is told under its code, with the names that matter; a graph in which all is well yields nothing."""

from dataclasses import replace

import numpy as np
import pytest
from doctor_scenes import (
    BASE_CAMERA,
    MAP_BASE,
    STAMPS,
    STEP,
    healthy,
    topic,
    with_node,
    with_settings,
    with_topic,
)
from hypothesis import given
from hypothesis import strategies as st

from mosaic3d_core.doctor import CODES, Finding, examine
from mosaic3d_core.doctor.check_times import duration, pair
from mosaic3d_core.doctor.observations import (
    CAMERA_INFO,
    COMPRESSED,
    IMAGE,
    ODOMETRY,
    Calibration,
    ClockObservation,
    DepthValues,
    Endpoint,
    PoseObservation,
    Transport,
)
from mosaic3d_core.doctor.report import EXIT_ERRORS, EXIT_WARNINGS, EXIT_WELL, exit_code

SECOND = 1_000_000_000


def shifted(by_s, part=1):
    """Stamps of which every ``part``-th is moved."""
    return tuple(s + (round(by_s * 1e9) if k % part == 0 else 0) for k, s in enumerate(STAMPS))


def pose_source(source="pose", pose=None, child="", frame="map"):
    """A graph with poses on a topic."""
    seen = healthy(edges=(BASE_CAMERA,), settings=with_settings(pose_source=source).settings)
    pose = pose or PoseObservation(frame, child, STAMPS[0] - STEP, STAMPS[-1] + STEP, 0.05)
    return replace(seen, topics={**seen.topics, source: topic(source)}, pose=pose)


def color_frame(frame):
    """A graph in which the colour camera has a frame of its own."""
    seen = healthy()
    color = {role: topic(role, frame_ids=(frame,)) for role in ("rgb/image", "rgb/camera_info")}
    return replace(seen, topics={**seen.topics, **color})


def calibrated(**fields):
    return Calibration(**{"size": (640, 480), "fx": 525.0, **fields})


# One fault each: (code, what was seen, words that the sentences must hold).
FAULTS = {
    "alone": ("no_graph", healthy(other_nodes=0), ["ROS_DOMAIN_ID=0"]),
    "no node": ("node_absent", healthy(node=None), ["perception.launch.py", "--node"]),
    "node does not answer": ("node_silent", with_node(responds=False), ["/perception_node"]),
    "node inactive": ("node_inactive", with_node(lifecycle="inactive"), ["lifecycle set /perception_node activate"]),
    "node loading": ("node_inactive", with_node(lifecycle="configuring"), ["configuring", "Wait"]),
    "no model": ("model_not_loaded", with_node(model_loaded=False), ["checkpoint"]),
    "paused": ("node_paused", with_node(paused=True, fused=0), ["/perception_node/pause"]),
    "profile missing": (
        "transport_profile",
        healthy(transports=(Transport("/perception_node", 1 << 19, "/gone.xml", "No such file"),)),
        ["'/gone.xml'", "No such file", "config/fastdds.xml"],
    ),
    "default shared memory": (
        "transport_small",
        healthy(transports=(Transport("/perception_node", 512 * 1024),)),
        ["512 KB", "clouds of the map need 28 MB", "FASTDDS_DEFAULT_PROFILES_FILE"],
    ),
    "images beyond shared memory": (
        "transport_small",
        replace(with_topic("rgb/image", max_bytes=100_000_000), transports=(Transport("/perception_node", 128 << 20),)),
        ["134 MB", "images of this camera need 200 MB"],
    ),
    "no clock": ("clock_absent", with_settings(use_sim_time=True), ["use_sim_time", "nobody publishes /clock"]),
    "clock silent": (
        "clock_absent",
        replace(with_settings(use_sim_time=True), clock=ClockObservation(publishers=1)),
        ["no message came on /clock"],
    ),
    "clock stopped": (
        "clock_stopped",
        replace(with_settings(use_sim_time=True), clock=ClockObservation(1, 50, 0.0)),
        ["stood still for 5 s"],
    ),
    "clock unused": ("clock_unused", healthy(clock=ClockObservation(1, 50, 5.0)), ["use_sim_time:=true"]),
    "topic absent": (
        "topic_absent",
        replace(
            with_topic("rgb/image", publishers=(), count=0, total=0, stamps_ns=(), rate_hz=None),
            offered={IMAGE: ("/cam/color/image_raw", "/cam/depth/image_rect_raw")},
        ),
        ["'/rgb/image'", "rgb:=/cam/color/image_raw"],
    ),
    "depth absent": (
        "topic_absent",
        replace(
            with_topic("depth/image", publishers=(), count=0, total=0, stamps_ns=(), frame_ids=()),
            offered={IMAGE: ("/cam/color/image_raw", "/cam/depth/image_rect_raw")},
        ),
        ["depth:=/cam/depth/image_rect_raw"],
    ),
    "other type": (
        "topic_type",
        with_topic("rgb/camera_info", publishers=(Endpoint("/driver", IMAGE),), count=0, total=0, calibration=None),
        [IMAGE, CAMERA_INFO],
    ),
    "best effort publisher": (
        "qos_incompatible",
        with_topic(
            "depth/image",
            publishers=(Endpoint("/driver", IMAGE, reliable=False),),
            subscriptions=(Endpoint("/perception_node", IMAGE, reliable=True),),
            count=0, stamps_ns=(), frame_ids=(),
        ),
        ["/driver", "asks for reliable", "offers best effort", "reliable_images"],
    ),
    "volatile tf_static": (
        "qos_incompatible",
        with_topic("tf_static", subscriptions=(Endpoint("/n", "tf2_msgs/msg/TFMessage", transient_local=True),)),
        ["transient local", "StaticTransformBroadcaster"],
    ),
    "publisher silent": (
        "topic_silent",
        with_topic("depth/image", count=0, total=0, stamps_ns=(), frame_ids=(), rate_hz=None),
        ["No messages on '/depth/image' (1 publisher)"],
    ),
    "slow": ("rate_low", with_topic("rgb/image", count=3, rate_hz=0.5), ["0.50 images per second"]),
    "short data": ("image_malformed", with_topic("rgb/image", problem="640x480 rgb8 carries 3 bytes"), ["carries 3 bytes"]),
    "odd encoding": (
        "encoding_unsupported",
        with_topic("depth/image", encodings=("64FC1",), depth=None),
        ["'64FC1'", "16UC1, mono16, 32FC1"],
    ),
    "exchanged": ("encoding_unsupported", with_topic("rgb/image", encodings=("32FC1",)), ["exchanged"]),
    "lens covered": ("depth_empty", with_topic("depth/image", depth=DepthValues(0.0, float("nan"))), ["0.0 % of the pixels"]),
    "millimetres in float": (
        "depth_units",
        with_topic("depth/image", encodings=("32FC1",), depth=DepthValues(0.9, 1500.0)),
        ["1500 m", "REP-118"],
    ),
    "K zero": (
        "info_uncalibrated",
        with_topic("depth/camera_info", calibration=calibrated(reason="bad_intrinsics", problem="The camera has K = 0.")),
        ["'/depth/camera_info'", "K = 0"],
    ),
    "bad region": (
        "info_unusable",
        with_topic("rgb/camera_info", calibration=calibrated(reason="bad_roi", problem="The region is outside.")),
        ["the region is outside"],
    ),
    "unknown distortion": (
        "info_unusable",
        with_topic("rgb/camera_info", calibration=calibrated(distortion_problem="Model 'fov' is unknown.")),
        ["'fov'", "images_are"],
    ),
    "other size": (
        "info_size",
        with_topic("rgb/camera_info", calibration=calibrated(size=(1280, 720))),
        ["640x480", "1280x720"],
    ),
    "no frame": ("frame_empty", with_topic("depth/image", frame_ids=("",)), ["'/depth/image'", "frame_id"]),
    "slash": ("frame_slash", with_topic("rgb/image", frame_ids=("/camera",)), ["'/camera'"]),
    "other frame": ("frame_differs", with_topic("depth/camera_info", frame_ids=("base",)), ["'camera'", "'base'"]),
    "no stamp": ("stamp_zero", with_topic("depth/image", stamps_ns=(0,) * 100), ["stamp 0"]),
    "clock behind": ("stamp_age", with_topic("rgb/image", ages_s=(7200.0,) * 9), ["2.0 h behind"]),
    "clock ahead": ("stamp_age", with_topic("depth/image", ages_s=(-1.5,) * 9), ["1.5 s ahead of"]),
    "bag loops": (
        "stamp_backwards",
        with_topic("rgb/image", stamps_ns=(*STAMPS[50:], *STAMPS[:50])),
        ["jumped back by 5.0 s"],
    ),
    "half a period apart": (
        "stamps_unsynchronised",
        with_topic("rgb/image", stamps_ns=shifted(0.025)),
        ["0 %", "20 ms", "25 ms", "sync_slop_s"],
    ),
    "another clock": (
        "stamps_unsynchronised",
        with_topic("rgb/image", stamps_ns=shifted(100.0)),
        ["same clock"],
    ),
    "every third late": (
        "stamps_partly_unsynchronised",
        with_topic("rgb/image", stamps_ns=shifted(0.025, 3)),
        ["67 %", "25 ms apart"],
    ),
    "NaN transform": (
        "pose_invalid",
        healthy(edges=(replace(MAP_BASE, problem="it holds NaN or infinite values"), BASE_CAMERA)),
        ["'map' <- 'base'", "NaN"],
    ),
    "NaN pose": (
        "pose_invalid",
        pose_source(pose=PoseObservation("map", "", STAMPS[0], STAMPS[-1], 0.05, "its quaternion is all zero: it was never set")),
        ["pose on '/pose'", "all zero"],
    ),
    "no tf": ("tf_absent", healthy(edges=()), ["'map' <- 'camera'", "static_transform_publisher"]),
    "no tf but odometry": (
        "tf_absent",
        healthy(edges=(), offered={ODOMETRY: ("/odometry",)}),
        ["set pose_source to odom for /odometry"],
    ),
    "two parents": (
        "tf_several_parents",
        healthy(edges=(MAP_BASE, replace(MAP_BASE, parent="odom"), BASE_CAMERA)),
        ["'base'", "'map' and 'odom'"],
    ),
    "map misspelt": (
        "tf_unknown_frame",
        replace(healthy(), settings=with_settings(map_frame="maps").settings),
        ["'maps'", "did you mean 'map'?", "map_frame"],
    ),
    "camera not in the tree": (
        "tf_unknown_frame",
        healthy(edges=(MAP_BASE,)),
        ["'camera'", "known frames: base, map"],
    ),
    "two trees": (
        "tf_disconnected",
        healthy(edges=(replace(MAP_BASE, child="odom"), BASE_CAMERA)),
        ["'map' <- 'base'"],
    ),
    "tf stopped": (
        "tf_gap",
        healthy(edges=(replace(MAP_BASE, newest_ns=STAMPS[-1] - 3 * SECOND), BASE_CAMERA)),
        ["'map' <- 'base' is 3.0 s older than the newest image"],
    ),
    "tf of another time": (
        "tf_gap",
        healthy(edges=(replace(MAP_BASE, oldest_ns=STAMPS[-1] + 90 * SECOND, newest_ns=STAMPS[-1] + 95 * SECOND), BASE_CAMERA)),
        ["90.0 s newer than every image"],
    ),
    "tf sparse": ("tf_sparse", healthy(edges=(replace(MAP_BASE, max_gap_s=2.0), BASE_CAMERA)), ["2.0 s", "10 Hz"]),
    "extrinsics missing": (
        "tf_unknown_frame",
        color_frame("camera_color"),
        ["'camera_color'", "between the two images"],
    ),
    "poses stopped": (
        "pose_gap",
        pose_source(pose=PoseObservation("map", "", STAMPS[0], STAMPS[-1] - 4 * SECOND, 0.05)),
        ["pose on '/pose' is 4.0 s older"],
    ),
    "poses rare": (
        "pose_gap",
        pose_source("odom", PoseObservation("map", "camera", STAMPS[0], STAMPS[-1], 1.2)),
        ["gaps of up to 1.2 s", "pose_max_gap_s"],
    ),
    "out of memory": ("worker_failed", with_node(last_error="OutOfMemoryError: CUDA out of memory"), ["CUDA out of memory"]),
    "nothing fused": (
        "nothing_fused",
        with_node(fused=0, dropped={"time_jump": 3, "queue_full": 90}, last_drop="Frames come too fast."),
        ["queue_full 90, time_jump 3", "the last: Frames come too fast"],
    ),
    "some dropped": ("frames_dropped", with_node(fused=60, dropped={"queue_full": 40}), ["queue_full 40"]),
}  # fmt: skip


def test_a_healthy_graph_has_no_finding():
    assert examine(healthy()) == ()
    assert exit_code(examine(healthy())) == EXIT_WELL


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_under_its_code(fault):
    code, seen, words = FAULTS[fault]
    found = examine(seen)
    assert {f.code for f in found} == {code}
    text = " ".join(f"{f.problem} {f.remedy}" for f in found if f.code == code)
    for word in words:
        assert word in text
    assert exit_code(found) == (EXIT_ERRORS if any(f.severity == "error" for f in found) else EXIT_WARNINGS)


def test_every_code_has_a_fault_here():
    assert {code for code, _, _ in FAULTS.values()} == {entry.code for entry in CODES}


@pytest.mark.parametrize("fault", FAULTS)
def test_sentences_are_sentences(fault):
    for finding in examine(FAULTS[fault][1]):
        for sentence in (finding.problem, finding.remedy):
            assert sentence.endswith((".", "?", ")."))
            assert sentence[0].isupper() or sentence[0] in "'/0123456789"
            assert "  " not in sentence
            assert "\n" not in sentence


def test_first_causes_come_first():
    seen = with_topic("rgb/image", frame_ids=("/camera",), encodings=("64FC1",))
    seen = replace(seen, node=replace(seen.node, paused=True), edges=())
    ranks = [finding.rank for finding in examine(seen)]
    assert ranks == sorted(ranks)
    assert [f.code for f in examine(seen)] == ["node_paused", "encoding_unsupported", "frame_slash", "tf_absent"]


def test_what_follows_from_a_missing_topic_is_not_told():
    seen = with_topic("depth/image", publishers=(), count=0, total=0, stamps_ns=(), frame_ids=(), rate_hz=None)
    seen = replace(seen, edges=(), node=replace(seen.node, fused=0, dropped={"no_pose": 5}))
    assert [f.code for f in examine(seen)] == ["topic_absent"]


def test_a_calibration_that_is_sent_once_is_no_silence():
    assert examine(with_topic("rgb/camera_info", count=0, total=1)) == ()


@pytest.mark.parametrize("fault", ["publisher silent", "topic absent", "no tf", "camera not in the tree", "two trees"])
def test_what_is_missing_for_a_moment_is_no_finding(fault):
    assert examine(replace(FAULTS[fault][1], window_s=0.5)) == ()


def test_one_subscription_that_connects_is_enough():
    kind = "tf2_msgs/msg/TFMessage"
    both = (Endpoint("/n", kind, transient_local=True), Endpoint("/n", kind, reliable=False))
    assert examine(with_topic("tf_static", subscriptions=both)) == ()


def test_compressed_images_have_formats_not_encodings():
    compressed = (Endpoint("/driver", COMPRESSED),)
    assert examine(with_topic("rgb/image", encodings=("rgb8; jpeg compressed bgr8",), publishers=compressed, sizes=())) == ()


def test_rates_that_differ_are_well():
    assert examine(with_topic("depth/image", stamps_ns=STAMPS[::3])) == ()
    assert examine(with_topic("rgb/image", stamps_ns=STAMPS[::2])) == ()


def test_frames_that_a_parameter_connects_need_no_transform():
    seen = color_frame("color")
    assert [f.code for f in examine(seen)] == ["tf_unknown_frame"]
    assert examine(replace(seen, settings=replace(seen.settings, has_extrinsics=True))) == ()


def test_a_fixed_camera_needs_no_transforms():
    seen = healthy(edges=())
    assert examine(replace(seen, settings=replace(seen.settings, pose_source="static"))) == ()


def test_poses_of_the_base_need_the_camera_on_the_base():
    assert examine(pose_source(child="base")) == ()
    assert [f.code for f in examine(pose_source(child="gripper"))] == ["tf_unknown_frame"]
    assert [f.code for f in examine(pose_source(frame="odom"))] == ["tf_unknown_frame", "tf_unknown_frame"]


def test_several_cameras_are_checked_each():
    seen = healthy()
    cameras = {f"{name}/{role}": topic(f"{name}/{role}") for name in ("left", "right") for role in list(seen.topics)[:4]}
    seen = replace(seen, topics={**cameras, "tf": seen.topics["tf"]})
    assert examine(seen) == ()
    seen.topics["right/depth/camera_info"] = topic("right/depth/camera_info", calibration=calibrated(size=(1, 1)))
    assert [(f.code, f.subject) for f in examine(seen)] == [("info_size", "/right/depth/image")]


def test_an_unknown_code_cannot_be_told():
    with pytest.raises(ValueError, match="'typo' is not a code"):
        Finding("typo", "", "", "")


def slow_pair(color, depth, slop_s):
    """Every image of the rarer stream against every one of the other."""
    few, many = (color, depth) if len(color) <= len(depth) else (depth, color)
    slop = round(slop_s * 1e9)
    inside = [s for s in few if min(many) - slop <= s <= max(many) + slop] or few
    nearest = [min(abs(s - other) for other in many) for s in inside]
    misses = [n for n in nearest if n > slop]
    return 1 - len(misses) / len(nearest), float(np.median(misses)) * 1e-9 if misses else 0.0


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30),
    st.floats(0.0, 0.2),
)
def test_pairing_is_that_of_the_slow_twin(color, depth, slop_s):
    found = pair(color, depth, slop_s)
    if len(color) == len(depth):  # either may be taken for the rarer one
        twins = [slow_pair(color, depth, slop_s), slow_pair(depth, color, slop_s)]
    else:
        twins = [slow_pair(color, depth, slop_s)]
    assert any(found.share == share and found.offset_s == pytest.approx(offset) for share, offset in twins)


def test_pairing_needs_both_streams():
    assert pair([], [1], 0.1) is None


@pytest.mark.parametrize(("seconds", "text"), [(0.0123, "12 ms"), (1.25, "1.2 s"), (3600.0, "1.0 h"), (1.7e9, "19676 days")])
def test_durations_read_like_a_person_says_them(seconds, text):
    assert duration(seconds) == text
