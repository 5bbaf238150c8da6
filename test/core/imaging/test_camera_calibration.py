"""camera_info: which intrinsics count, what is undone, binning and regions, and when maps are made anew."""

from types import SimpleNamespace

import numpy as np
import pytest

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.imaging import FrameReader
from mosaic3d_core.imaging.calibration import read_calibration
from mosaic3d_core.imaging.frame_reader import is_rectified_topic

IDENTITY = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def info(**changes):
    message = {
        "width": 64,
        "height": 48,
        "distortion_model": "plumb_bob",
        "d": [0.1, -0.05, 0.001, 0.0, 0.0],
        "k": [70.0, 0.0, 32.0, 0.0, 71.0, 24.0, 0.0, 0.0, 1.0],
        "r": IDENTITY,
        "p": [60.0, 0.0, 31.0, 0.0, 0.0, 61.0, 23.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False),
    }
    return SimpleNamespace(**{**message, **changes})


def region(x, y, width, height):
    return SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height, do_rectify=False)


def test_rectified_images_have_p_and_are_left_alone():
    found = read_calibration(info(), rectified=True)
    assert found.camera == PinholeCamera(60.0, 61.0, 31.0, 23.0, 64, 48)
    assert found.rectifier is None


def test_rectified_images_without_p_have_k():
    assert read_calibration(info(p=[0.0] * 12), rectified=True).camera.fx == 70.0


def test_raw_images_are_brought_to_p():
    found = read_calibration(info(), rectified=False)
    assert found.camera == PinholeCamera(60.0, 61.0, 31.0, 23.0, 64, 48)
    assert found.rectifier.raw == PinholeCamera(70.0, 71.0, 32.0, 24.0, 64, 48)


def test_raw_images_of_an_ideal_lens_have_k():
    found = read_calibration(info(d=[0.0] * 5), rectified=False)
    assert found.camera.fx == 70.0
    assert found.rectifier is None


def test_rectified_images_may_have_any_lens_in_their_message():
    assert read_calibration(info(distortion_model="fov", d=[0.9]), rectified=True).rectifier is None
    with pytest.raises(FrameError, match="'fov'"):
        read_calibration(info(distortion_model="fov", d=[0.9]), rectified=False)


@pytest.mark.parametrize(("binning", "roi"), [((2, 2), (0, 0, 0, 0)), ((0, 0), (10, 8, 40, 30)), ((2, 3), (10, 9, 40, 30))])
def test_binning_and_region_see_the_same_points(binning, roi):
    """A point lands in the binned region where it lands on the full sensor, in units of super-pixels."""
    full = read_calibration(info(), rectified=True).camera
    part = read_calibration(info(binning_x=binning[0], binning_y=binning[1], roi=region(*roi)), rectified=True)
    bx, by = (b or 1 for b in binning)
    width, height = roi[2] or 64, roi[3] or 48
    assert part.raw_size == (width // bx, height // by) == (part.camera.width, part.camera.height)
    point = np.array([[0.1, -0.05, 1.3]])
    (u, v), (a, b) = full.project(point)[0][0], part.camera.project(point)[0][0]
    # the left edge of super-pixel 0 is that of its first pixel
    assert (a + 0.5) * bx == pytest.approx(u + 0.5 - roi[0], abs=1e-4)
    assert (b + 0.5) * by == pytest.approx(v + 0.5 - roi[1], abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"k": [0.0] * 9}, "bad_intrinsics"),
        ({"k": [float("nan")] * 9}, "bad_intrinsics"),
        ({"k": [-70.0, 0, 32, 0, 71, 24, 0, 0, 1]}, "bad_intrinsics"),
        ({"p": [float("inf")] * 12}, "bad_intrinsics"),
        ({"r": [2.0] * 9}, "bad_intrinsics"),
        ({"width": 0}, "empty_image"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "image_too_large"),
        ({"roi": region(40, 0, 40, 10)}, "bad_roi"),
        ({"roi": region(2**32 - 1, 2**32 - 1, 0, 0)}, "bad_roi"),
        ({"binning_x": 2**32 - 1}, "bad_roi"),
        ({"binning_x": 60, "roi": region(0, 0, 20, 10)}, "empty_image"),
        ({"d": [0.1, 0.2]}, "unknown_distortion"),
        ({"d": [0.1] * 1_000_000}, "unknown_distortion"),
    ],
)
def test_calibrations_that_lie_are_refused_by_reason(changes, reason):
    with pytest.raises(FrameError) as caught:
        FrameReader(False, False).depth(SimpleNamespace(encoding="16UC1", width=1, height=1), info(**changes))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/camera/color/image_rect_color", True),
        ("/camera/depth/image_rect_raw", True),
        ("/zed/rgb/image_rect_color/compressed", True),
        ("/rectified/image", True),
        ("/camera/color/image_raw", False),
        ("/camera/aligned_depth_to_color/image_raw", False),
        ("/direct/image", False),
        ("/camera/image_corrected", False),
    ],
)
def test_rectified_topics_are_known_by_their_name(topic, rectified):
    assert is_rectified_topic(topic) is rectified


def picture(width=64, height=48):
    pixels = np.random.default_rng(6).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return SimpleNamespace(
        encoding="rgb8", width=width, height=height, step=3 * width, is_bigendian=0, data=pixels.tobytes()
    ), pixels


def test_images_are_undistorted_once_or_not_at_all():
    message, pixels = picture()
    kept, camera = FrameReader(True, True).color(message, info())
    assert np.array_equal(kept, pixels)
    bent, same = FrameReader(False, False).color(message, info())
    assert camera == same
    assert not np.array_equal(bent, pixels)


def test_the_maps_of_a_lens_are_made_once_per_calibration():
    reader, (message, _) = FrameReader(False, False), picture()
    reader.color(message, info())
    first = next(iter(reader._calibrations.values())).rectifier._maps[0]
    reader.color(message, info())
    assert next(iter(reader._calibrations.values())).rectifier._maps[0] is first
    for k in range(20):
        reader.color(message, info(d=[0.01 * k, 0.0, 0.0, 0.0, 0.001]))
    assert len(reader._calibrations) <= 4


def test_an_image_of_another_size_than_its_calibration_is_refused_before_it_is_read():
    message, _ = picture(32, 24)
    with pytest.raises(FrameError, match=r"32x24.*64x48") as caught:
        FrameReader().color(message, info())
    assert caught.value.reason == "size_mismatch"
