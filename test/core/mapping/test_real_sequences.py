"""Fusion of the real Kinect sequence: calibration pays off, and the map predicts views it has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from mosaic3d_core.data.sequences import open_sequence
from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.registration import register_color_to_depth
from mosaic3d_core.mapping import VoxelMap
from mosaic3d_core.visualization.splat import render_depth


def color_scatter(frames: list[RGBDFrame], calibrated: bool) -> float:
    """Median over 2 cm voxels seen in >= 5 views of the colour's standard deviation between views."""
    views: dict[tuple[int, int, int], list[np.ndarray]] = {}
    for f in frames:
        if calibrated:
            color, known = register_color_to_depth(f.color, f.color_camera, f.T_color_depth, f.depth, f.depth_camera)
        else:
            color, known = f.color, np.ones(f.depth.shape, bool)
        use = known & (f.depth > 0.4) & (f.depth < 3.0)
        use[np.indices(use.shape).sum(0) % 4 != 0] = False
        points = f.depth_camera.unproject(f.depth)[use].astype(np.float64) @ f.T_world_camera[:3, :3].T + f.T_world_camera[:3, 3]
        cells, owner = np.unique(np.floor(points / 0.02).astype(int), axis=0, return_inverse=True)
        owner = owner.reshape(-1)
        count = np.bincount(owner)
        mean = np.stack([np.bincount(owner, color[use][:, c].astype(float)) / count for c in range(3)], 1)
        for cell, value in zip(map(tuple, cells.tolist()), mean, strict=True):
            views.setdefault(cell, []).append(value)
    return float(np.median([np.std(v, axis=0).mean() for v in views.values() if len(v) >= 5]))


def test_colours_agree_between_views_clearly_better_with_the_calibration(shared_data, record_property):
    frames = [open_sequence(shared_data / "7scenes_redkitchen")[i] for i in range(0, 60, 5)]
    with_it, without = color_scatter(frames, True), color_scatter(frames, False)
    record_property("color_std_calibrated", with_it)
    record_property("color_std_uncalibrated", without)
    print(f"colour std per voxel between views: {with_it:.1f} with the calibration, {without:.1f} without")
    assert with_it < 0.85 * without


def test_the_map_predicts_the_depth_of_frames_left_out_of_it(shared_data):
    sequence = open_sequence(shared_data / "7scenes_redkitchen")
    voxel_map = VoxelMap()
    for i in range(len(sequence)):
        if i % 5 != 2:
            voxel_map.integrate(sequence[i])
    snapshot = voxel_map.snapshot()
    errors = []
    for i in range(2, len(sequence), 10):
        frame = sequence[i]
        predicted = render_depth(snapshot, frame.depth_camera, frame.T_world_camera)
        both = (predicted > 0) & (frame.depth > 0.3) & (frame.depth < 4.0)
        assert both.mean() > 0.5, "the map covers the view"
        errors.append(np.abs(predicted - frame.depth)[both])
    median = float(np.median(np.concatenate(errors)))
    print(f"median depth error in held-out frames: {median * 100:.2f} cm")
    assert median <= 0.015


@pytest.mark.parametrize("name", ["7scenes_redkitchen", "icl_livingroom"])
def test_real_sequences_fuse_to_a_room_sized_map(shared_data, name):
    sequence = open_sequence(shared_data / name)
    voxel_map = VoxelMap()
    for frame in list(sequence)[::4]:
        voxel_map.integrate(frame)
    size = np.ptp(voxel_map.snapshot().centroids, axis=0)
    assert 10_000 < len(voxel_map) < 1_000_000
    assert (size > 1.0).all()
    assert (size < 12.0).all()
