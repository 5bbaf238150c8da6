"""The transform tree: lookups over time, and sentences about what is missing."""

import numpy as np
import pytest

from mosaic3d_core.geometry.transform_buffer import TransformBuffer, TransformLookupError

SECOND = 1_000_000_000


def shift(x, y=0.0, z=0.0):
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


@pytest.fixture
def buffer():
    buffer = TransformBuffer(cache_s=5.0, jump_back_s=1.0)
    buffer.set("map", "base", 10 * SECOND, shift(0.0))
    buffer.set("map", "base", 11 * SECOND, shift(1.0))
    buffer.set("/base", "/camera", 0, shift(0.0, 0.0, 2.0), is_static=True)
    return buffer


def test_between_two_transforms_it_interpolates(buffer):
    found = buffer.lookup("map", "camera", 10 * SECOND + SECOND // 4)
    assert np.allclose(found[:3, 3], [0.25, 0.0, 2.0])


def test_inverse_and_same_frame(buffer):
    assert np.allclose(buffer.lookup("camera", "map", 11 * SECOND)[:3, 3], [-1.0, 0.0, -2.0])
    assert np.array_equal(buffer.lookup("nowhere", "nowhere"), np.eye(4))


def test_without_a_time_the_newest_counts(buffer):
    assert np.allclose(buffer.lookup("map", "base")[:3, 3], [1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("target", "source", "stamp", "reason", "text"),
    [
        ("map", "base", 12 * SECOND, "too_early", "older than the image"),
        ("map", "base", 9 * SECOND, "too_old", "newer than the image"),
        ("map", "lidar", 10 * SECOND, "unknown_frame", "known frames: base, camera, map"),
    ],
)
def test_what_cannot_be_answered_says_why(buffer, target, source, stamp, reason, text):
    with pytest.raises(TransformLookupError, match=text) as caught:
        buffer.lookup(target, source, stamp)
    assert caught.value.reason == reason


def test_two_trees_are_not_connected(buffer):
    buffer.set("odom", "arm", 10 * SECOND, shift(0.0))
    with pytest.raises(TransformLookupError, match="does not connect") as caught:
        buffer.lookup("map", "arm", 10 * SECOND)
    assert caught.value.reason == "not_connected"


def test_a_recording_that_loops_forgets_the_future(buffer):
    buffer.set("map", "base", 5 * SECOND, shift(7.0))
    assert np.allclose(buffer.lookup("map", "base")[:3, 3], [7.0, 0.0, 0.0])
    with pytest.raises(TransformLookupError):
        buffer.lookup("map", "base", 11 * SECOND)


def test_history_is_bounded(buffer):
    for second in range(12, 40):
        buffer.set("map", "base", second * SECOND, shift(float(second)))
    with pytest.raises(TransformLookupError) as caught:
        buffer.lookup("map", "base", 20 * SECOND)
    assert caught.value.reason == "too_old"


def test_a_circle_of_frames_does_not_hang():
    buffer = TransformBuffer()
    buffer.set("a", "b", 0, shift(1.0))
    buffer.set("b", "a", 0, shift(1.0))
    with pytest.raises(TransformLookupError):
        buffer.lookup("a", "c", 0)
