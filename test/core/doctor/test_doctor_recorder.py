"""Messages become observations: windows, rates, stamps, transforms, and what is wrong with a message."""

import math
from types import SimpleNamespace as Message

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosaic3d_core.doctor.recorder import Recorder

SECOND = 1_000_000_000


def header(stamp_ns=SECOND, frame="camera"):
    return Message(stamp=Message(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND), frame_id=frame)


def image(pixels, encoding, stamp_ns=SECOND, frame="camera", **fields):
    data = pixels.tobytes()
    values = {"height": pixels.shape[0], "width": pixels.shape[1], "step": len(data) // pixels.shape[0], "is_bigendian": 0}
    return Message(**{"header": header(stamp_ns, frame), "encoding": encoding, "data": data, **values, **fields})


def info(fx=525.0, **fields):
    k = [fx, 0.0, 320.0, 0.0, fx, 240.0, 0.0, 0.0, 1.0]
    roi = Message(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    values = {"width": 640, "height": 480, "k": k, "p": [0.0] * 12, "r": [0.0] * 9, "d": [0.0] * 5}
    values |= {"distortion_model": "plumb_bob", "binning_x": 0, "binning_y": 0, "roi": roi}
    return Message(**{"header": header(), **values, **fields})


def transforms(*items):
    """TFMessage of (parent, child, stamp, x, quaternion w)."""
    made = []
    for parent, child, stamp_ns, x, w in items:
        move, turn = Message(x=x, y=0.0, z=0.0), Message(x=0.0, y=0.0, z=0.0, w=w)
        made.append(
            Message(header=header(stamp_ns, parent), child_frame_id=child, transform=Message(translation=move, rotation=turn))
        )
    return Message(transforms=made)


def seen(recorder, role, now_s=0.0, window_s=5.0):
    return recorder.topics({role: "/topic"}, now_s, window_s)[role]


COLOR = np.zeros((4, 6, 3), np.uint8)
DEPTH = np.full((40, 60), 1500, np.uint16)


def test_only_the_window_counts_and_the_total_stays():
    recorder = Recorder(window_s=2.0)
    for k in range(50):
        recorder.see("rgb/image", image(COLOR, "rgb8", k * SECOND // 10), k * 0.1, k * SECOND // 10 + 30_000_000)
    topic = seen(recorder, "rgb/image", now_s=4.9)
    assert (topic.count, topic.total) == (21, 50)
    assert topic.rate_hz == pytest.approx(10.0)
    assert topic.ages_s == pytest.approx([0.03] * 21)
    assert (topic.encodings, topic.sizes, topic.frame_ids) == (("rgb8",), ((6, 4),), ("camera",))
    assert topic.max_bytes == 72
    assert seen(recorder, "rgb/image", now_s=60.0).count == 0


def test_a_topic_without_messages_is_empty():
    topic = seen(Recorder(), "depth/image")
    assert (topic.count, topic.total, topic.rate_hz, topic.stamps_ns) == (0, 0, None, ())


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"data": b"123"}, "carries 3 bytes"), ({"step": 5}, "5 bytes per row"), ({"width": 0}, "size is 0x4")],
)
def test_an_image_that_lies_about_its_size_is_malformed(fields, word):
    recorder = Recorder()
    recorder.see("rgb/image", image(COLOR, "rgb8", **fields), 0.0)
    assert word in seen(recorder, "rgb/image").problem


def test_padded_rows_are_well():
    recorder = Recorder()
    recorder.see("rgb/image", image(np.zeros((4, 8, 3), np.uint8), "rgb8", width=6), 0.0)
    assert seen(recorder, "rgb/image").problem == ""


def test_compressed_images_have_a_format_and_no_size():
    recorder = Recorder()
    recorder.see("rgb/image", Message(header=header(), format="jpeg", data=b"\xff\xd8"), 0.0)
    topic = seen(recorder, "rgb/image")
    assert (topic.encodings, topic.sizes, topic.problem) == (("jpeg",), (), "")
    recorder.see("rgb/image", Message(header=header(), format="jpeg", data=b""), 1.0)
    assert "no bytes" in seen(recorder, "rgb/image", 1.0).problem


@pytest.mark.parametrize(("encoding", "scale"), [("16UC1", 1), ("32FC1", 1000)])
def test_depth_is_sampled_in_the_unit_of_the_message(encoding, scale):
    pixels = DEPTH if encoding == "16UC1" else (DEPTH / scale).astype(np.float32)
    pixels = pixels.copy()
    pixels[:20] = 0
    recorder = Recorder()
    recorder.see("depth/image", image(pixels, encoding), 0.0)
    depth = seen(recorder, "depth/image").depth
    assert depth.valid_share == pytest.approx(0.5, abs=0.05)
    assert depth.median == pytest.approx(1500 / scale)


def test_depth_of_other_byte_order_and_without_any_pixel():
    recorder = Recorder()
    recorder.see("depth/image", image(DEPTH.astype(">u2"), "16UC1", is_bigendian=1), 0.0)
    assert seen(recorder, "depth/image").depth.median == 1500
    recorder.see("depth/image", image(np.full((40, 60), np.nan, np.float32), "32FC1"), 5.0)
    depth = seen(recorder, "depth/image").depth
    assert depth.valid_share == 0.0
    assert math.isnan(depth.median)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (info(), ""),
        (info(fx=0.0), "bad_intrinsics"),
        (info(fx=math.nan), "bad_intrinsics"),
        (info(roi=Message(x_offset=600, y_offset=0, width=640, height=480, do_rectify=False)), "bad_roi"),
    ],
    ids=["good", "K zero", "NaN", "region outside"],
)
def test_a_calibration_is_read_as_the_node_reads_it(message, reason):
    recorder = Recorder()
    recorder.see("depth/camera_info", message, 0.0)
    calibration = seen(recorder, "depth/camera_info").calibration
    assert calibration.reason == reason
    assert bool(calibration.problem) == bool(reason)
    if not reason:
        assert calibration.size == (640, 480)
        assert calibration.fx == 525.0


def test_a_binned_calibration_describes_smaller_images():
    recorder = Recorder()
    recorder.see("rgb/camera_info", info(binning_x=2, binning_y=2), 0.0)
    assert seen(recorder, "rgb/camera_info").calibration.size == (320, 240)


def test_unknown_distortion_is_kept_as_a_sentence():
    recorder = Recorder()
    recorder.see("rgb/camera_info", info(distortion_model="fov", d=[0.1]), 0.0)
    assert "fov" in seen(recorder, "rgb/camera_info").calibration.distortion_problem


def test_a_new_calibration_counts():
    recorder = Recorder()
    recorder.see("rgb/camera_info", info(), 0.0)
    recorder.see("rgb/camera_info", info(fx=0.0), 10.0)
    assert seen(recorder, "rgb/camera_info", 10.0).calibration.reason == "bad_intrinsics"


def test_transforms_become_edges_with_their_times():
    recorder = Recorder()
    recorder.see("tf_static", transforms(("base", "/camera", 7 * SECOND, 1.0, 1.0)), 0.0)
    for k in (1, 2, 5):
        recorder.see("tf", transforms(("map", "base", k * SECOND, 0.0, 1.0)), 0.0)
    moving, static = recorder.edges()
    assert (moving.parent, moving.child, moving.count, moving.oldest_ns, moving.newest_ns) == (
        "map",
        "base",
        3,
        SECOND,
        5 * SECOND,
    )
    assert moving.max_gap_s == 3.0
    assert (static.parent, static.child, static.is_static, static.problem) == ("base", "camera", True, "")


def test_a_transform_that_cannot_be_used_is_told_and_not_counted():
    recorder = Recorder()
    recorder.see("tf", transforms(("map", "base", SECOND, math.nan, 1.0), ("map", "other", SECOND, 0.0, 0.0)), 0.0)
    recorder.see("tf", transforms(("map", "/map", SECOND, 0.0, 1.0), ("", "lost", SECOND, 0.0, 1.0)), 0.0)
    loop, nan, orphan, zero = sorted(recorder.edges(), key=lambda edge: ("map", "base", "lost", "other").index(edge.child))
    assert "two different" in loop.problem
    assert "two different" in orphan.problem
    assert (nan.count, zero.count) == (0, 0)
    assert "NaN" in nan.problem
    assert "all zero" in zero.problem


def test_a_jump_back_in_time_begins_anew():
    recorder = Recorder(jump_back_s=0.5)
    for stamp in (100, 101, 3, 4):
        recorder.see("tf", transforms(("map", "base", stamp * SECOND, 0.0, 1.0)), 0.0)
    (edge,) = recorder.edges()
    assert (edge.oldest_ns, edge.newest_ns, edge.max_gap_s) == (3 * SECOND, 4 * SECOND, 1.0)


@pytest.mark.parametrize("kind", ["pose", "odom"])
def test_poses_are_read_of_both_types(kind):
    body = Message(position=Message(x=0.0, y=0.0, z=0.0), orientation=Message(x=0.0, y=0.0, z=0.0, w=1.0))
    recorder = Recorder()
    assert recorder.pose() is None
    for k in (1, 2):
        message = Message(header=header(k * SECOND, "map"), pose=body)
        if kind == "odom":
            message = Message(header=header(k * SECOND, "map"), child_frame_id="base", pose=Message(pose=body))
        recorder.see(kind, message, float(k))
    pose = recorder.pose()
    assert (pose.frame_id, pose.child_frame_id) == ("map", "base" if kind == "odom" else "")
    assert (pose.oldest_ns, pose.newest_ns, pose.max_gap_s, pose.problem) == (SECOND, 2 * SECOND, 1.0, "")


def test_the_clock_is_followed():
    recorder = Recorder(window_s=2.0)
    assert recorder.clock(0).count == 0
    for k in range(5):
        recorder.see_clock(k * SECOND // 2, float(k))
    clock = recorder.clock(1)
    assert (clock.publishers, clock.count, clock.advanced_s) == (1, 3, 1.0)


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**32 - 1),
    st.text(max_size=20),
    st.text(max_size=10),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=64),
    st.booleans(),
)
def test_no_content_of_an_image_breaks_the_recorder(sec, nanosec, frame, encoding, width, height, step, data, big):
    message = Message(
        header=Message(stamp=Message(sec=sec, nanosec=nanosec), frame_id=frame), encoding=encoding,
        width=width, height=height, step=step, data=data, is_bigendian=big,
    )  # fmt: skip
    recorder = Recorder(window_s=1.0)
    for role in ("rgb/image", "depth/image"):
        recorder.see(role, message, 0.0, 0)
        assert seen(recorder, role).total == 1


@given(
    st.lists(st.floats(), min_size=9, max_size=9),
    st.lists(st.floats(), max_size=20),
    st.text(max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_no_content_of_a_calibration_breaks_the_recorder(k, d, model, number):
    message = info(k=k, d=d, distortion_model=model, width=number, binning_x=number)
    recorder = Recorder()
    recorder.see("rgb/camera_info", message, 0.0)
    assert seen(recorder, "rgb/camera_info").calibration is not None
