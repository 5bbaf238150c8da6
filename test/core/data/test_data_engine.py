"""The data engine without models: what it keeps, drops and counts, its geometry, and work that is interrupted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mosaic3d_core.data.caption_files import SceneFolderError, read_captions
from mosaic3d_core.data.engine.frames import EngineSettings, FrameEngine, FramePairs
from mosaic3d_core.data.engine.image_masks import ImageMasks, segment_frame, without_duplicates
from mosaic3d_core.data.engine.label_images import BoxMasks, LabelFolder, RenderedLabels
from mosaic3d_core.data.engine.scene_work import SceneWork
from mosaic3d_core.data.engine.template_captions import TemplateCaptioner, color_name
from mosaic3d_core.data.lifting import DepthTest, visible_points
from mosaic3d_core.data.synthetic.sequence import open_room
from mosaic3d_core.errors import FrameError, Mosaic3DError
from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.camera import PinholeCamera

CAMERA = PinholeCamera(40.0, 40.0, 15.5, 11.5, 32, 24)


class Wall:
    """A sequence of one picture: a wall two metres in front of the camera."""

    name, gravity_up, skipped = "wall", None, {}

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 2:
            raise FrameError("frame 2 is damaged", "bad_image")
        color = np.full((24, 32, 3), (200, 30, 30), np.uint8)
        return RGBDFrame(index, color, np.full((24, 32), 2.0, np.float32), CAMERA, np.eye(4))


def wall_points():
    """A point in the middle of every pixel."""
    rows, columns = np.mgrid[0:24, 0:32]
    return np.stack([(columns - 15.5) / 20, (rows - 11.5) / 20, np.full(rows.shape, 2.0)], -1).reshape(-1, 3)


class Given:
    """A segmenter that returns what it was given."""

    def __init__(self, masks):
        self.masks = masks

    def segment(self, image):
        return self.masks


class Words:
    """A captioner that returns given texts."""

    def __init__(self, *texts):
        self.texts, self.asked = texts, 0

    def caption(self, image, masks):
        self.asked += len(masks)
        return list(self.texts[: len(masks)])


def boxes(*corners):
    masks = np.zeros((len(corners), 24, 32), bool)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_any_object_that_segments_and_any_that_describes_plug_in():
    engine = FrameEngine(Given(boxes((2, 3, 12, 13), (4, 20, 20, 30))), Words("a  red\nwall", "another wall"))
    pairs = engine.process(Wall(), 0, wall_points())
    assert pairs.captions == ["a red wall", "another wall"]
    rows, columns = np.divmod(pairs.masks[0], 32)
    assert set(rows) == set(range(2, 12))
    assert set(columns) == set(range(3, 13))
    assert pairs.counts == {"frames": 1, "masks": 2, "pairs": 2}


def test_everything_that_is_dropped_is_counted_with_its_reason():
    masks = ImageMasks(
        boxes((0, 0, 24, 32), (2, 2, 3, 3), (5, 5, 15, 15), (5, 5, 15, 16), (5, 20, 15, 30), (16, 2, 22, 12), (16, 14, 22, 24)),
        ("",) * 7,
        np.array([1, 1, 0.9, 0.8, 0.2, 1, 1], np.float32),
    )
    words = Words("a wall", "", "... !!!")
    pairs = FrameEngine(Given(masks), words, EngineSettings(min_score=0.5, min_area=0.002)).process(Wall(), 0, wall_points())
    assert pairs.counts == {
        "frames": 1, "masks": 7, "pairs": 1, "dropped: area": 2, "dropped: duplicate": 1, "dropped: low score": 1,
        "dropped: caption empty": 1, "dropped: caption not letters": 1,
    }  # fmt: skip
    assert pairs.counts["masks"] == sum(n for what, n in pairs.counts.items() if what.startswith(("dropped", "pairs")))


def test_masks_that_see_no_points_are_not_described():
    words = Words("a wall")
    pairs = FrameEngine(Given(boxes((2, 3, 12, 13))), words).process(Wall(), 0, wall_points() + np.array([0, 0, 0.2]))
    assert pairs.counts == {"frames": 1, "masks": 1, "dropped: few points": 1}
    assert words.asked == 0


def test_a_damaged_frame_is_counted_and_gives_nothing():
    pairs = FrameEngine(Given(boxes((2, 3, 12, 13))), Words("a wall")).process(Wall(), 2, wall_points())
    assert (pairs.masks, pairs.counts) == ([], {"frame: bad_image": 1})


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((2, 12, 16), bool), r"expected \(M, 24, 32\) bool"),
        (np.zeros((2, 24, 32), np.uint8), "uint8"),
        ([1, 2], "Given.segment returned list, expected ImageMasks"),
        (ImageMasks(np.zeros((2, 24, 32), bool), ("one",)), "2 masks, 1 labels"),
    ],
)
def test_a_segmenter_that_breaks_the_contract_is_named(masks, message):
    with pytest.raises(Mosaic3DError, match=message):
        segment_frame(Given(masks), Wall(), 0, Wall()[0].color)


def test_a_captioner_that_breaks_the_contract_is_named():
    with pytest.raises(Mosaic3DError, match="Words returned 1 captions for 2 masks"):
        FrameEngine(Given(boxes((2, 3, 12, 13), (4, 20, 20, 30))), Words("one")).process(Wall(), 0, wall_points())


@pytest.mark.parametrize("value", [{"min_score": 2}, {"min_area": 0.5, "max_area": 0.4}, {"min_points": 0}])
def test_settings_without_sense_are_refused(value):
    with pytest.raises(ValueError, match=next(iter(value))):
        EngineSettings(**value)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), most=st.floats(0.1, 0.9))
def test_of_masks_that_overlap_the_surest_stays(seed, most):
    rng = np.random.default_rng(seed)
    masks = ImageMasks(rng.random((6, 4, 5)) < rng.uniform(0.2, 0.9), ("",) * 6, rng.permutation(6).astype(np.float32) / 6)

    def iou(a, b):
        union = (masks.masks[a] | masks.masks[b]).sum()
        return (masks.masks[a] & masks.masks[b]).sum() / union if union else 0.0

    kept: list[int] = []
    for k in sorted(range(6), key=lambda k: -masks.scores[k]):  # one after the other
        if all(iou(k, other) <= most for other in kept):
            kept.append(k)
    assert without_duplicates(masks, most).tolist() == sorted(kept)


@pytest.fixture(scope="module")
def room():
    """A room seen by a camera without noise, and points on its surfaces with their true instance."""
    sequence = open_room(4, "val", sensor=None, frames=8, width=640, height=480)
    rng = np.random.default_rng(0)
    points, instance = [], []
    for index in range(8):
        view = sequence.ideal_view(index)
        rows, columns = np.nonzero(view.instance > 0)
        chosen = rng.permutation(len(rows))[:40_000]
        rows, columns = rows[chosen], columns[chosen]
        z, camera = view.depth[rows, columns], sequence.camera
        local = np.stack([(columns - camera.cx) / camera.fx * z, (rows - camera.cy) / camera.fy * z, z], 1)
        points.append(local @ sequence.poses[index][:3, :3].T + sequence.poses[index][:3, 3])
        instance.append(view.instance[rows, columns])
    return sequence, np.concatenate(points).astype(np.float32), np.concatenate(instance)


class Ideal:
    """The sequence as a perfect sensor would have recorded it."""

    def __init__(self, sequence):
        self.sequence, self.name = sequence, sequence.name

    def __getitem__(self, index):
        view, frame = self.sequence.ideal_view(index), self.sequence[index]
        return replace(frame, depth=view.depth, T_world_camera=self.sequence.poses[index])


class Rendered:
    """The label images, for a wrapped sequence."""

    def segment_frame(self, sequence, index, image):
        return RenderedLabels().segment_frame(sequence.sequence, index, image)


class Ids:
    """Captions that do not matter."""

    def caption(self, image, masks):
        return ["a thing"] * len(masks)


@pytest.mark.parametrize("index", [0, 3, 6])
def test_masks_of_a_perfect_segmenter_become_the_true_points(room, index):
    """Every mask above 0.9 IoU, where depth is exact. What a noisy depth image costs is in test_lifting.py."""
    sequence, points, instance = room
    ideal, test = Ideal(sequence), DepthTest(0.02, 0.0)
    visible, _ = visible_points(points, ideal[index], test)
    everything = EngineSettings(min_area=0.0, max_area=1.0, max_overlap=1.0, min_points=1, depth_test=test)
    pairs = FrameEngine(Rendered(), Ids(), everything).process(ideal, index, points)
    ids = [i for i in np.unique(sequence.ideal_view(index).instance) if i > 0]
    assert len(pairs.masks) == len(ids) == pairs.counts["pairs"]
    checked = 0
    for i, mask in zip(ids, pairs.masks, strict=True):
        true = visible[instance[visible] == i]
        if len(true) < 100:  # a pixel more or less decides
            continue
        both = len(np.intersect1d(mask, true))
        assert both / (len(mask) + len(true) - both) > 0.9, (i, len(mask), len(true))
        checked += 1
    assert checked >= 4


def test_boxes_hold_their_masks_and_more(room):
    sequence = room[0]
    image = sequence[0].color
    exact = segment_frame(RenderedLabels(), sequence, 0, image)
    around = segment_frame(BoxMasks(RenderedLabels()), sequence, 0, image)
    assert around.labels == exact.labels
    assert not (exact.masks & ~around.masks).any()
    assert around.masks.sum() > 1.2 * exact.masks.sum()
    rows = np.flatnonzero(around.masks[0].any(1))
    assert around.masks[0, rows[0]].sum() == around.masks[0].sum() / len(rows)


def test_label_images_beside_the_frames_serve_as_masks(tmp_path):
    folder = tmp_path / "wall"
    folder.mkdir()
    labels = np.zeros((24, 32), np.uint16)
    labels[2:12, 3:13], labels[14:20, 3:13] = 7, 300
    Image.fromarray(labels).save(folder / "000000.png")
    (tmp_path / "names.json").write_text('{"7": "chair"}')
    pairs = FrameEngine(LabelFolder(tmp_path), TemplateCaptioner(seed=1)).process(Wall(), 0, wall_points())
    assert len(pairs.masks) == 1
    assert "chair" in pairs.captions[0]
    assert pairs.counts["dropped: caption empty"] == 1  # 300 has no name
    missing = FrameEngine(LabelFolder(tmp_path), TemplateCaptioner()).process(Wall(), 1, wall_points())
    assert missing.counts == {"frame: missing_image": 1}
    (tmp_path / "names.json").write_text("[1]")
    with pytest.raises(Mosaic3DError, match="must map ids to words"):
        LabelFolder(tmp_path)


def test_the_rendered_labels_refuse_recordings():
    with pytest.raises(Mosaic3DError, match="generated rooms"):
        RenderedLabels().segment_frame(Wall(), 0, Wall()[0].color)


def test_template_captions_follow_from_the_seed_and_use_label_synonym_and_colour():
    masks = ImageMasks(boxes(*[(2, 3, 12, 13)] * 60), ("sofa",) * 60)
    image = Wall()[0].color
    words = {"sofa": ("couch", "a place to sit")}
    texts = TemplateCaptioner(words, seed=3).caption(image, masks)
    assert texts == TemplateCaptioner(words, seed=3).caption(image, masks)
    assert texts != TemplateCaptioner(words, seed=4).caption(image, masks)
    assert all("sofa" in t or "couch" in t or "a place to sit" in t for t in texts)
    assert any("red" in t for t in texts)
    assert any("couch" in t for t in texts)
    assert not any("a a " in t for t in texts)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [((250, 250, 250), "white"), ((10, 10, 12), "black"), ((128, 128, 130), "grey"), ((200, 20, 20), "red"),
     ((30, 60, 180), "blue"), ((30, 140, 50), "green"), ((110, 65, 35), "brown"), ((220, 190, 40), "yellow"),
     ((205, 185, 150), "beige")],
)  # fmt: skip
def test_colours_have_their_everyday_names(rgb, name):
    assert color_name(np.array(rgb, float)) == name


def work_at(folder, settings=None):
    return SceneWork(folder, "gsam2", (0, 10, 20, 30, 40), 2, settings or {"engine": 1})


def some_pairs(*sizes):
    masks = [np.arange(n) for n in sizes]
    return FramePairs(masks, [f"caption {n}" for n in sizes], Counter(pairs=len(sizes)))


def test_a_scene_goes_on_with_the_chunks_that_are_missing(tmp_path):
    work = work_at(tmp_path)
    assert work.chunks() == [(0, 10), (20, 30), (40,)]
    assert work.begin() == [0, 1, 2]
    work.keep(1, [some_pairs(3), some_pairs()])
    work.keep(0, [some_pairs(1, 2), some_pairs(5)])
    again = work_at(tmp_path)
    assert again.begin() == [2]
    assert not again.done
    again.keep(2, [some_pairs(4)])
    assert again.finish() == {"pairs": 5}
    assert again.done
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    found = read_captions(tmp_path, "gsam2", 10)
    assert [len(mask) for mask in found.masks] == [1, 2, 5, 3, 4]
    assert found.captions == [(f"caption {n}",) for n in (1, 2, 5, 3, 4)]
    assert found.frame.tolist() == [0, 0, 1, 2, 4]


def test_chunks_of_other_settings_are_not_mixed_in(tmp_path):
    work_at(tmp_path).begin()
    with pytest.raises(SceneFolderError, match="other settings"):
        work_at(tmp_path, {"engine": 2}).begin()


def test_a_damaged_chunk_is_named(tmp_path):
    work = work_at(tmp_path)
    work.begin()
    for number in range(3):
        work.keep(number, [some_pairs(1) for _ in work.chunks()[number]])
    (tmp_path / ".captions.gsam2" / "00001.npz").write_bytes(b"no archive")
    with pytest.raises(SceneFolderError, match=r"00001.npz is damaged"):
        work.finish()
    assert not work.done
