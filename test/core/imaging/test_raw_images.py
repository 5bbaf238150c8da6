"""Uncompressed images: every encoding gives the colours that were in it, the kernels equal slow twins."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import convolve

from mosaic3d_core.errors import FrameError
from mosaic3d_core.imaging.bayer import RED_AT, demosaic
from mosaic3d_core.imaging.encode import mosaic
from mosaic3d_core.imaging.pixels import metric_depth, pick_channels
from mosaic3d_core.imaging.raw_images import YUV_ENCODINGS, decode_color, decode_depth


def image(pixels, encoding, padding=0, bigendian=0):
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return SimpleNamespace(
        width=width, height=height, step=data.shape[1], encoding=encoding, data=data.tobytes(), is_bigendian=bigendian
    )


def slow_demosaic(raw, pattern):
    """Each colour's pixels, mirrored and spread by the triangle kernel: bilinear interpolation as a convolution."""
    out = np.empty((*raw.shape, 3))
    row, column = RED_AT[pattern]
    masks = np.zeros((*raw.shape, 3))
    masks[row::2, column::2, 0] = masks[1 - row :: 2, 1 - column :: 2, 2] = 1
    masks[..., 1] = 1 - masks[..., 0] - masks[..., 2]
    triangle = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    cross = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    for c, kernel in enumerate((triangle, cross, triangle)):
        out[..., c] = convolve(raw * masks[..., c], kernel, mode="mirror")
    return np.floor(out + 0.5).astype(np.uint8)


sizes = st.tuples(st.integers(2, 9), st.integers(2, 9))


@settings(max_examples=80)
@given(sizes.flatmap(lambda size: hnp.arrays(np.uint8, size)), st.sampled_from(sorted(RED_AT)))
def test_demosaicing_equals_the_convolution(raw, pattern):
    assert np.array_equal(demosaic(raw, pattern), slow_demosaic(raw.astype(float), pattern))


@pytest.mark.parametrize("pattern", sorted(RED_AT))
def test_one_color_survives_the_mosaic(pattern):
    color = np.broadcast_to(np.array([200, 90, 30], np.uint8), (6, 8, 3))
    assert np.array_equal(demosaic(mosaic(color, pattern), pattern), color)


@pytest.mark.parametrize("pattern", sorted(RED_AT))
def test_a_bayer_image_keeps_the_pixels_that_its_sensor_saw(pattern):
    color = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    found = decode_color(image(mosaic(color, pattern), f"bayer_{pattern}8", padding=3))
    assert np.array_equal(mosaic(found, pattern), mosaic(color, pattern))


def test_mono16_counts_its_high_byte_in_both_byte_orders():
    values = np.array([[0, 256, 65535], [513, 1000, 40000]], np.uint16)
    for order in "<>":
        found = decode_color(image(values.astype(order + "u2"), "mono16", 2, int(order == ">")))
        assert np.array_equal(found, np.repeat((values >> 8).astype(np.uint8)[..., None], 3, 2))


def slow_yuv(y, u, v):
    """ITU-R BT.601 from its luma weights, for studio range."""
    luma, blue, red = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    r, b = luma + 2 * (1 - 0.299) * red, luma + 2 * (1 - 0.114) * blue
    g = (luma - 0.299 * r - 0.114 * b) / 0.587
    return np.clip(np.array([r, g, b]) * 255, 0, 255)


@pytest.mark.parametrize("encoding", sorted(YUV_ENCODINGS))
def test_video_colors_follow_bt601(encoding):
    generator = np.random.default_rng(2)
    y, u, v = generator.integers(0, 256, (4, 6)), generator.integers(0, 256, (4, 3)), generator.integers(0, 256, (4, 3))
    y0, u_at, v_at = YUV_ENCODINGS[encoding]
    raw = np.zeros((4, 3, 4), np.uint8)
    raw[..., y0], raw[..., y0 + 2], raw[..., u_at], raw[..., v_at] = y[:, ::2], y[:, 1::2], u, v
    found = decode_color(image(raw.reshape(4, 6, 2), encoding))
    wanted = np.array([[slow_yuv(y[i, j], u[i, j // 2], v[i, j // 2]) for j in range(6)] for i in range(4)])
    assert np.abs(found - wanted).max() <= 0.51  # rounding to whole values


@settings(max_examples=40)
@given(hnp.arrays(np.uint8, (3, 5, 4)), st.tuples(*[st.integers(0, 3)] * 3))
def test_picked_channels_are_those_asked_for(pixels, order):
    assert np.array_equal(pick_channels(pixels, order), pixels[..., list(order)])


@settings(max_examples=80)
@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(width=32)))
def test_metric_depth_is_positive_and_finite_or_zero(values):
    found = metric_depth(values, 1.0)
    good = np.isfinite(values) & (values > 0)
    assert np.array_equal(found, np.where(good, values, 0))


def test_infinite_depth_is_none():
    values = np.array([[np.inf, -np.inf, np.nan, -1.0, 0.0, 2.5]], np.float32)
    assert decode_depth(image(values, "32FC1")).tolist() == [[0, 0, 0, 0, 0, 2.5]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 0}, "empty_image"),
        ({"height": 0}, "empty_image"),
        ({"width": 4_000_000_000, "height": 4_000_000_000, "step": 0}, "image_too_large"),
        ({"step": 1}, "bad_image_size"),
        ({"height": 5}, "bad_image_size"),
        ({"step": 4_000_000_000}, "bad_image_size"),
        ({"data": b""}, "bad_image_size"),
        ({"encoding": "rgb99"}, "bad_encoding"),
        ({"encoding": "yuyv", "width": 3}, "bad_image_size"),
        ({"encoding": "bayer_rggb8", "width": 1}, "bad_image_size"),
    ],
)
def test_headers_that_lie_are_refused_by_reason(change, reason):
    message = image(np.zeros((4, 6, 3), np.uint8), "rgb8")
    vars(message).update(change)
    with pytest.raises(FrameError) as caught:
        decode_color(message)
    assert caught.value.reason == reason
    assert str(caught.value).count(".") >= 1
