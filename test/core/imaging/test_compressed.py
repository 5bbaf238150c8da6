"""Compressed images: what a driver packs comes out again, and damaged or lying files are refused before they cost anything."""

import math
import struct
import tracemalloc
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mosaic3d_core.errors import FrameError
from mosaic3d_core.imaging.compressed import decode_compressed_color, decode_png_depth
from mosaic3d_core.imaging.compressed_depth import HEADER, decode_compressed_depth
from mosaic3d_core.imaging.encode import DEPTH_MAX_M, DEPTH_QUANTIZATION, encode_compressed_depth, encode_picture, mosaic
from mosaic3d_core.imaging.rvl import decode_rvl, encode_rvl


def packed(data, image_format=""):
    return SimpleNamespace(data=data, format=image_format)


def result_or_reason(call, *arguments):
    try:
        return call(*arguments)
    except FrameError as error:
        return error.reason


def smooth_color():
    v, u = np.mgrid[0:48, 0:64]
    return np.stack([4 * u, 5 * v, 2 * (u + v)], -1).clip(0, 255).astype(np.uint8)


def depth_values():
    values = np.random.default_rng(3).integers(0, 9000, (48, 64)).astype(np.uint16)
    values[10:20, 5:30] = 0
    return values


@pytest.mark.parametrize(("codec", "tolerance"), [("png", 0), ("jpeg", 12)])
def test_colors_come_back_in_the_order_red_green_blue(codec, tolerance):
    found = decode_compressed_color(packed(encode_picture(smooth_color(), codec), f"rgb8; {codec} compressed bgr8"))
    assert np.abs(found.astype(int) - smooth_color()).max() <= tolerance  # JPEG at quality 95 of a smooth image


def test_grey_palette_and_alpha_files_become_rgb():
    grey = smooth_color()[..., 0]
    assert np.array_equal(decode_compressed_color(packed(encode_picture(grey, "png"))), np.repeat(grey[..., None], 3, 2))
    alpha = np.dstack([smooth_color(), np.full((48, 64), 9, np.uint8)])
    assert np.array_equal(decode_compressed_color(packed(encode_picture(alpha, "png"))), smooth_color())
    deep = (grey.astype(np.uint16) << 8) | 3
    assert np.array_equal(decode_compressed_color(packed(encode_picture(deep, "png"))), np.repeat(grey[..., None], 3, 2))


def test_the_mosaic_in_a_grey_file_is_a_bayer_image():
    color = np.broadcast_to(np.array([200, 90, 30], np.uint8), (8, 8, 3))
    message = packed(encode_picture(mosaic(color, "gbrg"), "png"), "bayer_gbrg8; png compressed ")
    assert np.array_equal(decode_compressed_color(message), color)


def test_millimetres_in_a_png():
    found = decode_png_depth(packed(encode_picture(depth_values(), "png"), "16UC1; png compressed "))
    np.testing.assert_allclose(found, depth_values() * 1e-3, rtol=1e-6)


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_millimetres_in_compressed_depth_are_exact(codec):
    data = encode_compressed_depth(depth_values(), "16UC1", codec)
    found = decode_compressed_depth(packed(data, f"16UC1; compressedDepth {codec}"), (64, 48))
    np.testing.assert_allclose(found, depth_values() * 1e-3, rtol=1e-6)


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_metres_in_compressed_depth_are_as_exact_as_their_quantisation(codec):
    metres = np.random.default_rng(4).uniform(0.2, 9.9, (48, 64)).astype(np.float32)
    metres[:5], metres[5, 5], metres[6, 6] = 0, np.nan, np.inf
    data = encode_compressed_depth(metres, "32FC1", codec)
    found = decode_compressed_depth(packed(data, f"32FC1; compressedDepth {codec}"))
    known = np.isfinite(metres) & (metres > 0)
    assert np.all(found[~known] == 0)
    # one step of q = A / z + B is z^2 / A metres
    step = metres[known] ** 2 / (DEPTH_QUANTIZATION * (DEPTH_QUANTIZATION + 1))
    assert np.all(np.abs(found[known] - metres[known]) <= 1.02 * step)
    assert DEPTH_MAX_M > 9.9


def test_a_message_by_hand_has_the_layout_of_the_transport():
    """12 bytes of header (int32 0, float A, float B), width, height, then RVL: 2 zeros, a run of 2 values, 5 and 4."""
    # 2 -> 2, 2 -> 2, +5 zigzag 10 = 2 | 8, 1; -1 zigzag 1
    word = 0x2 << 28 | 0x2 << 24 | 0xA << 20 | 0x1 << 16 | 0x1 << 12
    data = struct.pack("<iffIII", 0, 0.0, 0.0, 4, 1, word)
    found = decode_compressed_depth(packed(data, "16UC1; compressedDepth rvl"))
    np.testing.assert_allclose(found, [[0, 0, 0.005, 0.004]], rtol=1e-6)


def slow_rvl(values):
    """The code as the paper describes it, with lists of groups."""
    groups = []

    def put(number):
        while True:
            rest = number >> 3
            groups.append((number & 7) | (8 if rest else 0))
            number = rest
            if not number:
                return

    k, before = 0, 0
    while k < len(values):
        zeros = 0
        while k + zeros < len(values) and values[k + zeros] == 0:
            zeros += 1
        run = 0
        while k + zeros + run < len(values) and values[k + zeros + run] != 0:
            run += 1
        put(zeros)
        put(run)
        for value in values[k + zeros : k + zeros + run]:
            delta = int(value) - before
            put(2 * delta if delta >= 0 else -2 * delta - 1)
            before = int(value)
        k += zeros + run
    groups += [0] * (-len(groups) % 8)
    words = [sum(g << (28 - 4 * n) for n, g in enumerate(groups[i : i + 8])) for i in range(0, len(groups), 8)]
    return struct.pack(f"<{len(words)}I", *words)


runs = st.lists(st.one_of(st.just(0), st.integers(0, 65535), st.integers(990, 1010)), max_size=60)


@settings(max_examples=150)
@given(runs)
def test_rvl_equals_the_paper_and_comes_back(values):
    data = encode_rvl(np.array(values, np.uint16))
    assert data.tobytes() == slow_rvl(values)
    assert decode_rvl(data, len(values)).tolist() == values


@settings(max_examples=300)
@given(hnp.arrays(np.uint8, st.integers(0, 64)), st.integers(0, 500))
def test_rvl_of_any_bytes_ends_with_values_or_a_reason(data, count):
    outcome = result_or_reason(decode_rvl, data, count)
    assert (outcome == "bad_compression") if isinstance(outcome, str) else (len(outcome) == count)


def png_header(width, height, kind=2):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def reason_of(call, *arguments):
    with pytest.raises(FrameError) as caught:
        call(*arguments)
    assert str(caught.value).endswith((".", "?"))
    return caught.value.reason


def test_bombs_cost_no_memory():
    bomb = png_header(60_000, 60_000) + b"\x00" * 64
    rvl = HEADER.pack(0, 0.0, 0.0) + struct.pack("<II", 2**32 - 1, 2**32 - 1) + b"\x77" * 64
    tracemalloc.start()
    assert reason_of(decode_compressed_color, packed(bomb)) in ("image_too_large", "bad_compression")
    assert reason_of(decode_compressed_depth, packed(rvl, "16UC1; compressedDepth rvl")) == "image_too_large"
    small = packed(encode_picture(smooth_color(), "png"))
    assert reason_of(decode_compressed_color, small, (640, 480)) == "size_mismatch"
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("codec", ["png", "jpeg"])
def test_truncated_files_are_refused(codec, share):
    data = encode_picture(smooth_color(), codec)
    reason = reason_of(decode_compressed_color, packed(data[: math.ceil(share * len(data))]))
    assert reason == ("empty_image" if share == 0 else "bad_compression")


@pytest.mark.parametrize(
    ("data", "image_format", "reason"),
    [
        (b"", "16UC1; compressedDepth png", "empty_image"),
        (b"\0" * 5, "16UC1; compressedDepth png", "bad_compression"),
        (b"\0" * 30, "16UC1; compressedDepth png", "bad_compression"),
        (b"\0" * 15, "16UC1; compressedDepth rvl", "bad_compression"),
        (b"\0" * 30, "16UC1; compressedDepth rvl", "empty_image"),
        (b"\0" * 30, "8UC3; compressedDepth png", "bad_encoding"),
        (HEADER.pack(0, math.nan, 1.0) + encode_picture(depth_values(), "png"), "32FC1; compressedDepth png", "bad_compression"),
        (HEADER.pack(0, -1.0, 1.0) + encode_picture(depth_values(), "png"), "32FC1; compressedDepth png", "bad_compression"),
        (HEADER.pack(0, 0.0, 0.0) + encode_picture(smooth_color(), "jpeg"), "16UC1; compressedDepth png", "bad_encoding"),
    ],
)  # fmt: skip
def test_damaged_depth_is_refused_by_reason(data, image_format, reason):
    assert reason_of(decode_compressed_depth, packed(data, image_format)) == reason


def test_depth_in_a_jpeg_says_what_to_set():
    with pytest.raises(FrameError, match="format to png"):
        decode_png_depth(packed(encode_picture(smooth_color()[..., 0], "jpeg")))


@settings(max_examples=400)
@given(st.sampled_from(["png", "jpeg"]), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_give_an_image_or_a_reason(codec, changes):
    data = bytearray(encode_picture(smooth_color(), codec))
    for at, value in changes:
        data[at % len(data)] = value
    outcome = result_or_reason(decode_compressed_color, packed(bytes(data)), (64, 48))
    if isinstance(outcome, str):
        assert outcome in ("bad_compression", "size_mismatch", "image_too_large", "empty_image")
    else:
        assert outcome.shape == (48, 64, 3)
