"""The figures about objects: what counts as found, as named, as told apart, and as keeping its id."""

from __future__ import annotations

import numpy as np
import pytest

from mosaic3d_core.data.synthetic.classes import CLASS_ID, accepted_classes
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.metrics.id_stability import IdStability, StabilityCounts
from mosaic3d_core.metrics.object_scores import (
    NamedScores,
    ObjectScores,
    are_separated,
    embedding_scores,
    query_scores,
    voxels_of,
)
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.scene_encoder import FeatureMap
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import InstanceMap, QueryEngine
from mosaic3d_core.query.instance_map import PRESENT, MapInstance
from mosaic3d_core.query.proposals import Proposal

PER_CELL = 2  # map voxels in an encoder voxel


def feature_map(cells: int) -> FeatureMap:
    """An encoded map: a row of encoder voxels, two map voxels each."""
    index = np.stack([np.arange(cells), np.zeros(cells), np.zeros(cells)], 1).astype(np.int32)
    owner = np.repeat(np.arange(cells), PER_CELL)
    n = len(owner)
    zeros = np.zeros((n, 3), np.float32)
    fine = (index[owner] * 2).astype(np.int32)
    snapshot = MapSnapshot(1, 0, 0.02, fine, fine * 0.02, zeros, zeros, np.ones(n, np.float32), np.zeros(n, np.int64))
    head = FoldedHead(np.eye(3, dtype=np.float32))
    features = np.ones((cells, 3), np.float32)
    return FeatureMap(snapshot, features, head.norms(features), owner, index, 0.04, head, "none", 20.0, 0.0)


def proposal(start: int, stop: int, quality: float = 0.9) -> Proposal:
    return Proposal(np.arange(start, stop), quality, np.ones(3, np.float32))


def truth(cells: int, *things: tuple[int, int, str]) -> tuple[np.ndarray, np.ndarray]:
    """Class and instance per map voxel from (first cell, cell after the last, class)."""
    segment, instance = np.full(cells, -1), np.zeros(cells, int)
    for number, (start, stop, name) in enumerate(things, 1):
        segment[start:stop], instance[start:stop] = CLASS_ID[name], number
    return np.repeat(segment, PER_CELL), np.repeat(instance, PER_CELL)


def test_what_is_found_whole_counts_and_walls_are_neither_right_nor_wrong():
    features = feature_map(300)
    segment, instance = truth(300, (0, 100, "chair"), (100, 200, "table"), (200, 300, "wall"))
    scores = ObjectScores()
    scores.add([proposal(0, 100), proposal(100, 200), proposal(200, 300)], features, segment, instance)
    found = scores.result()
    assert found["ap50"] == found["ap25"] == 1.0
    assert found["objects_per_map"] == 2
    assert found["proposals_per_map"] == 3


def test_two_things_in_one_proposal_are_at_most_one_thing_found():
    features = feature_map(200)
    segment, instance = truth(200, (0, 100, "chair"), (100, 200, "chair"))
    scores = ObjectScores()
    scores.add([proposal(0, 200)], features, segment, instance)
    assert scores.result()["ap50"] == 0.0  # neither is more than half of the union
    assert 0 < scores.result()["ap25"] <= 0.5


def test_things_of_which_little_was_seen_are_not_asked_for():
    features = feature_map(200)
    segment, instance = truth(200, (0, 100, "chair"), (100, 120, "box"))  # 40 map voxels of the box
    scores = ObjectScores()
    scores.add([proposal(0, 100)], features, segment, instance)
    assert scores.result()["ap50"] == 1.0
    assert scores.result()["objects_per_map"] == 1


def test_a_name_is_answered_by_every_kind_of_it_and_by_nothing_else():
    assert "office chair" in accepted_classes("chair")
    features = feature_map(300)
    segment, instance = truth(300, (0, 100, "office chair"), (100, 200, "table"), (200, 300, "wall"))
    proposals = [proposal(0, 100), proposal(100, 200), proposal(200, 300)]
    names = ("chair", "office chair", "table", "bed")
    right = np.array([[0.9, 0.9, 0.0, 0.0], [0.0, 0.0, 0.9, 0.0], [0.0, 0.0, 0.0, 0.9]])
    scores = NamedScores(names)
    scores.add(proposals, right, features, segment, instance)
    assert scores.by_name() == {"chair": (1.0, 1.0), "office chair": (1.0, 1.0), "table": (1.0, 1.0)}  # there is no bed
    # a wall that is called a table costs precision, although walls are no objects
    wrong, called = NamedScores(names), right.copy()
    called[2, 2] = 0.95
    wrong.add(proposals, called, features, segment, instance)
    assert wrong.by_name()["chair"] == (1.0, 1.0)
    assert 0 < wrong.by_name()["table"][0] < 0.6
    assert wrong.result()["ap50"] == pytest.approx((2 + wrong.by_name()["table"][0]) / 3)


def test_nothing_to_find_is_no_score():
    features = feature_map(50)
    segment, instance = truth(50, (0, 50, "wall"))
    scores, named = ObjectScores(), NamedScores(("chair",))
    scores.add([], features, segment, instance)
    named.add([], np.zeros((0, 1)), features, segment, instance)
    assert np.isnan(scores.result()["ap50"])
    assert np.isnan(named.result()["ap50"])


@pytest.mark.parametrize(
    ("proposals", "expected"),
    [
        ([proposal(0, 40), proposal(40, 60)], True),
        ([proposal(0, 60)], False),  # both in one: the large one is found, the small one is not
        ([proposal(0, 40)], False),
        ([proposal(0, 30), proposal(38, 60)], True),
        ([], False),
    ],
)
def test_two_things_are_told_apart_when_each_has_its_own_proposal(proposals, expected):
    features = feature_map(80)
    _, instance = truth(80, (0, 40, "table"), (40, 60, "lamp"))
    assert are_separated(proposals, features, instance, 1, 2) is expected


def test_map_voxels_follow_the_voxels_of_the_encoder():
    found = voxels_of([proposal(1, 3)], feature_map(4))
    assert found.tolist() == [[False, False, True, True, True, True, False, False]]
    assert voxels_of([], feature_map(4)).shape == (0, 8)


def test_a_proposal_scores_a_name_as_its_voxels_do_in_a_query():
    encoder = SceneEncoder.from_checkpoint()
    engine = QueryEngine(get_text_encoder(encoder.text_encoder_name))
    points = np.stack(np.meshgrid(np.arange(30), np.arange(30), np.arange(2), indexing="ij"), -1).reshape(-1, 3).astype(np.int32)
    n = len(points)
    normals = np.tile(np.array([0, 0, 1], np.float32), (n, 1))
    color = np.full((n, 3), 120, np.float32)
    xyz = (points * 0.02 + 0.01).astype(np.float32)
    features = encoder.encode(MapSnapshot(1, 0, 0.02, points, xyz, color, normals, np.ones(n, np.float32), np.zeros(n, np.int64)))
    everything = Proposal(np.arange(len(features.cells)), 1.0, features.features.mean(0))
    names = ("floor", "chair")
    scores = query_scores(engine, features, [everything], names)
    asked = engine.query(features, names).voxel_scores
    for score, row in zip(scores[0], asked, strict=True):
        assert row.min() - 1e-6 <= score <= row.max() + 1e-6
    assert query_scores(engine, features, [], names).shape == (0, 2)
    with pytest.raises(ValueError, match="no embedding"):
        embedding_scores(engine, 20.0, [everything], names)
    word = np.asarray(engine.text_encoder.encode(["chair"]), np.float32)[0]
    placed = Proposal(everything.cells, 1.0, everything.feature, word)
    by_place = embedding_scores(engine, 40.0, [placed], names)
    assert by_place[0, 1] > 0.9 > 0.1 > by_place[0, 0]


def instance_at(number: int, start: int, stop: int) -> MapInstance:
    return MapInstance(number, np.arange(start, stop), np.ones(3, np.float32), 1.0, 1, 0, 0, PRESENT)


def test_a_thing_is_stable_when_its_id_never_changes_and_merged_ids_are_one():
    features = feature_map(240)
    _, instance = truth(240, (0, 80, "chair"), (80, 160, "table"), (160, 240, "bed"))
    stability = IdStability()
    stability.add([instance_at(1, 0, 80), instance_at(2, 80, 160)], features, instance, [1, 2, 3])
    stability.add([instance_at(1, 0, 80), instance_at(3, 80, 160), instance_at(7, 160, 240)], features, instance, [1, 2, 3])
    stability.add([instance_at(1, 0, 70), instance_at(4, 160, 175)], features, instance, [1, 2, 3])
    assert stability.history == {1: [1, 1, 1], 2: [2, 3, None], 3: [7, None]}  # nothing is known of the bed at first
    assert stability.counts(lambda number: number) == StabilityCounts(2, 1, 1, 1)
    merged = stability.counts(lambda number: 2 if number == 3 else number)
    assert merged == StabilityCounts(2, 2, 1, 1)
    assert (merged + merged).shares() == {"stable": 1.0, "never_renamed": 0.5, "matched_last": 0.5}
    assert np.isnan(StabilityCounts().shares()["stable"])


def test_things_of_which_little_was_seen_are_not_followed():
    features = feature_map(60)
    _, instance = truth(60, (0, 45, "chair"))
    stability = IdStability()
    for _ in range(3):
        stability.add([instance_at(1, 0, 45)], features, instance, [1])
    assert stability.counts(InstanceMap().current_id) == StabilityCounts()
