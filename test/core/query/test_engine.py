"""Queries: what is there is found where it is, what is not there is not found, and bad questions are
refused."""

from dataclasses import replace

import numpy as np
import pytest
from scenes import SceneBuilder, WordEncoder, room

from mosaic3d_core.errors import QueryError
from mosaic3d_core.query.boxes import OrientedBox, iou_3d
from mosaic3d_core.query.engine import QueryEngine
from mosaic3d_core.query.results import NO_LABEL


@pytest.fixture(scope="module")
def scene():
    encoder = WordEncoder({"couch": ("sofa", 0.9), "seat": ("chair", 0.8), "eating place": ("dining table", 0.75)})
    feature_map, things = room().build(encoder)
    return QueryEngine(encoder), feature_map, things


def box_iou_of(rows, truth):
    return len(np.intersect1d(rows, truth)) / len(np.union1d(rows, truth))


def test_every_thing_is_found_with_its_voxels(scene):
    engine, feature_map, things = scene
    result = engine.query(feature_map, ["bed", "dining table", "door", "chair"])
    for text, truth in (("bed", [7]), ("dining table", [4]), ("door", [8]), ("chair", [5, 6])):
        found = result.of(text)
        assert len(found) == len(truth), text
        for number in truth:
            overlap = max(box_iou_of(one.voxel_indices, np.flatnonzero(things == number)) for one in found)
            assert overlap > 0.9, text
            assert all(one.score > 0.8 for one in found)


def test_boxes_match_the_furniture(scene):
    engine, feature_map, _ = scene
    (bed,) = engine.query(feature_map, ["bed"]).objects
    assert iou_3d(bed.box, OrientedBox(np.array([-1.4, -1.2, 0.3]), np.eye(3), np.array([2.0, 1.0, 0.4]))) > 0.8
    (table,) = engine.query(feature_map, ["dining table"]).objects
    assert table.box.size == pytest.approx([1.4, 0.8, 0.06], abs=0.08)


def test_walls_are_separate_at_the_corner(scene):
    engine, feature_map, things = scene
    found = engine.query(feature_map, ["wall"]).of("wall")
    assert len(found) == 2
    for number in (2, 3):
        truth = np.flatnonzero(things == number)
        assert max(box_iou_of(one.voxel_indices, truth) for one in found) > 0.85


def test_synonyms_find_the_thing_they_mean(scene):
    engine, feature_map, _ = scene
    result = engine.query(feature_map, ["seat", "eating place"])
    assert len(result.of("seat")) == 2
    assert len(result.of("eating place")) == 1


@pytest.mark.parametrize("text", ["toilet", "couch", "elephant", "bathtub", "fire truck"])
def test_absent_things_get_no_object(scene, text):
    engine, feature_map, _ = scene
    assert engine.query(feature_map, [text]).objects == []


def test_result_speaks_about_the_map_it_used(scene):
    engine, feature_map, _ = scene
    result = engine.query(feature_map, ["  bed ", "dining\n table"])
    assert result.texts == ("bed", "dining table")
    assert result.generation == 1
    assert result.scores.shape == (2, len(feature_map.snapshot.indices))
    assert result.scores.min() >= 0
    assert result.scores.max() <= 1
    assert result.elapsed_ms > 0


def test_min_score_max_objects_and_region_limit_the_answer(scene):
    engine, feature_map, _ = scene
    assert len(engine.query(feature_map, ["chair"], max_objects=1).objects) == 1
    assert len(engine.query(feature_map, ["chair"], max_objects=0).objects) == 2
    assert engine.query(feature_map, ["chair"], min_score=1.0).objects == []
    near = engine.query(feature_map, ["chair"], region=((-1.2, 0, 0), (-0.4, 0.8, 1.5))).objects
    assert len(near) == 1
    points = feature_map.snapshot.centroids[near[0].voxel_indices]
    assert (points >= (-1.2, 0, 0)).all()
    assert (points <= (-0.4, 0.8, 1.5)).all()


def test_ids_stay_with_the_object_when_the_map_grows():
    encoder = WordEncoder()
    engine = QueryEngine(encoder)
    small = SceneBuilder()
    small.add_box("chair", (2, 0, 0.5), (0.45, 0.45, 0.8))
    first, _ = small.build(encoder, generation=1)
    (before,) = engine.query(first, ["chair"]).objects
    grown = room(small)
    second, _ = grown.build(encoder, generation=2)
    after = engine.query(second, ["chair"]).objects
    assert len(after) == 3
    same = [one for one in after if one.id == before.id]
    assert len(same) == 1
    assert np.linalg.norm(same[0].box.center - before.box.center) < 0.1
    assert len({one.id for one in after}) == 3


def test_labelling_names_every_thing(scene):
    engine, feature_map, things = scene
    vocabulary = ["floor", "wall", "dining table", "chair", "bed", "door"]
    labelling = engine.label(feature_map, vocabulary)
    expected = {
        1: "floor",
        2: "wall",
        3: "wall",
        4: "dining table",
        5: "chair",
        6: "chair",
        7: "bed",
        8: "door",
    }
    truth = np.array([vocabulary.index(expected[number]) for number in things])
    assert (labelling.labels == truth).mean() > 0.98
    assert labelling.labels.dtype == np.uint16
    assert labelling.instances.dtype == np.uint32
    assert labelling.scores.dtype == np.float32
    for thing in labelling.objects:
        assert (labelling.instances[thing.voxel_indices] == thing.id).all()
        assert (labelling.labels[thing.voxel_indices] == vocabulary.index(thing.text)).all()


def test_labelling_leaves_alone_what_the_vocabulary_does_not_name(scene):
    engine, feature_map, things = scene
    labelling = engine.label(feature_map, ["bed", "chair"])
    assert (labelling.labels[np.isin(things, [1, 2, 3, 4, 8])] == NO_LABEL).mean() > 0.98
    assert (labelling.instances[labelling.labels == NO_LABEL] == 0).all()


def test_an_empty_map_gives_an_empty_answer(scene):
    engine, feature_map, _ = scene
    snapshot = type(feature_map.snapshot)(3, 0.04, np.zeros((0, 3), np.int32), *(np.zeros((0, 3), np.float32) for _ in range(3)))
    empty = type(feature_map)(snapshot, np.zeros((0, 64), np.float32), np.zeros(0, np.int64), snapshot.indices, 0.04)
    assert engine.query(empty, ["chair"]).objects == []
    assert len(engine.label(empty, ["chair"]).labels) == 0


def test_voxels_without_features_match_nothing(scene):
    engine, feature_map, _ = scene
    blank = replace(feature_map, features=np.zeros_like(feature_map.features))
    assert engine.query(blank, ["chair"]).objects == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no text"),
        ([""], "text 1 is empty"),
        (["bed", "  \t"], "text 2 is empty"),
        (["?!"], "text 1 is empty"),
        (["x" * 10240], "10240 characters long, at most 1000"),
        ([3], "text 1 is a int"),
        (["a"] * 300, "300 texts, at most 256"),
    ],
)
def test_bad_texts_are_refused(scene, texts, message):
    engine, feature_map, _ = scene
    with pytest.raises(QueryError, match=message):
        engine.query(feature_map, texts)
    with pytest.raises(QueryError, match=message):
        engine.label(feature_map, texts)


@pytest.mark.parametrize("min_score", [-0.1, 1.1, float("nan"), float("inf")])
def test_min_score_outside_its_range_is_refused(scene, min_score):
    engine, feature_map, _ = scene
    with pytest.raises(QueryError, match="min_score must lie between 0 and 1"):
        engine.query(feature_map, ["bed"], min_score=min_score)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (((0, 0, np.nan), (1, 1, 1)), "must be finite"),
        (((0, 0, 0), (1, 1, np.inf)), "must be finite"),
        (((0, 2, 0), (1, 1, 1)), "got 2.0 >= 1.0 along y"),
        (((0, 0), (1, 1)), "three numbers each"),
        (5, "lower and an upper corner"),
    ],
)
def test_bad_regions_are_refused(scene, region, message):
    engine, feature_map, _ = scene
    with pytest.raises(QueryError, match=message):
        engine.query(feature_map, ["bed"], region=region)


def test_negative_max_objects_is_refused(scene):
    engine, feature_map, _ = scene
    with pytest.raises(QueryError, match="max_objects"):
        engine.query(feature_map, ["bed"], max_objects=-1)


def test_a_label_may_have_prompts_of_its_own(scene):
    engine, feature_map, _ = scene
    plain = engine.label(feature_map, ["floor", "chair", "dining table"])
    same = engine.label(feature_map, {"floor": ["floor"], "chair": ["chair"], "dining table": ["dining table"]})
    assert np.array_equal(plain.labels, same.labels)
    assert np.array_equal(plain.scores, same.scores)
    renamed = engine.label(feature_map, {"ground": ["floor"], "furniture": ["chair", "dining table"]})
    assert renamed.vocabulary == ("ground", "furniture")
    floor = plain.labels == 0
    assert (renamed.labels[floor] == 0).mean() > 0.99
    both = np.isin(plain.labels, [1, 2])
    assert (renamed.labels[both] == 1).mean() > 0.99
    assert renamed.scores[both].mean() >= plain.scores[both].mean()  # prompts of one label do not compete with each other


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({}, "no text"),
        ({"seat": []}, "'seat' needs a list"),
        ({"seat": "chair"}, "'seat' needs a list"),
        ({"seat": [" "]}, "empty"),
    ],
)
def test_labels_without_usable_prompts_are_named(scene, vocabulary, message):
    engine, feature_map, _ = scene
    with pytest.raises(QueryError, match=message):
        engine.label(feature_map, vocabulary)
