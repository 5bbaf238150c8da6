"""Splatting: depth is that of the surface, near hides far, and nothing falls over at the edges."""

import numpy as np
import pytest

from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.visualization.splat import render_depth, splat

CAMERA = PinholeCamera(260.0, 260.0, 159.5, 119.5, 320, 240)


def plane(slope=0.0, distance=2.0, spacing=0.02, noise=0.0, half=2.0):
    """Points and normals of z = distance + slope x in front of the camera."""
    x, y = np.meshgrid(np.arange(-half, half, spacing), np.arange(-half, half, spacing))
    z = distance + slope * x + np.random.default_rng(0).normal(scale=noise, size=x.shape)
    normal = np.array([slope, 0, -1]) / np.hypot(slope, 1)
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    return points, np.tile(normal, (len(points), 1))


def snapshot_of(points, normals):
    return MapSnapshot.from_points(points, np.full(points.shape, 128.0), 0.02, normals)


@pytest.mark.parametrize("slope", [0.0, 0.5, -1.0])
def test_depth_of_a_plane_is_exact(slope):
    points, normals = plane(slope)
    depth = render_depth(snapshot_of(points, normals), CAMERA, np.eye(4))
    u = (np.arange(320) - CAMERA.cx) / CAMERA.fx
    expected = np.broadcast_to(2.0 / (1 - slope * u), depth.shape)
    inside = np.zeros(depth.shape, bool)
    inside[40:200, 60:260] = True
    hit = inside & (depth > 0)
    assert hit.sum() > 0.97 * inside.sum()
    # Neighbouring discs are blended, so a slanted plane is right to a tenth of a voxel.
    assert np.abs(depth - expected)[hit].max() < 2e-3


def test_depth_of_a_noisy_surface_is_unbiased():
    points, normals = plane(noise=0.005)
    depth = render_depth(snapshot_of(points, normals), CAMERA, np.eye(4))
    assert np.median(depth[depth > 0]) == pytest.approx(2.0, abs=2e-3)


def test_pose_is_respected():
    points, normals = plane()
    pose = np.eye(4)
    pose[2, 3] = 0.5
    depth = render_depth(snapshot_of(points, normals), CAMERA, pose)
    assert depth[120, 160] == pytest.approx(1.5, abs=1e-3)


def test_near_hides_far_and_values_do_not_mix():
    near, far = plane(distance=1.0, half=0.3), plane(distance=2.0)
    points = np.vstack([far[0], near[0]])
    normals = np.vstack([far[1], near[1]])
    values = np.concatenate([np.zeros(len(far[0])), np.ones(len(near[0]))])[:, None]
    buffers = splat(points, normals, 0.018, values, CAMERA)
    assert buffers.values[120, 160, 0] == pytest.approx(1.0)
    assert buffers.depth[120, 160] == pytest.approx(1.0, abs=1e-3)
    assert buffers.values[10, 10, 0] == pytest.approx(0.0)
    assert buffers.nearest[120, 160] >= len(far[0])


def test_surfaces_seen_from_behind_can_be_left_out():
    points, normals = plane()
    assert (splat(points, -normals, 0.018, None, CAMERA, cull_backfaces=True).depth == 0).all()
    assert (splat(points, -normals, 0.018, None, CAMERA).depth > 0).any()


def test_parallel_projection_keeps_sizes():
    points, normals = plane(half=0.5)
    camera = PinholeCamera(100.0, 100.0, 99.5, 99.5, 200, 200)
    covered = (splat(points, normals, 0.018, None, camera, orthographic=True).depth > 0).sum()
    assert covered == pytest.approx(100 * 100, rel=0.05)


def test_far_discs_smaller_than_a_pixel_are_still_seen():
    points, normals = plane(distance=15.0, half=6.0, spacing=0.05)
    depth = splat(points, normals, 0.018, None, CAMERA).depth
    assert (depth[40:200, 80:240] > 0).mean() > 0.9


def test_nothing_and_nonsense():
    empty = np.zeros((0, 3))
    assert (splat(empty, None, 0.02, None, CAMERA).depth == 0).all()
    odd = np.array([[0, 0, -1], [0, 0, 0], [np.nan, 0, 1], [0, np.inf, 1], [0, 0, np.nan]])
    assert np.isfinite(splat(odd, None, 0.02, None, CAMERA).depth).all()
    with pytest.raises(ValueError, match=r"shape \(N, 3\)"):
        splat(np.zeros((3, 2)), None, 0.02, None, CAMERA)
    with pytest.raises(ValueError, match="do not match"):
        splat(np.zeros((3, 3)), np.zeros((2, 3)), 0.02, None, CAMERA)
