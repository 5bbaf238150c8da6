"""Lenses: bending and its inverse, derivatives, and images brought onto the grid of a pinhole camera."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.distortion import Distortion
from mosaic3d_core.geometry.rectification import Rectifier

# Lenses as calibrations of real cameras have them: a webcam, an Azure Kinect (eight coefficients), a fisheye.
LENSES = [
    Distortion("plumb_bob", (-0.28, 0.07, 0.001, -0.0007)),
    Distortion("plumb_bob", (0.1, -0.2, 0.0008, 0.0003, 0.05)),
    Distortion("rational_polynomial", (0.45, -2.6, 0.0005, -0.0002, 1.5, 0.33, -2.4, 1.4)),
    Distortion("equidistant", (-0.01, 0.03, -0.02, 0.004)),
]

coordinates = st.floats(-0.55, 0.55)
points = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=8).map(lambda p: np.array(p, np.float64))


def slow_distort(lens, x, y):
    """One point by the formulas of the camera_info message, term by term."""
    d = list(lens.coefficients) + [0.0] * 8
    r = (x**2 + y**2) ** 0.5
    if lens.model == "equidistant":
        t = np.arctan(r)
        bent = t + d[0] * t**3 + d[1] * t**5 + d[2] * t**7 + d[3] * t**9
        return (x, y) if r == 0 else (bent / r * x, bent / r * y)
    k1, k2, p1, p2, k3, k4, k5, k6 = d[:8]
    s = (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) / (1 + k4 * r**2 + k5 * r**4 + k6 * r**6)
    return (
        x * s + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2),
        y * s + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y,
    )


@settings(max_examples=60)
@given(st.sampled_from(LENSES), points)
def test_bending_equals_the_formulas_point_by_point(lens, where):
    np.testing.assert_allclose(lens.distort(where), [slow_distort(lens, *p) for p in where], atol=1e-14)


@settings(max_examples=60)
@given(st.sampled_from(LENSES), points)
def test_undistorting_what_was_distorted_is_the_identity(lens, where):
    np.testing.assert_allclose(lens.undistort(lens.distort(where)), where, atol=1e-9)
    np.testing.assert_allclose(lens.distort(lens.undistort(where)), where, atol=1e-9)


@settings(max_examples=60)
@given(st.sampled_from(LENSES), points)
def test_derivatives_equal_differences(lens, where):
    step = 1e-6
    slopes = lens.jacobian(where)
    for axis in range(2):
        shift = np.eye(2)[axis] * step
        difference = (lens.distort(where + shift) - lens.distort(where - shift)) / (2 * step)
        np.testing.assert_allclose(slopes[:, :, axis], difference, atol=1e-8)


def test_what_no_ray_reaches_is_nan():
    # k1 = -0.4: the radius on the sensor never exceeds 0.61
    assert np.isnan(Distortion("plumb_bob", (-0.4, 0.0, 0.0, 0.0)).undistort(np.array([[0.9, 0.0]]))).all()


@pytest.mark.parametrize(
    ("model", "coefficients", "reason"),
    [
        ("fov", (0.9,), "unknown_distortion"),
        ("", (0.1, 0.0, 0.0, 0.0, 0.0), "unknown_distortion"),
        ("plumb_bob", (0.1, 0.2), "unknown_distortion"),
        ("equidistant", (0.1, 0.2, 0.0, 0.0, 0.0), "unknown_distortion"),
        ("rational_polynomial", (0.1,) * 12, "unknown_distortion"),
        ("plumb_bob", (0.1,) * 100_000, "unknown_distortion"),
        ("plumb_bob", (float("nan"), 0.0, 0.0, 0.0), "bad_intrinsics"),
        ("x" * 10_000, (0.1,), "unknown_distortion"),
    ],
)
def test_lenses_that_are_not_known_give_one_clear_sentence(model, coefficients, reason):
    with pytest.raises(FrameError) as caught:
        Distortion.from_message(model, coefficients)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300


def test_zeros_are_no_lens_under_any_name():
    assert Distortion.from_message("", ()) is None
    assert Distortion.from_message("whatever", (0.0,) * 5) is None
    prism = Distortion.from_message("rational_polynomial", (0.1,) * 8 + (0.0,) * 4)
    assert prism == Distortion("rational_polynomial", (0.1,) * 8)


CAMERA = PinholeCamera(70.0, 71.0, 32.3, 23.8, 64, 48)


def pattern(u, v):
    """A smooth picture, known everywhere."""
    return np.stack([128 + 90 * np.sin(u / 9), 128 + 90 * np.cos(v / 8), 60 + 1.5 * u + v], -1)


def seen_through(lens):
    """The picture as each pixel of the raw image sees it: pixel -> ray -> ideal pixel, with the inverse of the lens."""
    v, u = np.mgrid[0:48, 0:64].astype(float)
    rays = lens.undistort(np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy], -1).reshape(-1, 2))
    ideal = rays * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]
    return np.clip(pattern(ideal[:, 0], ideal[:, 1]), 0, 255).round().reshape(48, 64, 3).astype(np.uint8), ideal


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: f"{lens.model}{len(lens.coefficients)}")
def test_a_picture_seen_through_a_lens_is_restored(lens):
    raw, _ = seen_through(lens)
    rectifier = Rectifier(CAMERA, lens, CAMERA)
    where, _ = rectifier.sources()
    inside = (where >= 0).all(-1) & (where[..., 0] <= 63) & (where[..., 1] <= 47)
    v, u = np.mgrid[0:48, 0:64]
    wanted = np.clip(pattern(u, v), 0, 255)
    error = np.abs(rectifier.color(raw).astype(float) - wanted)[inside]
    assert inside.mean() > 0.7
    assert error.max() < 3.0  # rounding of both images and bilinear interpolation of a curve of period 50 pixels


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: f"{lens.model}{len(lens.coefficients)}")
def test_depth_takes_the_nearest_pixel_and_keeps_z(lens):
    depth = np.random.default_rng(5).uniform(0.5, 5, (48, 64)).astype(np.float32)
    rectifier = Rectifier(CAMERA, lens, CAMERA)
    found = rectifier.depth(depth)
    for v in range(0, 48, 5):
        for u in range(0, 64, 5):
            x, y = slow_distort(lens, (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy)
            i, j = np.floor(y * CAMERA.fy + CAMERA.cy + 0.5), np.floor(x * CAMERA.fx + CAMERA.cx + 0.5)
            assert found[v, u] == (depth[int(i), int(j)] if 0 <= i < 48 and 0 <= j < 64 else 0)


def test_a_turned_camera_sees_the_wall_where_it_is():
    """R of the camera_info: a wall at z = 2 of the target camera, seen by a raw camera turned against it."""
    angle = 0.1
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    v, u = np.mgrid[0:48, 0:64].astype(float)
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], -1)
    depth = (2.0 / (rays @ turn.T)[..., 2]).astype(np.float32)  # raw z at which R p has z = 2
    found = Rectifier(CAMERA, None, CAMERA, tuple(map(tuple, turn))).depth(depth)
    seen = found > 0
    assert seen.mean() > 0.8
    np.testing.assert_allclose(found[seen], 2.0, rtol=2e-3)  # half a pixel at a slope of 0.1


def test_what_is_no_rotation_is_refused():
    with pytest.raises(FrameError, match="no rotation"):
        Rectifier(CAMERA, None, CAMERA, ((2.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
