"""Cameras, rigid transforms, registration and gravity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mosaic3d_core.errors import FrameError
from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.gravity import estimate_up
from mosaic3d_core.geometry.registration import OCCLUSION_MARGIN_M, OCCLUSION_MARGIN_SHARE, register_color_to_depth
from mosaic3d_core.geometry.transforms import (
    check_transform,
    interpolate_pose,
    invert_transform,
    matrix_to_quaternion_xyzw,
    pose_to_matrix,
    quaternion_xyzw_to_matrix,
    rotation_aligning,
    transform_points,
)

CAMERA = PinholeCamera(50.0, 52.0, 15.5, 11.5, 32, 24)
seeds = st.integers(0, 10_000)


def random_pose(rng: np.random.Generator) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    out[:3, 3] = rng.normal(size=3)
    return out


@given(seeds)
@settings(max_examples=50)
def test_projecting_what_was_unprojected_gives_the_pixel_back(seed):
    depth = np.random.default_rng(seed).uniform(0.5, 4, (24, 32)).astype(np.float32)
    uv, z = CAMERA.project(CAMERA.unproject(depth).reshape(-1, 3))
    v, u = np.mgrid[0:24, 0:32]
    assert np.allclose(uv, np.stack([u.ravel(), v.ravel()], 1), atol=1e-3)  # float32 pixels
    assert np.allclose(z, depth.ravel())


def test_points_behind_the_camera_have_no_pixel():
    uv, _ = CAMERA.project(np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0]]))
    assert np.isnan(uv).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 50.0, 1, 1, 4, 4), "fx must be > 0 pixels, got 0.0: the camera is not calibrated"),
        ((50.0, float("nan"), 1, 1, 4, 4), "fy must be > 0"),
        ((50.0, 50.0, float("inf"), 1, 4, 4), "principal point must be finite"),
        ((50.0, 50.0, 1, 1, 0, 4), "size must be positive, got 0x4"),
    ],
)
def test_cameras_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(FrameError, match=message) as caught:
        PinholeCamera(*arguments)
    assert caught.value.reason == "bad_intrinsics"


def test_an_all_zero_intrinsic_matrix_is_called_uncalibrated():
    with pytest.raises(FrameError, match="not calibrated"):
        PinholeCamera.from_matrix(np.zeros(9), 640, 480)


@given(seeds)
@settings(max_examples=100)
def test_quaternions_and_inverses_round_trip(seed):
    rng = np.random.default_rng(seed)
    pose = random_pose(rng)
    q = matrix_to_quaternion_xyzw(pose[:3, :3])
    assert q[3] >= 0
    assert np.allclose(quaternion_xyzw_to_matrix(q), pose[:3, :3], atol=1e-9)
    assert np.allclose(invert_transform(pose) @ pose, np.eye(4), atol=1e-9)
    points = rng.normal(size=(5, 3))
    assert np.allclose(transform_points(invert_transform(pose), transform_points(pose, points)), points, atol=1e-9)


@given(seeds, st.floats(0, 1))
@settings(max_examples=50)
def test_interpolated_poses_lie_on_the_way(seed, alpha):
    rng = np.random.default_rng(seed)
    a, b = random_pose(rng), random_pose(rng)
    between = interpolate_pose(a, b, alpha)
    assert np.allclose(between[:3, 3], (1 - alpha) * a[:3, 3] + alpha * b[:3, 3])
    whole = np.linalg.norm(Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).as_rotvec())
    part = np.linalg.norm(Rotation.from_matrix(a[:3, :3].T @ between[:3, :3]).as_rotvec())
    assert part == pytest.approx(alpha * whole, abs=1e-6)


@given(seeds)
@settings(max_examples=100)
def test_aligning_rotation_turns_one_direction_into_the_other(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=3), rng.normal(size=3)
    for target in (b, a, -a):
        rotation = rotation_aligning(a, target)
        assert np.allclose(rotation @ a / np.linalg.norm(a), target / np.linalg.norm(target), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.full((4, 4), np.nan), "nan_pose"),
        (np.diag([2.0, 1, 1, 1]), "non_rigid_pose"),
        (np.diag([-1.0, 1, 1, 1]), "non_rigid_pose"),
        (np.zeros((3, 3)), "bad_pose"),
    ],
)
def test_matrices_that_are_no_poses_are_refused_by_name(matrix, reason):
    with pytest.raises(FrameError, match="T_world_camera") as caught:
        check_transform(matrix, "T_world_camera")
    assert caught.value.reason == reason


def test_a_slightly_rounded_rotation_is_made_exact():
    pose = np.eye(4)
    pose[:3, :3] = np.round(Rotation.from_rotvec([0.3, 0.2, 0.1]).as_matrix(), 3)
    fixed = check_transform(pose, "pose")[:3, :3]
    assert np.allclose(fixed @ fixed.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(("quaternion", "message"), [((0, 0, 0, 0), "all zero"), ((np.nan, 0, 0, 1), "finite")])
def test_quaternions_that_are_none_are_refused(quaternion, message):
    with pytest.raises(FrameError, match=message):
        pose_to_matrix((0, 0, 0), quaternion)


def registration_by_brute_force(color, color_camera, T, depth, depth_camera, cell=3):
    """Every depth pixel against every other one that falls into the same cell of the colour image."""
    h, w = depth.shape
    points = depth_camera.unproject(depth).reshape(-1, 3).astype(np.float64)
    moved = points @ T[:3, :3].T + T[:3, 3]
    out, known = np.zeros((h, w, 3), np.uint8), np.zeros((h, w), bool)
    target = []
    for p, z in zip(moved, depth.ravel(), strict=True):
        if not z > 0 or p[2] <= 0.01:
            target.append(None)
            continue
        u = int(np.floor(p[0] / p[2] * color_camera.fx + color_camera.cx + 0.5))
        v = int(np.floor(p[1] / p[2] * color_camera.fy + color_camera.cy + 0.5))
        target.append((u, v, p[2]) if 0 <= u < color_camera.width and 0 <= v < color_camera.height else None)
    for i, t in enumerate(target):
        if t is None:
            continue
        front = min(o[2] for o in target if o is not None and (o[0] // cell, o[1] // cell) == (t[0] // cell, t[1] // cell))
        if t[2] <= np.float32(front) + OCCLUSION_MARGIN_M + OCCLUSION_MARGIN_SHARE * front:
            known[i // w, i % w] = True
            out[i // w, i % w] = color[t[1], t[0]]
    return out, known


@given(seeds)
@settings(max_examples=20)
def test_registered_colour_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    depth = rng.choice([0.0, 1.0, 1.02, 2.5], (24, 32)).astype(np.float32) + rng.uniform(0, 0.01, (24, 32)).astype(np.float32)
    depth[rng.random((24, 32)) < 0.1] = 0
    color = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    other = PinholeCamera(44.0, 45.0, 15.0, 10.0, 30, 20)
    T = np.eye(4)
    T[0, 3] = -0.05
    got, expected = (
        register_color_to_depth(color, other, T, depth, CAMERA),
        registration_by_brute_force(color, other, T, depth, CAMERA),
    )
    # a point on the border of two colour pixels may round either way in float32
    assert (got[1] == expected[1]).mean() > 0.99
    same = got[1] & expected[1]
    assert (got[0] == expected[0]).all(axis=2)[same].mean() > 0.99


def test_a_surface_hidden_from_the_colour_camera_gets_no_colour():
    # a near post in front of a far wall; the colour camera stands to the left and sees the post over a part of the wall
    camera = PinholeCamera(200.0, 200.0, 79.5, 59.5, 160, 120)
    depth = np.full((120, 160), 3.0, np.float32)
    depth[:, 75:85] = 1.0
    T = np.eye(4)
    T[0, 3] = 0.1
    color = np.zeros((120, 160, 3), np.uint8)
    _, known = register_color_to_depth(color, camera, T, depth, camera)
    # the post appears 200 * 0.1 * (1 - 1/3) = 13 px further right than the wall behind it
    assert known[:, 75:85].all()
    assert not known[20:100, 90:96].any(), "wall hidden behind the post"
    assert known[20:100, 105:130].all()


@given(seeds)
@settings(max_examples=30)
def test_up_is_found_from_tilted_cameras_and_a_floor(seed):
    rng = np.random.default_rng(seed)
    up = rng.normal(size=3)
    up /= np.linalg.norm(up)
    world = rotation_aligning((0, 0, 1), up)
    poses = []
    for yaw in np.linspace(0, 6, 12):
        forward = np.array([np.cos(yaw), np.sin(yaw), -0.4])
        forward /= np.linalg.norm(forward)
        right = np.array([np.sin(yaw), -np.cos(yaw), 0])
        pose = np.eye(4)
        pose[:3, :3] = world @ np.stack([right, np.cross(forward, right), forward], 1)
        poses.append(pose)
    normals = np.concatenate([np.tile(up, (400, 1)), rng.normal(size=(400, 3))]) + rng.normal(0, 0.03, (800, 3))
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    assert estimate_up(np.stack(poses), normals) @ up > np.cos(np.radians(3))


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"color": np.zeros((24, 32), np.uint8)}, "bad_encoding", "color must be"),
        ({"color": np.zeros((24, 32, 3), np.float32)}, "bad_encoding", "uint8 RGB"),
        ({"depth": np.zeros((24, 32), np.uint16)}, "bad_encoding", "float32 metres"),
        ({"depth": np.zeros((12, 16), np.float32)}, "size_mismatch", "depth image is 16x12 but its camera says 32x24"),
        ({"T_world_camera": np.full((4, 4), np.inf)}, "nan_pose", "T_world_camera has NaN or infinite"),
    ],
)
def test_frames_that_do_not_fit_say_what_is_wrong(change, reason, message):
    good = {
        "stamp_ns": 0,
        "color": np.zeros((24, 32, 3), np.uint8),
        "depth": np.ones((24, 32), np.float32),
        "depth_camera": CAMERA,
        "T_world_camera": np.eye(4),
    }
    RGBDFrame(**good)
    with pytest.raises(FrameError, match=message) as caught:
        RGBDFrame(**(good | change))
    assert caught.value.reason == reason
