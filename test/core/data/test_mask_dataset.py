"""Targets of the mask decoder: true instances and gathered captions on the encoder's grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mosaic3d_core.data.caption_dataset import SampleRecipe
from mosaic3d_core.data.caption_files import write_captions
from mosaic3d_core.data.mask_dataset import TRUTH, MaskDataset
from mosaic3d_core.data.scene_folder import CaptionedScene, write_scene_folder
from mosaic3d_core.data.transforms import training_transforms
from mosaic3d_core.errors import Mosaic3DError

RECIPE = SampleRecipe(0.05, ("color",), max_voxels=None, max_masks=None)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    n = 4000
    coord = (rng.random((n, 3)) * (1.0, 1.0, 0.4)).astype(np.float32)
    instance = np.where(coord[:, 0] < 0.33, 5, np.where(coord[:, 0] < 0.7, 9, 0)).astype(np.int32)
    segment = np.where(instance == 5, 1, np.where(instance == 9, 0, -1)).astype(np.int16)
    masks = [np.flatnonzero(instance == 5), np.arange(10)]
    color = rng.integers(0, 255, (n, 3)).astype(np.uint8)
    scene = CaptionedScene("a", coord, color, np.zeros((n, 3), np.float32), segment, instance, masks, [("x",), ("y",)])
    write_scene_folder(tmp_path / "a", scene, "rooms")
    write_captions(tmp_path / "a", "segment3d-gathered", masks, [("a chair", "a seat"), ("a crumb",)])
    return tmp_path / "a"


def by_points(folder, mask_of_point, sample):
    """Share of each voxel's points in a mask, counted one point at a time."""
    coord = np.load(folder / "coord.npy")
    cells = np.floor(coord / 0.05).astype(int)
    at = {tuple(c): k for k, c in enumerate(sample.indices.tolist())}
    share, count = np.zeros(len(sample.indices)), np.zeros(len(sample.indices))
    for cell, inside in zip(cells.tolist(), mask_of_point, strict=True):
        count[at[tuple(cell)]] += 1
        share[at[tuple(cell)]] += inside
    return share / count, count


def test_true_instances_are_targets_with_the_names_of_their_classes(folder):
    sample = MaskDataset([folder], [TRUTH], RECIPE, None, ("table", "chair")).sample(0)
    assert sample.captions == ["chair", "table"]
    instance = np.load(folder / "instance.npy")
    for mask, number in zip(sample.masks, (5, 9), strict=True):
        share, count = by_points(folder, instance == number, sample)
        assert np.allclose(mask, share, atol=1e-6)
        assert np.allclose(sample.counts, count)
    assert np.allclose(np.floor(sample.positions / 0.05), sample.indices)


def test_gathered_captions_are_drawn_anew_each_epoch_and_small_objects_left_out(folder):
    dataset = MaskDataset([folder], ["segment3d-gathered"], RECIPE, None)
    samples = [dataset.sample(0, epoch) for epoch in range(12)]
    assert {sample.captions[0] for sample in samples} == {"a chair", "a seat"}
    assert all(sample.masks.shape == (1, len(sample.indices)) for sample in samples)
    again = dataset.sample(0, 3)
    assert again.captions == samples[3].captions
    assert np.array_equal(again.masks, samples[3].masks)


def test_augmentation_moves_points_and_targets_together(folder):
    dataset = MaskDataset([folder], [TRUTH], RECIPE, training_transforms(), ("table", "chair"))
    for epoch in range(3):
        sample = dataset.sample(0, epoch)
        assert sample.masks.shape == (len(sample.captions), len(sample.indices))
        assert (sample.masks.sum(0) <= 1 + 1e-5).all()
        total = (sample.masks * sample.counts).sum(1)
        assert np.allclose(total, np.rint(total), atol=1e-2)  # whole points


def test_a_limit_of_voxels_is_refused_rather_than_ignored(folder):
    with pytest.raises(Mosaic3DError, match="max_voxels=500 would cut objects"):
        MaskDataset([folder], [TRUTH], replace(RECIPE, max_voxels=500), None, ("table",))


def test_truth_with_captions_or_without_names_is_refused(folder):
    with pytest.raises(Mosaic3DError, match="stands alone and needs class names"):
        MaskDataset([folder], [TRUTH], RECIPE, None)
    with pytest.raises(Mosaic3DError, match="stands alone"):
        MaskDataset([folder], [TRUTH, "rooms"], RECIPE, None, ("table",))
