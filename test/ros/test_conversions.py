"""Messages to arrays and back, and what is said about messages that cannot be used."""

import numpy as np
import pytest
from geometry_msgs.msg import Pose
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.imaging.raw_images import COLOR_ENCODINGS
from mosaic3d_ros import conversions as convert

HEADER = convert.make_header("camera", 1_234_567_890_123_456_789)


def color_image():
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def test_stamps_keep_their_nanoseconds():
    assert convert.stamp_to_ns(HEADER.stamp) == 1_234_567_890_123_456_789


def test_color_round_trip():
    assert np.array_equal(convert.color_from_image(convert.color_message(color_image(), HEADER)), color_image())


@pytest.mark.parametrize("encoding", ["bgr8", "rgba8", "bgra8", "8UC3", "mono8"])
def test_color_encodings_give_red_green_blue(encoding):
    rgb = color_image()
    channels, order = COLOR_ENCODINGS[encoding]
    raw = np.zeros((4, 6, channels), np.uint8)
    for position, channel in enumerate(order):
        raw[..., channel] = rgb[..., position]
    message = convert.color_message(rgb, HEADER)
    message.encoding, message.step = encoding, 6 * channels
    convert.fill_data(message, raw)
    wanted = np.repeat(raw, 3, axis=2) if encoding == "mono8" else rgb
    assert np.array_equal(convert.color_from_image(message), wanted)


def test_padding_at_the_end_of_rows_is_ignored():
    rgb = color_image()
    message = convert.color_message(rgb, HEADER)
    message.step = 6 * 3 + 5
    convert.fill_data(message, np.pad(rgb.reshape(4, 18), ((0, 0), (0, 5)), constant_values=9))
    assert np.array_equal(convert.color_from_image(message), rgb)


@pytest.mark.parametrize(("encoding", "tolerance"), [("16UC1", 0.0005), ("32FC1", 0.0)])
def test_depth_round_trip(encoding, tolerance):
    depth = np.array([[0.0, 0.5, 1.2345], [3.3333, 9.999, np.nan]], np.float32)
    back = convert.depth_from_image(convert.depth_message(depth, HEADER, encoding))
    valid = np.isfinite(depth)
    assert np.allclose(back[valid], depth[valid], atol=tolerance + 1e-6)
    assert np.all(~(back[~valid] > 0))


def test_big_endian_depth():
    message = convert.depth_message(np.full((2, 2), 1.5, np.float32), HEADER)
    message.is_bigendian = 1
    convert.fill_data(message, np.full((2, 2), 1500, ">u2"))
    assert np.allclose(convert.depth_from_image(message), 1.5)


def refused(reason, text, call, *arguments):
    with pytest.raises(FrameError, match=text) as caught:
        call(*arguments)
    assert caught.value.reason == reason


def test_unknown_encodings_name_the_known_ones():
    depth = convert.depth_message(np.ones((2, 2), np.float32), HEADER)
    depth.encoding = "8UC1"
    refused("bad_encoding", "16UC1", convert.depth_from_image, depth)
    color = convert.color_message(color_image(), HEADER)
    color.encoding = "nv12"
    refused("bad_encoding", "rgb8", convert.color_from_image, color)


def test_too_little_data_is_refused():
    message = convert.color_message(color_image(), HEADER)
    message.height = 5
    refused("bad_image_size", "at least", convert.color_from_image, message)


def test_empty_image_is_refused():
    message = convert.color_message(color_image(), HEADER)
    message.width = 0
    refused("empty_image", "with pixels", convert.color_from_image, message)


def test_camera_info_round_trip():
    camera = PinholeCamera(500.0, 501.0, 319.5, 239.5, 640, 480)
    assert convert.camera_from_info(convert.camera_info_message(camera, HEADER)) == camera


def test_calibration_of_zeros_says_uncalibrated():
    message = convert.camera_info_message(PinholeCamera(500.0, 501.0, 319.5, 239.5, 640, 480), HEADER)
    message.k = [0.0] * 9
    refused("bad_intrinsics", "uncalibrated", convert.camera_from_info, message, "depth")


def test_sizes_that_disagree_name_both():
    image = convert.color_message(color_image(), HEADER)
    refused("size_mismatch", "6x4.*640x480", convert.check_same_size, image, PinholeCamera(500, 500, 320, 240, 640, 480), "depth")


@pytest.mark.parametrize(("field", "value", "reason"), [("x", np.nan, "nan_pose"), ("z", np.inf, "nan_pose")])
def test_pose_that_is_not_finite(field, value, reason):
    pose = Pose()
    setattr(pose.position, field, float(value))
    refused(reason, "NaN or infinite", convert.matrix_from_pose, pose)


def test_quaternion_of_zeros():
    pose = Pose()
    pose.orientation.w = 0.0
    refused("non_rigid_pose", "length", convert.matrix_from_pose, pose)


@settings(max_examples=50)
@given(st.lists(st.floats(-3, 3), min_size=7, max_size=7))
def test_pose_round_trip(values):
    quaternion = np.array(values[3:])
    if np.linalg.norm(quaternion) < 0.1:
        return
    quaternion = quaternion / np.linalg.norm(quaternion)
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = values[:3]
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = (float(v) for v in quaternion)
    matrix = convert.matrix_from_pose(pose)
    assert np.allclose(convert.matrix_from_pose(convert.pose_from_matrix(matrix)), matrix, atol=1e-9)


def test_labelled_cloud_round_trip():
    points, colors = np.random.default_rng(0).normal(size=(10, 3)), np.arange(30).reshape(10, 3)
    label, instance, score = np.arange(10, dtype=np.uint16), np.arange(10, dtype=np.uint32), np.linspace(0, 1, 10)
    rows = convert.structured_points(convert.POINT_DTYPE, points, colors, label=label, instance=instance, score=score)
    message = convert.cloud_message(rows, HEADER)
    assert [field.name for field in message.fields] == ["x", "y", "z", "rgb", "instance", "score", "label"]
    back = convert.points_from_cloud(message)
    assert all(np.array_equal(back[name], rows[name]) for name in rows.dtype.names)
    assert np.array_equal(back["rgb"] & 255, colors[:, 2])


def test_cloud_that_is_too_short_is_refused():
    message = convert.cloud_message(np.zeros(3, convert.POINT_DTYPE), HEADER)
    message.width = 4
    with pytest.raises(ValueError, match="says 4 points"):
        convert.points_from_cloud(message)
