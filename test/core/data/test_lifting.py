"""Masks of images lifted to points: against a loop over points, and against the truth of generated rooms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.data.lifting import DepthTest, lift_masks, visible_points
from mosaic3d_core.data.synthetic.record import fuse_sequence, true_labels
from mosaic3d_core.data.synthetic.sequence import open_room
from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.camera import PinholeCamera

CAMERA = PinholeCamera(40.0, 42.0, 15.5, 11.5, 32, 24)


def frame_at(pose: np.ndarray, depth: np.ndarray, **more) -> RGBDFrame:
    return RGBDFrame(0, np.zeros((24, 32, 3), np.uint8), depth.astype(np.float32), CAMERA, pose, **more)


def by_loop(points, masks, frame, test):
    """One point after the other, in double precision."""
    found = [[] for _ in masks]
    inverse = np.linalg.inv(frame.T_world_camera)
    for number, point in enumerate(points.astype(np.float64)):
        x, y, z = inverse[:3, :3] @ point + inverse[:3, 3]
        if z <= 0:
            continue
        column, row = round(x / z * CAMERA.fx + CAMERA.cx), round(y / z * CAMERA.fy + CAMERA.cy)
        if not (0 <= row < 24 and 0 <= column < 32):
            continue
        measured = float(frame.depth[row, column])
        if measured > 0 and abs(z - measured) <= max(test.max_error_m, test.max_relative_error * measured):
            for k, mask in enumerate(masks):
                if mask[row, column]:
                    found[k].append(number)
    return found


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), error=st.floats(0.01, 0.5), share=st.floats(0.0, 0.3))
def test_equals_one_point_after_the_other(seed, error, share):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi)
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    pose[:3, 3] = rng.uniform(-1, 1, 3)
    depth = np.where(rng.random((24, 32)) < 0.8, rng.uniform(0.5, 4.0, (24, 32)), 0.0)
    depth[0, 0] = np.nan
    points = rng.uniform(-4, 4, (400, 3)).astype(np.float32)
    masks = rng.random((3, 24, 32)) < 0.5
    frame, test = frame_at(pose, depth), DepthTest(error, share)
    found, wanted = lift_masks(points, masks, frame, test), by_loop(points, masks, frame, test)
    for one, other in zip(found, wanted, strict=True):
        # rounding to single precision moves a point over the edge of a pixel or of the tolerance now and then
        assert len(set(one.tolist()) ^ set(other)) <= 1


def test_masks_lie_in_the_colour_image_of_a_second_camera():
    pose, points = np.eye(4), np.array([[0.0, 0, 2], [0.5, 0, 2]], np.float32)
    beside = np.eye(4)
    beside[0, 3] = -0.5  # the colour camera sees everything half a metre further left
    frame = frame_at(pose, np.full((24, 32), 2.0), color_camera=CAMERA, T_color_depth=beside)
    index, pixel = visible_points(points, frame)
    assert index.tolist() == [0, 1]
    assert pixel[:, 1].tolist() == [round(-0.25 * 40 + 15.5), round(15.5)]


def test_masks_of_another_size_and_tolerances_without_sense_are_refused():
    frame = frame_at(np.eye(4), np.ones((24, 32)))
    with pytest.raises(ValueError, match=r"shape \(M, 24, 32\)"):
        lift_masks(np.zeros((1, 3), np.float32), np.zeros((2, 12, 16), bool), frame)
    with pytest.raises(ValueError, match="not both 0"):
        DepthTest(0.0, 0.0)


@pytest.fixture(scope="module")
def lifted():
    """IoU and size of every lifted mask of a room: the renderer's label images serve as a perfect segmenter."""
    sequence = open_room(4, "val", sensor=None, frames=12, width=640, height=480)
    points = fuse_sequence(sequence).centroids
    _, instance = true_labels(sequence, points)
    found = {}
    for name, test in (("default", None), ("published", DepthTest(0.0, 0.2))):
        rows = []
        for number in range(0, 12, 3):
            view, frame = sequence.ideal_view(number), sequence[number]
            visible, _ = visible_points(points, replace(frame, depth=view.depth))
            ids = [i for i in np.unique(view.instance) if i > 0]
            masks = lift_masks(points, np.stack([view.instance == i for i in ids]), frame, test)
            for i, mask in zip(ids, masks, strict=True):
                true = visible[instance[visible] == i]
                if len(true) >= 100:
                    both = len(np.intersect1d(mask, true))
                    rows.append((both / (len(mask) + len(true) - both), len(true)))
        found[name] = np.array(rows)
    return found


@pytest.mark.parametrize("tolerance", ["default", "published"])
def test_perfect_masks_lift_to_the_true_points(lifted, tolerance):
    iou, size = lifted[tolerance].T
    assert np.median(iou) > 0.95
    assert (iou * size).sum() / size.sum() > 0.95
    # the rest are thin things on others, whose 2 cm voxels belong to both
    assert (iou > 0.9).mean() > 0.85
    assert iou.min() > 0.6
