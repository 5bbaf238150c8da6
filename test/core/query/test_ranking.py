"""Queries and labels with instances: instances answer first and keep their ids, voxels answer where no instance does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import WordEncoder, room

from mosaic3d_core.query.engine import QueryEngine
from mosaic3d_core.query.instance_map import GONE, PRESENT, MapInstance
from mosaic3d_core.query.instances import extract_instances
from mosaic3d_core.query.ranking import rank
from mosaic3d_core.query.results import NO_LABEL


@pytest.fixture(scope="module")
def scene():
    encoder = WordEncoder({"couch": ("sofa", 0.9), "seat": ("chair", 0.8)})
    feature_map, things = room().build(encoder)
    return QueryEngine(encoder), feature_map, things


def cells_of(feature_map, rows):
    return np.unique(feature_map.voxel_of_point[rows])


def instance(number: int, cells, state: str = PRESENT) -> MapInstance:
    return MapInstance(number, np.asarray(cells, np.int64), np.zeros(1, np.float32), 0.9, 4, 10, 20, state)


def chairs(feature_map, things, first=101):
    return [instance(first + k, cells_of(feature_map, np.flatnonzero(things == n))) for k, n in enumerate((5, 6))]


def test_an_instance_answers_under_its_own_id_with_what_is_known_of_it(scene):
    engine, feature_map, things = scene
    view = engine.view(feature_map, chairs(feature_map, things))
    found = engine.query(feature_map, ["chair"], instances=view).objects
    assert sorted(one.id for one in found) == [101, 102]
    assert all(one.instance is not None and one.instance.views == 4 for one in found)
    for one, thing in zip(sorted(found, key=lambda one: one.id), (5, 6), strict=True):
        truth = np.flatnonzero(things == thing)
        assert len(np.intersect1d(one.voxel_indices, truth)) / len(np.union1d(one.voxel_indices, truth)) > 0.9
        assert one.score > 0.8


def test_every_text_gives_the_same_instance_the_same_id(scene):
    engine, feature_map, things = scene
    view = engine.view(feature_map, chairs(feature_map, things))
    result = engine.query(feature_map, ["chair", "seat"], instances=view)
    assert {one.id for one in result.of("chair")} == {one.id for one in result.of("seat")} == {101, 102}


def test_what_no_instance_answers_is_found_among_the_voxels(scene):
    engine, feature_map, things = scene
    view = engine.view(feature_map, chairs(feature_map, things))
    (bed,) = engine.query(feature_map, ["bed"], instances=view).objects
    (alone,) = engine.query(feature_map, ["bed"]).objects
    assert bed.instance is None
    assert bed.id not in (101, 102)
    assert np.array_equal(bed.voxel_indices, alone.voxel_indices)
    assert bed.score == alone.score


def test_ids_of_instances_and_of_voxel_groups_never_meet(scene):
    from mosaic3d_core.query import InstanceMap

    engine, feature_map, _ = scene
    instances = InstanceMap(ids=engine.tracker.ids)
    drawn = [next(instances._ids) for _ in range(3)]
    assert not set(drawn) & {one.id for one in engine.query(feature_map, ["wall", "door"]).objects}


def test_two_things_that_one_group_of_voxels_holds_are_two_answers(scene):
    engine, feature_map, things = scene
    cells = cells_of(feature_map, np.flatnonzero(things == 7))
    half = feature_map.cells[cells][:, 0] < np.median(feature_map.cells[cells][:, 0])
    view = engine.view(feature_map, [instance(201, cells[half]), instance(202, cells[~half])])
    found = engine.query(feature_map, ["bed"], instances=view).objects
    assert sorted(one.id for one in found) == [201, 202]


def test_pieces_that_cover_little_of_a_thing_give_way_to_it(scene):
    engine, feature_map, things = scene
    cells = cells_of(feature_map, np.flatnonzero(things == 7))
    view = engine.view(feature_map, [instance(301, cells[: len(cells) // 5])])
    (bed,) = engine.query(feature_map, ["bed"], instances=view).objects
    (alone,) = engine.query(feature_map, ["bed"]).objects
    assert np.array_equal(bed.voxel_indices, alone.voxel_indices)
    assert bed.id != 301


def test_a_group_of_voxels_that_is_nearly_an_instance_has_its_id(scene):
    engine, feature_map, things = scene
    bed = cells_of(feature_map, np.flatnonzero(things == 7))
    floor = cells_of(feature_map, np.flatnonzero(things == 1))
    # an instance that leaks: too little of it scores for it to answer by itself
    leaky = instance(401, np.unique(np.concatenate([bed, floor[: int(0.9 * len(bed))]])))
    view = engine.view(feature_map, [leaky])
    (found,) = engine.query(feature_map, ["bed"], instances=view).objects
    assert found.id == 401
    truth = np.flatnonzero(things == 7)
    assert len(np.setdiff1d(found.voxel_indices, truth)) < 0.1 * len(truth), "the voxels are those that score"


def test_gone_instances_answer_nothing(scene):
    engine, feature_map, things = scene
    gone = [instance(501, [], GONE), instance(502, cells_of(feature_map, np.flatnonzero(things == 5)), GONE)]
    view = engine.view(feature_map, gone)
    assert len(view) == 0
    assert not {501, 502} & {one.id for one in engine.query(feature_map, ["chair"], instances=view).objects}


def test_a_region_keeps_instances_outside_of_it_out(scene):
    engine, feature_map, things = scene
    view = engine.view(feature_map, chairs(feature_map, things))
    region = ((-1.2, 0, 0), (-0.4, 0.8, 1.5))
    (found,) = engine.query(feature_map, ["chair"], region=region, instances=view).objects
    points = feature_map.snapshot.centroids[found.voxel_indices]
    assert found.id in (101, 102)
    assert ((points >= region[0]) & (points <= region[1])).all()


def test_every_instance_is_among_the_labelled_objects_with_its_word(scene):
    engine, feature_map, things = scene
    known = chairs(feature_map, things)
    view = engine.view(feature_map, known)
    labelling = engine.label(feature_map, ["bed", "chair"], view)
    objects = {one.id: one for one in labelling.objects}
    assert objects[101].text == objects[102].text == "chair"
    assert [one.text for one in labelling.objects if one.instance is None] == ["bed"]
    for one in labelling.objects:
        assert (labelling.instances[one.voxel_indices] == one.id).all()
    without = engine.label(feature_map, ["bed"], view)
    nameless = [one for one in without.objects if one.id in (101, 102)]
    assert [(one.text, one.score) for one in nameless] == [("", 0.0)] * 2
    assert (without.labels[nameless[0].voxel_indices] == NO_LABEL).all()


def test_without_instances_answers_are_those_of_the_voxels(scene):
    engine, feature_map, _ = scene
    texts = ["bed", "chair", "wall", "giraffe"]
    plain = engine.query(feature_map, texts).objects
    empty = engine.query(feature_map, texts, instances=engine.view(feature_map, [])).objects
    assert [(a.text, a.id, a.score) for a in plain] == [(b.text, b.id, b.score) for b in empty]


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.floats(0.1, 0.9))
def test_no_instance_answers_twice_and_no_two_answers_are_the_same_voxels(scene, seed, least):
    engine, feature_map, _ = scene
    generator = np.random.default_rng(seed)
    voxels = len(feature_map.cells)
    owner = generator.integers(0, 6, -(-voxels // 40)).repeat(40)[:voxels]
    view = engine.view(feature_map, [instance(k, np.flatnonzero(owner == k)) for k in range(1, 6)])
    scores = generator.random(-(-voxels // 60)).repeat(60)[:voxels].astype(np.float32)
    config = engine.config
    groups = extract_instances(view.grid, scores, config)
    found = rank(view, scores, groups, least, config)
    numbers = [one.number for one in found if one.number is not None]
    assert len(numbers) == len(set(numbers))
    assert all(one.found.score >= least for one in found)
    assert [one.found.score for one in found] == sorted((one.found.score for one in found), reverse=True)
    for k, one in enumerate(found):
        for other in found[:k]:
            both = len(np.intersect1d(one.found.cells, other.found.cells))
            assert both < 0.6 * max(len(one.found.cells), len(other.found.cells))
