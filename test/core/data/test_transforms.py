"""Augmentation: what each transform does to points, and that masks keep pointing at the same points."""

from __future__ import annotations

import numpy as np
import pytest

from mosaic3d_core.data.caption_dataset import CaptionCollate, CaptionDataset, SampleRecipe, find_scenes
from mosaic3d_core.data.scene_folder import CaptionedScene, write_scene_folder
from mosaic3d_core.data.transforms import (
    PartialView,
    RandomColor,
    RandomFlip,
    RandomJitter,
    RandomRotation,
    RandomScale,
    RandomShift,
    RandomThinning,
    select_points,
    training_transforms,
)

CHANNELS = ("color", "occupancy", "verticality", "height")


def room(n: int = 20_000, seed: int = 0) -> CaptionedScene:
    """A floor and a block; colour encodes the mask, so that a mix-up of points and masks shows."""
    rng = np.random.default_rng(seed)
    coord = rng.uniform([-2, -2, 0], [2, 2, 0.02], (n, 3)).astype(np.float32)
    block = np.arange(n) % 4 == 0
    coord[block, 2] += 0.5
    color = np.where(block[:, None], [200, 0, 0], [0, 0, 100]).astype(np.uint8)
    normal = np.tile(np.float32([0, 0, 1]), (n, 1))
    segment = block.astype(np.int16)
    return CaptionedScene(
        "room",
        coord,
        color,
        normal,
        segment,
        segment.astype(np.int32) + 1,
        [np.nonzero(~block)[0], np.nonzero(block)[0]],
        [("floor",), ("block", "cube")],
    )


ALL = [
    RandomRotation(),
    RandomFlip(),
    RandomScale(),
    RandomShift(),
    RandomJitter(),
    RandomThinning(),
    PartialView(1.0),
    training_transforms(),
]


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("seed", range(4))
def test_masks_still_point_at_their_points(transform, seed):
    scene = transform(room(), np.random.default_rng(seed))
    for mask, captions in zip(scene.masks, scene.captions, strict=True):
        assert np.all(scene.segment[mask] == (0 if captions == ("floor",) else 1))
        assert len(mask) == (scene.segment == scene.segment[mask[0]]).sum()


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_the_same_seed_gives_the_same_result_and_the_input_stays(transform):
    scene = room()
    before = scene.coord.copy()
    a, b = (transform(scene, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(a.coord, b.coord)
    assert np.array_equal(a.color, b.color)
    assert np.array_equal(scene.coord, before)


def test_selecting_points_drops_emptied_masks_with_their_captions():
    scene = room()
    kept = select_points(scene, scene.segment == 1)
    assert kept.captions == [("block", "cube")]
    assert np.array_equal(kept.masks[0], np.arange(len(kept.coord)))


def test_rotation_keeps_distances_and_turns_normals_along():
    scene = room(1000)
    turned = RandomRotation()(scene, np.random.default_rng(1))
    a, b = scene.coord[:100], turned.coord[:100]
    assert np.allclose(np.linalg.norm(a[1:] - a[:-1], axis=1), np.linalg.norm(b[1:] - b[:-1], axis=1), atol=1e-4)
    offset = (turned.coord[1:] - turned.coord[0]) @ turned.normal[0]
    assert np.allclose(offset, (scene.coord[1:] - scene.coord[0]) @ scene.normal[0], atol=1e-4)


def test_scaling_and_shifting_change_size_and_place_within_their_limits():
    scene = room(1000)
    rng = np.random.default_rng(2)
    ratio = np.ptp(RandomScale(0.5, 0.5, 0.0)(scene, rng).coord, axis=0) / np.ptp(scene.coord, axis=0)
    assert np.allclose(ratio, 0.5, atol=1e-3)
    moved = RandomShift(0.3)(scene, rng).coord - scene.coord
    assert np.allclose(moved, moved[0], atol=1e-5)
    assert np.abs(moved).max() <= 0.3 + 1e-5


def test_partial_views_leave_a_part_and_thinning_a_share():
    scene = room()
    rng = np.random.default_rng(3)
    assert len(PartialView(1.0)(scene, rng).coord) < len(scene.coord)
    assert len(PartialView(0.0)(scene, rng).coord) == len(scene.coord)
    share = len(RandomThinning(0.1, 0.5, 0.0)(scene, rng).coord) / len(scene.coord)
    assert 0.45 < share <= 0.95


def test_colours_change_but_stay_valid():
    scene = room()
    changed = RandomColor()(scene, np.random.default_rng(0))
    assert changed.color.dtype == np.uint8
    assert not np.array_equal(changed.color, scene.color)
    gray = RandomColor(gray_probability=1.0, swap_probability=0.0, gain=0.0, offset=0.0, noise=0.0)(
        scene, np.random.default_rng(0)
    ).color
    assert np.ptp(gray.astype(int), axis=1).max() <= 1


def test_a_dataset_batch_lines_up_voxels_masks_and_texts(tmp_path):
    for k in range(3):
        write_scene_folder(tmp_path / f"room-{k}", room(seed=k), "rooms")
    (tmp_path / "unfinished").mkdir()
    folders = find_scenes(tmp_path, "rooms")
    assert len(folders) == 3
    data = CaptionDataset(folders, ["rooms"], SampleRecipe(0.04, CHANNELS, max_voxels=4000), None)
    samples = [data[i] for i in range(3)]
    batch = CaptionCollate(["floor", "sky"], balance=None)(samples)
    assert batch.indices.shape == (sum(len(s.indices) for s in samples), 4)
    assert batch.features.shape[1] == 6
    assert sorted(batch.texts) == ["block", "cube", "floor", "sky"]
    red = batch.features[batch.point, 0] > 0
    text = [batch.texts[i] for i in batch.target[batch.mask]]
    assert all((t != "floor") == bool(r) for t, r in zip(text, red, strict=True))
    assert len(data[0].indices) == 4000


def test_the_balanced_draw_is_bounded_by_the_square_root_of_a_mask(tmp_path):
    write_scene_folder(tmp_path / "room", room(), "rooms")
    sample = CaptionDataset([tmp_path / "room"], ["rooms"], SampleRecipe(0.04, CHANNELS, captions_per_mask=1), None)[0]
    batch = CaptionCollate(balance=4.0)([sample])
    for k, voxels in enumerate(sample.masks):
        count = int((batch.mask == k).sum())
        assert count == min(len(voxels), int(np.ceil(4 * np.sqrt(len(voxels)))))


def test_epochs_augment_differently_and_repeat_exactly(tmp_path):
    write_scene_folder(tmp_path / "room", room(), "rooms")
    data = CaptionDataset([tmp_path / "room"], ["rooms"], SampleRecipe(0.04, CHANNELS), training_transforms(), seed=3)
    first, second = data.sample(0), data.sample(0, epoch=1)
    assert np.array_equal(first.indices, data[0].indices)
    assert first.indices.shape != second.indices.shape or not np.array_equal(first.indices, second.indices)
