"""Pooling of a map to the encoder's grid, and the input channels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from clouds import room_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.mapping.snapshot import MapSnapshot
from mosaic3d_core.models.encoder_input import build_encoder_input, channel_count, estimate_floor_height

ALL = ("color", "occupancy", "verticality", "height")


def snapshot_of(cells, *, colors=None, normals=None, weights=None, up=(0.0, 0.0, 1.0), voxel=0.02) -> MapSnapshot:
    cells = np.asarray(cells, np.int32).reshape(-1, 3)
    count = len(cells)
    return MapSnapshot(
        generation=1,
        stamp_ns=0,
        voxel_size_m=voxel,
        indices=cells,
        centroids=((cells + 0.5) * voxel).astype(np.float32),
        colors=np.full((count, 3), 127.5, np.float32) if colors is None else np.asarray(colors, np.float32),
        normals=np.zeros((count, 3), np.float32) if normals is None else np.asarray(normals, np.float32),
        weights=np.ones(count, np.float32) if weights is None else np.asarray(weights, np.float32),
        last_seen_ns=np.zeros(count, np.int64),
        up=np.asarray(up, np.float64),
    )


def test_channels_by_hand():
    snapshot = snapshot_of(
        [(0, 0, 0), (1, 1, 1), (-1, 0, 0)],
        colors=[(255, 0, 0), (0, 0, 255), (0, 255, 0)],
        normals=[(0, 0, -1), (0, 0, 0), (0.6, 0, 0.8)],
        weights=[3, 1, 2],
    )
    result = build_encoder_input(snapshot, 0.04, ALL)
    assert result.indices.tolist() == [[-1, 0, 0], [0, 0, 0]]
    assert result.indices.dtype == np.int32
    assert result.voxel_of_point.tolist() == [1, 1, 0]
    assert result.voxel_of_point.dtype == np.int64
    np.testing.assert_allclose(result.features[1, :3], [0.5, -1.0, -0.5], atol=1e-6)
    np.testing.assert_allclose(result.features[0, :3], [-1.0, 1.0, -1.0], atol=1e-6)
    np.testing.assert_allclose(result.features[:, 3], 1.0)
    np.testing.assert_allclose(result.features[:, 4], [0.8, 1.0], atol=1e-6)
    height = (3 * 0.01 + 1 * 0.03) / 4 - result.floor_height_m - 1.2
    np.testing.assert_allclose(result.features[1, 5], height, atol=1e-6)
    assert build_encoder_input(snapshot, 0.04, ("height", "color")).features.shape == (2, 4)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 200), ratio=st.integers(1, 4))
def test_pooling_equals_a_dictionary_of_lists(seed, count, ratio):
    rng = np.random.default_rng(seed)
    cells = np.unique(rng.integers(-12, 12, (count, 3)), axis=0)
    cells = cells[rng.permutation(len(cells))]
    colors, weights = rng.uniform(0, 255, cells.shape), rng.uniform(0.5, 9, len(cells))
    result = build_encoder_input(snapshot_of(cells, colors=colors, weights=weights), 0.02 * ratio, ("color",))
    groups: dict[tuple, list[int]] = {}
    for row, cell in enumerate(cells // ratio):
        groups.setdefault(tuple(cell.tolist()), []).append(row)
    assert [tuple(cell) for cell in result.indices.tolist()] == sorted(groups)
    for number, cell in enumerate(sorted(groups)):
        rows = groups[cell]
        assert (result.voxel_of_point[rows] == number).all()
        wanted = np.average(colors[rows], axis=0, weights=weights[rows]) / 127.5 - 1
        np.testing.assert_allclose(result.features[number], wanted, atol=1e-4)


def test_a_map_with_another_up_gives_the_cells_of_the_upright_map():
    upright = room_snapshot()
    turn = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # z becomes y
    tilted = dataclasses.replace(
        upright,
        centroids=(upright.centroids @ turn.T).astype(np.float32),
        normals=(upright.normals @ turn.T).astype(np.float32),
        up=turn @ np.array([0.0, 0.0, 1.0]),
    )
    wanted, found = build_encoder_input(upright, 0.04, ALL), build_encoder_input(tilted, 0.04, ALL)
    assert found.floor_height_m == pytest.approx(wanted.floor_height_m, abs=1e-3)
    assert np.array_equal(found.indices, wanted.indices)
    np.testing.assert_allclose(found.features, wanted.features, atol=1e-3)


def test_upside_down_maps_are_turned_over():
    result = build_encoder_input(snapshot_of([(0, 0, 0), (0, 0, 100)], up=(0, 0, -1)), 0.04, ("height",))
    assert result.indices[:, 2].tolist() == [-51, -1]
    assert result.features[1, 0] > result.features[0, 0]


def test_the_floor_is_found_below_furniture_and_despite_stray_points():
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform(0, 4, (4000, 2)), rng.normal(0.30, 0.004, 4000)]
    shelf = np.c_[rng.uniform(0, 1, (2500, 2)), rng.normal(0.62, 0.004, 2500)]
    wall = np.c_[np.zeros(6000), rng.uniform(0, 4, 6000), rng.uniform(0.3, 2.8, 6000)]
    stray = np.c_[rng.uniform(0, 4, (5, 2)), rng.uniform(-0.1, 0.2, 5)]
    points = np.concatenate([floor, shelf, wall, stray])
    normals = np.zeros_like(points)
    normals[: len(floor) + len(shelf), 2] = 1.0
    normals[len(floor) + len(shelf) : -5, 0] = 1.0
    assert estimate_floor_height(points, normals, np.array([0, 0, 1.0])) == pytest.approx(0.30, abs=0.01)


def test_without_a_level_the_floor_is_the_first_percentile():
    heights = np.linspace(0.0, 2.0, 1001)
    points = np.c_[np.zeros((1001, 2)), heights]
    assert estimate_floor_height(points, np.zeros_like(points), np.array([0, 0, 1.0])) == pytest.approx(0.02)
    assert estimate_floor_height(np.empty((0, 3)), np.empty((0, 3)), np.array([0, 0, 1.0])) == 0.0


def test_heights_are_limited():
    cells = [(x, y, 0) for x in range(20) for y in range(20)] + [(0, 0, 1000)]
    normals = np.tile([0.0, 0.0, 1.0], (len(cells), 1))
    heights = build_encoder_input(snapshot_of(cells, normals=normals), 0.04, ("height",)).features[:, 0]
    assert heights.max() == 2.0
    assert np.isclose(np.median(heights), -1.2, atol=0.02)


def test_an_empty_map_gives_an_empty_input():
    result = build_encoder_input(snapshot_of(np.empty((0, 3))), 0.04, ALL)
    assert (result.indices.shape, result.features.shape, result.voxel_of_point.shape) == ((0, 3), (0, 6), (0,))


def test_unusable_settings_are_refused():
    snapshot = snapshot_of([(0, 0, 0)])
    with pytest.raises(ValueError, match=r"unknown input channels \['colour'\]; choose from color, occupancy"):
        build_encoder_input(snapshot, 0.04, ("colour",))
    with pytest.raises(ValueError, match="unknown input channels"):
        channel_count(())
    for size in (0.0, float("nan")):
        with pytest.raises(ValueError, match="voxel_size_m must be a positive number of metres"):
            build_encoder_input(snapshot, size, ALL)
