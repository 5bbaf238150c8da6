"""The published voxelisation, with its quirks, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.models.official_input import centre, official_batch
from mosaic3d_core.models.text.prompts import class_prompts


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), scenes=st.integers(1, 3))
def test_equals_one_point_after_the_other(seed, scenes):
    rng = np.random.default_rng(seed)
    coords = [rng.uniform(-0.2, 0.2, (int(rng.integers(1, 40)), 3)).astype(np.float32) for _ in range(scenes)]
    colors = [rng.integers(0, 256, (len(c), 3)) for c in coords]
    batch = official_batch(coords, colors)
    cells = [[[int(v / np.float32(0.02)) for v in p] for p in c] for c in coords]
    lowest = [min(p[k] for c in cells for p in c) for k in range(3)]
    means: dict[tuple[int, ...], list] = {}
    for b, (own, color) in enumerate(zip(cells, colors)):
        for cell, value in zip(own, color):
            means.setdefault((b, *(cell[k] - lowest[k] for k in range(3))), []).append(value / 127.5 - 1)
    assert [tuple(row) for row in batch.indices] == sorted(means)
    for row, feature in zip(batch.indices, batch.features):
        np.testing.assert_allclose(feature, np.mean(means[tuple(row)], 0), atol=1e-6)
    flat = [(b, *(cell[k] - lowest[k] for k in range(3))) for b, own in enumerate(cells) for cell in own]
    assert [tuple(row) for row in batch.indices[batch.voxel_of_point]] == flat
    assert list(np.diff(batch.offsets)) == [len(c) for c in coords]


def test_cells_around_zero_are_twice_as_wide_and_the_lattice_hangs_on_the_batch():
    scene = np.array([[-0.019, 0, 0], [0.019, 0, 0], [0.021, 0, 0]], np.float32)
    color = np.full((3, 3), 255)
    alone = official_batch([scene], [color])
    assert alone.indices[alone.voxel_of_point][:, 1].tolist() == [0, 0, 1]
    both = official_batch([scene, scene - 0.5], [color, color])
    assert both.indices[both.voxel_of_point[:3]][:, 1].tolist() == [25, 25, 26]
    assert (alone.features == 1.0).all()


def test_scenes_are_centred_on_the_ground():
    points = centre(np.array([[1.0, 5.0, 2.0], [3.0, 9.0, 4.0]]))
    np.testing.assert_allclose(points, [[-1, -2, 0], [1, 2, 2]])


def test_empty_scenes_and_missing_colours_are_refused():
    with pytest.raises(ValueError, match="scene 0 of the batch has no points"):
        official_batch([np.zeros((0, 3))], [np.zeros((0, 3), int)])
    with pytest.raises(ValueError, match="scene 0 of the batch has 2 points but 1 colours"):
        official_batch([np.zeros((2, 3))], [np.zeros((1, 3), int)])


def test_points_too_far_apart_to_number_are_refused():
    far = np.array([[0, 0, 0], [4e7, 4e7, 4e7]], np.float32)
    with pytest.raises(ValueError, match="check the points for outliers"):
        official_batch([far], [np.zeros((2, 3), np.uint8)])


def test_class_prompts_follow_the_published_template():
    assert class_prompts(["chair", "otherfurniture", "other"]) == ["a chair in a scene", "other", "other"]
    assert class_prompts(["chair"], None) == ["chair"]
    with pytest.raises(ValueError, match="needs one"):
        class_prompts(["chair"], "a chair")
