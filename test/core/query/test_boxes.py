"""Boxes: the fitted box covers the object and nothing else, and the overlap measure is exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.query.boxes import OrientedBox, fit_upright_box, ground_basis, iou_3d


def upright(center=(0, 0, 0), size=(1, 1, 1), yaw=0.0, up=(0, 0, 1)) -> OrientedBox:
    basis = ground_basis(np.array(up, float))
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return OrientedBox(np.array(center, float), basis @ turn, np.array(size, float))


def monte_carlo_iou(a: OrientedBox, b: OrientedBox, count: int = 200_000) -> float:
    """Slow twin: the share of random points of the common bounding box that lie in both."""
    corners = np.vstack([a.corners(), b.corners()])
    points = np.random.default_rng(0).uniform(corners.min(0), corners.max(0), (count, 3))
    in_a, in_b = a.contains(points), b.contains(points)
    return (in_a & in_b).sum() / max((in_a | in_b).sum(), 1)


boxes = st.builds(
    upright,
    st.tuples(*[st.floats(-0.7, 0.7)] * 3),
    st.tuples(*[st.floats(0.3, 2.0)] * 3),
    st.floats(-4, 4),
)


@given(boxes, boxes)
@settings(max_examples=60)
def test_iou_agrees_with_counting_random_points(a, b):
    # 200k samples: standard error below 0.004 for these volumes.
    assert iou_3d(a, b) == pytest.approx(monte_carlo_iou(a, b), abs=0.015)


@given(boxes, boxes)
@settings(max_examples=200)
def test_iou_is_symmetric_bounded_and_one_for_itself(a, b):
    assert iou_3d(a, b) == pytest.approx(iou_3d(b, a), abs=1e-9)
    assert 0.0 <= iou_3d(a, b) <= 1.0
    assert iou_3d(a, a) == pytest.approx(1.0, abs=1e-9)


def test_iou_of_shifted_cubes_is_the_hand_value():
    assert iou_3d(upright(), upright((0.5, 0, 0))) == pytest.approx(1 / 3)
    assert iou_3d(upright(), upright((2, 0, 0))) == 0.0
    # A unit square and itself turned by 45 degrees share the regular octagon of area 2 sqrt(2) - 2.
    octagon = 2 * np.sqrt(2) - 2
    assert iou_3d(upright(), upright(yaw=np.pi / 4)) == pytest.approx(octagon / (2 - octagon))


def test_iou_works_about_any_common_axis_far_from_the_origin():
    up = np.array([0.2, -1.0, 0.1])
    a = upright((5000, -300, 20), up=up / np.linalg.norm(up))
    b = OrientedBox(a.center + a.rotation[:, 0] * 0.5, a.rotation, a.size)
    assert iou_3d(a, b) == pytest.approx(1 / 3, abs=1e-6)


def test_iou_of_tilted_boxes_is_refused():
    with pytest.raises(ValueError, match="upright about the same axis"):
        iou_3d(upright(), upright(up=(0, 1, 0)))


def test_bad_boxes_are_refused():
    with pytest.raises(ValueError, match="rotation matrix"):
        OrientedBox(np.zeros(3), np.eye(3) * 2, np.ones(3))
    with pytest.raises(ValueError, match="not be negative"):
        OrientedBox(np.zeros(3), np.eye(3), np.array([1, -1, 1]))
    with pytest.raises(ValueError, match="center must be finite"):
        OrientedBox(np.array([0, np.nan, 0]), np.eye(3), np.ones(3))


def voxel_centres(box: OrientedBox, voxel: float) -> np.ndarray:
    reach = np.abs(box.corners() - box.center).max()
    axis = np.arange(-reach - voxel, reach + voxel, voxel)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    grid = (np.floor((grid + box.center) / voxel) + 0.5) * voxel
    return grid[box.contains(grid)]


@given(st.floats(0, np.pi), st.floats(0.4, 1.5), st.floats(0.3, 1.0), st.floats(0.3, 0.9))
@settings(max_examples=40)
def test_fitting_recovers_a_voxelised_box(yaw, length, width, height):
    truth = upright((1.0, -2.0, 0.5), (length, width, height), yaw)
    fitted = fit_upright_box(voxel_centres(truth, 0.04), np.array([0, 0, 1.0]), 0.04)
    # a voxel counts when its centre is inside: up to a voxel and a half (6 of 30 cm) is lost along each axis
    assert iou_3d(truth, fitted) > 0.55


def test_stray_voxels_do_not_stretch_the_box():
    truth = upright((0, 0, 0.5), (1.0, 0.6, 1.0), 0.4)
    points = voxel_centres(truth, 0.04)
    strays = np.array([[2.5, 0.3, 0.4], [2.5, 0.34, 0.4], [0, 0, 2.4]])
    fitted = fit_upright_box(np.vstack([points, strays]), np.array([0, 0, 1.0]), 0.04)
    assert iou_3d(truth, fitted) > 0.8


def test_thin_and_tiny_objects_get_at_least_two_voxels():
    sheet = np.stack([*np.meshgrid(np.arange(0, 1, 0.02), np.arange(0, 1, 0.02)), np.full((50, 50), 0.3)], -1)
    for points in (sheet.reshape(-1, 3), sheet[0, :1], sheet[0]):
        box = fit_upright_box(points, np.array([0, 0, 1.0]), 0.02)
        assert (box.size >= 0.04 - 1e-9).all()
        assert box.contains(points).all()


def test_the_box_stands_along_up():
    up = np.array([0.0, -1.0, 0.0])
    points = np.random.default_rng(0).uniform([0, 0, 0], [2, 0.5, 1], (4000, 3))
    box = fit_upright_box(points, up, 0.02)
    assert box.rotation[:, 2] @ up == pytest.approx(1.0)
    assert box.size == pytest.approx([2, 1, 0.5], abs=0.06)


def test_no_points_is_refused():
    with pytest.raises(ValueError, match="at least one finite point"):
        fit_upright_box(np.zeros((0, 3)), np.array([0, 0, 1.0]), 0.02)
