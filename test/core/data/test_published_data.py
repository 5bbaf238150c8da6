"""The published training data: caption files in both forms, the caption filter, the augmentation, single-dataset batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.data.caption_dataset import CaptionCollate, CaptionDataset, SampleRecipe
from mosaic3d_core.data.caption_files import (
    SceneFolderError,
    caption_sources,
    read_captions,
    write_captions,
    write_frame_captions,
)
from mosaic3d_core.data.caption_filter import CaptionFilter
from mosaic3d_core.data.mixing import DatasetMix, SingleDatasetBatches
from mosaic3d_core.data.published_transforms import (
    AutoContrast,
    CenterShift,
    ClippedJitter,
    ColorJitter,
    ColorTranslation,
    ElasticDistortion,
    RandomMirror,
    RandomTurn,
    ShufflePoints,
    SphereCrop,
    published_transforms,
)
from mosaic3d_core.data.ragged import pack_nested, unpack_nested
from mosaic3d_core.data.scene_folder import CaptionedScene, write_scene_folder

PUBLISHED = SampleRecipe(0.02, ("color",), published=True, captions_per_mask=1, max_masks=300, max_voxels=None)


def scene(n: int = 5000, seed: int = 0) -> CaptionedScene:
    """Points in a box; the red channel is above 128 exactly for the points of the first mask, so that a mix-up shows."""
    rng = np.random.default_rng(seed)
    coord = rng.uniform([1, -3, 0.4], [5, 0, 2.9], (n, 3)).astype(np.float32)
    first = coord[:, 0] < 2
    color = np.where(first[:, None], [230, 60, 60], [30, 60, 60]).astype(np.uint8)
    masks = [np.nonzero(first)[0], np.nonzero(~first)[0], np.nonzero(coord[:, 2] > 2)[0]]
    normal = np.tile(np.float32([0, 0, 1]), (n, 1))
    captions = [("red",), ("dark", "brown"), ("high up",)]
    return CaptionedScene(
        "s", coord, color, normal, np.where(first, 1, 0).astype(np.int16), np.ones(n, np.int32), masks, captions
    )


# caption files


@given(st.lists(st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=4), max_size=5))
@settings(max_examples=100)
def test_masks_per_frame_come_back_as_they_were(groups):
    arrays = [[np.array(row, np.int64) for row in group] for group in groups]
    back = unpack_nested(*pack_nested(arrays))
    assert [[row.tolist() for row in group] for group in back] == [[row.tolist() for row in group] for group in arrays]


def test_both_forms_of_caption_files_are_read(tmp_path):
    masks = [[np.array([0, 1]), np.array([2])], [], [np.array([1, 3])]]
    write_frame_captions(tmp_path, "gsam2", masks, [["a chair", "a cup"], [], ["the chair"]])
    found = read_captions(tmp_path, "gsam2", 4)
    assert [m.tolist() for m in found.masks] == [[0, 1], [2], [1, 3]]
    assert found.captions == [("a chair",), ("a cup",), ("the chair",)]
    assert found.frame.tolist() == [0, 0, 2]
    with np.load(tmp_path / "point_indices.gsam2.npz") as data:  # the keys of the published files
        assert sorted(data.files) == ["inner_lengths", "outer_lengths", "packed"]
    write_captions(tmp_path, "gathered", [np.array([3, 0])], [("a chair", "a seat")])
    found = read_captions(tmp_path, "gathered", 4)
    assert found.masks[0].tolist() == [3, 0]
    assert found.captions == [("a chair", "a seat")]
    assert found.frame is None
    assert caption_sources(tmp_path) == ("gathered", "gsam2")


@pytest.mark.parametrize(
    ("indices", "captions", "message"),
    [
        (
            {"packed": [0, 1], "outer_lengths": [2], "inner_lengths": [1, 1]},
            (["a"], [1]),
            "2 masks in 1 frames, but .* 1 captions",
        ),
        (
            {"packed": [0, 1], "outer_lengths": [1], "inner_lengths": [1, 1]},
            (["a"], [1]),
            r"point_indices.x.npz: ragged lengths add up",
        ),
        ({"packed": [0, 1], "outer_lengths": [1]}, (["a"], [1]), "has no array 'inner_lengths'"),
        ({"packed": [0, 9], "lengths": [2]}, (["a"], [1]), "points outside the 4 points"),
        ({"packed": [0, -1], "lengths": [2]}, (["a"], [1]), "points outside the 4 points"),
        ({"packed": [0, 1], "lengths": [2]}, (["a"], [2]), r"captions.x.npz: ragged lengths add up to 2 but 1"),
    ],
)
def test_malformed_caption_files_are_named(tmp_path, indices, captions, message):
    np.savez(tmp_path / "point_indices.x.npz", **{key: np.array(value) for key, value in indices.items()})
    np.savez(tmp_path / "captions.x.npz", packed=np.array(captions[0]), lengths=np.array(captions[1]))
    with pytest.raises(SceneFolderError, match=message):
        read_captions(tmp_path, "x", 4)


def test_a_source_that_a_scene_lacks_is_named_with_those_it_has(tmp_path):
    write_captions(tmp_path, "seem", [np.array([0])], [("a",)])
    with pytest.raises(SceneFolderError, match=r"captions.gsam2.npz is missing.*the scene has seem"):
        read_captions(tmp_path, "gsam2", 1)


# caption filter


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a red chair", None),
        ("Stuhl", None),
        ("", "empty"),
        ("  ", "empty"),
        (" ".join(f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(51)), "length"),
        ("12345 67", "not letters"),
        ("red red chair", "one word"),
        ("a chair and a sofa and the the the the end of the wall", "repeated word"),
        ("on the left is one on the right is two on the top is three on the floor is four", "repeated phrase"),
    ],
)
def test_captions_are_filtered_by_the_published_rules(caption, reason):
    assert CaptionFilter().reason(caption) == reason


@given(st.text(max_size=80))
@settings(max_examples=300)
def test_a_caption_that_is_kept_obeys_every_rule(caption):
    if CaptionFilter().keeps(caption):
        words = caption.lower().split()
        assert 1 <= len(words) <= 50
        assert 2 * sum(c.isalpha() for c in "".join(words)) >= len("".join(words))
        assert len(words) < 3 or max(Counter(words).values()) <= 0.4 * len(words)


# augmentation

STEPS = {
    "CenterShift": CenterShift(),
    "RandomTurn": RandomTurn(2, np.pi, 1.0),
    "RandomMirror": RandomMirror(1.0),
    "ClippedJitter": ClippedJitter(),
    "ElasticDistortion": ElasticDistortion(probability=1.0),
    "AutoContrast": AutoContrast(1.0),
    "ColorTranslation": ColorTranslation(1.0),
    "ColorJitter": ColorJitter(1.0),
    "SphereCrop": SphereCrop(1000),
    "SphereCrop to a share": SphereCrop(10**9, 0.8),
    "ShufflePoints": ShufflePoints(),
}


def told_by(s: CaptionedScene, text: str) -> np.ndarray:
    """Points of the mask with a caption; none where a crop left none."""
    return next((mask for mask, captions in zip(s.masks, s.captions, strict=True) if text in captions), np.zeros(0, np.int64))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("seed", range(3))
def test_every_step_keeps_masks_on_their_points(name, seed):
    before = scene()
    copy = replace(before, coord=before.coord.copy(), color=before.color.copy())
    after = STEPS[name](before, np.random.default_rng(seed))
    assert np.array_equal(before.coord, copy.coord)  # the input is left alone
    assert np.array_equal(before.color, copy.color)
    n = len(after.coord)
    assert len(after.color) == len(after.normal) == len(after.segment) == len(after.instance) == n
    assert after.coord.dtype == np.float32
    assert after.color.dtype == np.uint8
    red = told_by(after, "red")
    assert (after.segment[red] == 1).all()
    assert (after.segment == 1).sum() == len(red)
    if name not in ("AutoContrast", "ColorJitter"):  # these may move a colour across the middle
        assert (after.color[red, 0] > 128).all()


def test_each_step_does_what_its_name_says():
    before, rng = scene(), np.random.default_rng(0)
    centred = CenterShift()(before, rng).coord
    assert np.allclose((centred.min(0) + centred.max(0))[:2], 0, atol=1e-5)
    assert centred[:, 2].min() == 0
    assert np.array_equal(CenterShift(z=False)(before, rng).coord[:, 2], before.coord[:, 2])
    turned = RandomTurn(2, np.pi, 1.0)(before, rng).coord
    assert np.allclose(np.hypot(*turned[:, :2].T), np.hypot(*before.coord[:, :2].T), atol=1e-4)
    assert not np.allclose(turned, before.coord, atol=0.01)
    assert RandomTurn(2, np.pi, 0.0)(before, rng) is before
    assert np.array_equal(RandomMirror(1.0)(before, rng).coord, before.coord * np.float32([-1, -1, 1]))
    assert 0 < np.abs(ClippedJitter(0.05)(before, rng).coord - before.coord).max() <= 0.02 + 1e-6
    moved = ElasticDistortion(probability=1.0)(before, rng).coord - before.coord
    assert 0.01 < np.abs(moved).mean() < 1.0
    assert np.ptp(AutoContrast(1.0)(before, rng).color[:, 0].astype(int)) >= 200  # the red range was already 200 wide
    offset = ColorTranslation(1.0)(before, rng).color.astype(int) - before.color
    assert np.abs(offset).max() <= 13  # 5 % of 255
    assert (offset == offset[0]).all()
    assert 5 < ColorJitter(1.0)(before, rng).color.astype(int).std(0)[1] < 20  # 5 % of 255 = 12.75 on a constant channel


def test_neighbours_are_distorted_alike():
    """What makes it elastic: points 2 cm apart stay about 2 cm apart."""
    before = scene(200)
    near = replace(before, coord=np.concatenate([before.coord, before.coord + np.float32([0.02, 0, 0])]))
    after = ElasticDistortion(probability=1.0)(near, np.random.default_rng(1)).coord
    gap = np.linalg.norm(after[200:] - after[:200], axis=1)
    assert 0.005 < gap.mean() < 0.05


def test_a_crop_is_a_ball_around_one_point_and_a_captioned_one_holds_a_caption():
    before = scene()
    marked = replace(before, masks=[np.array([17])], captions=[("one point",)])
    for seed in range(5):
        after = SphereCrop(800, captioned=True)(marked, np.random.default_rng(seed))
        assert len(after.coord) == 800
        centre = before.coord[17]
        assert told_by(after, "one point").size == 1
        inside = np.linalg.norm(after.coord - centre, axis=1).max()
        assert (np.linalg.norm(before.coord - centre, axis=1) < inside).sum() <= 800
    assert SphereCrop(10**6)(before, np.random.default_rng(0)) is before
    assert len(SphereCrop(10**9, 0.8)(before, np.random.default_rng(0)).coord) == 4000


def test_the_published_augmentation_has_its_order_and_the_crop_of_the_dataset():
    names = [type(step).__name__ for step in published_transforms("scannet").steps]
    assert names == [
        *("CenterShift", "RandomTurn", "RandomTurn", "RandomTurn", "RandomScale", "RandomMirror", "ClippedJitter"),
        *("ElasticDistortion", "AutoContrast", "ColorTranslation", "ColorJitter", "SphereCrop", "CenterShift"),
    ]
    assert published_transforms("scannet").steps[-2] == SphereCrop(250_000)
    for name in ("arkitscenes", "scannetpp", "structured3d"):
        assert published_transforms(name).steps[-2:] == (SphereCrop(10**9, 0.8, True), SphereCrop(120_000, None, True))


# samples


def test_a_published_sample_counts_every_point_of_a_mask_and_draws_one_source(tmp_path):
    s = scene()
    write_scene_folder(tmp_path / "s", s, "gsam2")
    write_captions(tmp_path / "s", "seem", [np.arange(50)], [("fifty points",)])
    data = CaptionDataset([tmp_path / "s"], ["gsam2", "seem"], PUBLISHED, None, "ScanNet")
    seen = set()
    for epoch in range(12):
        sample = data.sample(0, epoch)
        assert sample.condition == "ScanNet"
        assert sample.features.shape[1] == 3
        seen |= set(sample.captions)
        if "red" in sample.captions:
            red = sample.masks[sample.captions.index("red")]
            assert len(red) == len(s.masks[0])  # per point, not per voxel
            assert (sample.features[red, 0] > 0).all()
    assert seen == {"red", "dark", "brown", "high up", "fifty points"}
    batch = CaptionCollate(balance=None)([data[0]])
    assert batch.conditions == ["ScanNet"]
    assert batch.names == ["s"]


def test_masks_are_limited_and_unfit_captions_left_out(tmp_path):
    s = scene()
    masks = [np.array([i]) for i in range(40)]
    s = replace(s, masks=masks, captions=[("a fit caption",) if i % 2 else ("123",) for i in range(40)])
    write_scene_folder(tmp_path / "s", s, "x")
    recipe = replace(PUBLISHED, max_masks=15, caption_filter=CaptionFilter())
    sample = CaptionDataset([tmp_path / "s"], ["x"], recipe, None)[0]
    assert len(sample.masks) == 15
    assert set(sample.captions) == {"a fit caption"}
    everything = CaptionDataset([tmp_path / "s"], ["x"], replace(recipe, max_masks=300), None)[0]
    assert len(everything.masks) == 20


# mixing


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    batch_size=st.integers(1, 4),
    repeat=st.integers(1, 3),
    world=st.integers(1, 3),
    weighted=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_batches_hold_one_dataset_and_the_ranks_share_a_global_batch(sizes, batch_size, repeat, world, weighted, epoch):
    weights = [1.0 + k for k in range(len(sizes))] if weighted else None
    of_rank = []
    for rank in range(world):
        sampler = SingleDatasetBatches(sizes, batch_size, repeat, weights, seed=5, rank=rank, world=world)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert batches == list(sampler)  # the same epoch gives the same batches
        sampler.skip = len(batches) // 2  # going on after a stop
        assert list(sampler) == batches[len(batches) // 2 :]
        of_rank.append(batches)
    for together in zip(*of_rank, strict=True):
        assert len({number for batch in together for number, _, _ in batch}) == 1
        assert all(len(batch) == batch_size for batch in together)
    if not weighted:
        rounds = len(of_rank[0]) // len(sizes)
        turns = [batch[0][0] for batch in of_rank[0]]
        assert turns == ([*range(1, len(sizes)), 0]) * rounds  # a round ends with the first dataset
        first = [i for step in zip(*of_rank, strict=True) for batch in step for number, i, _ in batch if number == 0]
        if len(first) >= sizes[0]:
            assert set(first[: sizes[0]]) == set(range(sizes[0]))  # every scene before any comes again


def test_weights_are_kept_to():
    sampler = SingleDatasetBatches([400, 400, 400], 2, 3, [1, 3, 0], seed=0)
    turns = Counter(batch[0][0] for batch in sampler)
    assert turns[2] == 0
    assert turns[1] / turns[0] == pytest.approx(3, rel=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": [3, 0]}, "every dataset needs at least one scene"),
        ({"sizes": []}, "every dataset needs at least one scene"),
        ({"weights": [1.0]}, "one number >= 0 per dataset"),
        ({"rank": 2}, "0 <= rank < world"),
    ],
)
def test_a_mix_that_cannot_be_drawn_from_is_refused(change, message):
    arguments = {"sizes": [3, 4], "batch_size": 2, "weights": None, "rank": 0, "world": 2, **change}
    with pytest.raises(ValueError, match=message):
        SingleDatasetBatches(**arguments)


def test_a_mix_finds_its_items(tmp_path):
    for name in ("a", "b"):
        write_scene_folder(tmp_path / name, scene(500), "x")
    mix = DatasetMix([CaptionDataset([tmp_path / name], ["x"], PUBLISHED, None, name) for name in ("a", "b")])
    assert len(mix) == 2
    assert mix[1, 0, 0].condition == "b"
