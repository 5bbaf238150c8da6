"""Texts with relations on a room whose relations are known: who answers, with which score, and why."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relation_scenes import Room

from mosaic3d_core.errors import QueryError
from mosaic3d_core.query.relations import RegionBox, RelationConfig, Viewpoint, query_with_relations

UP = np.array([0.0, 0, 1])


@pytest.fixture(scope="module")
def room():
    return Room()


def view(x=0.0, y=0.0, yaw=0.0):
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:3, 3] = x, y, 0.3
    return Viewpoint.from_pose(pose, False, UP)


def ask(room, *texts, **options):
    options.setdefault("instances", room.view)
    return query_with_relations(room.engine, room.features, texts, **options)


ANSWERS = {
    "chair near the window": ["near chair"],
    "chair far from the window": ["far chair"],
    "chair not near the window": ["far chair"],
    "lamp on the table": ["lamp"],
    "on the table": ["lamp"],
    "under the table": ["box"],
    "box on the table": [],
    "picture on the wall": ["picture"],
    "radiator under the window": ["radiator"],
    "window above the radiator": ["window"],
    "nearest chair to the window": ["near chair"],
    "farthest chair from the window": ["far chair"],
    "second nearest chair to the window": ["far chair"],
    "chair near the radiator near the window": ["near chair"],
    "chair near the radiator and not near the window": [],
    "lamp on the table and far from the window": ["lamp"],
    "table between the sofa and the picture": ["table"],
    "box between the window and the radiator": [],
    "largest thing": ["sofa"],
    "sofa near me": [],
    "nearest to me": ["table"],
    "nearest chair": ["near chair"],
    "left of me": ["near chair", "radiator", "window", "picture"],
    "chair right of me": ["far chair"],
    "leftmost chair": ["near chair"],
    "second chair from the left": ["far chair"],
    "chair behind the table": ["far chair", "near chair"],
    "sofa in front of the table": [],
    "chair between the near wall and me": [],
}


@pytest.mark.parametrize(("text", "expected"), ANSWERS.items())
def test_relations_are_answered_by_the_things_that_stand_so(room, text, expected):
    answer = ask(room, text, viewpoint=view())
    assert sorted(room.names(answer)) == sorted(expected)
    assert len(answer.reasons) == len(answer.result.objects)
    assert all(answer.reasons)
    assert all(0.4 <= one.score <= 1.0 for one in answer.result.objects)


def test_the_reason_of_a_distance_is_the_distance_of_the_nearest_voxels(room):
    answer = ask(room, "chair near the window")
    points = room.features.snapshot.centroids.astype(float)
    chair, window = points[room.cells("near chair")], points[room.cells("window")]
    apart = min(np.linalg.norm(window - point, axis=1).min() for point in chair)
    ids = room.ids["near chair"], room.ids["window"]
    assert answer.reasons == (f"chair {ids[0]} is {apart:.2f} m from window {ids[1]} (near)",)
    assert answer.result.objects[0].score == pytest.approx((1.5 - apart) / 1.0, abs=1e-6)


def test_a_reason_tells_about_every_relation(room):
    (reason,) = ask(room, "lamp on the table near the sofa").reasons
    assert re.fullmatch(r"lamp \d+ stands on table \d+ \(gap 0.0\d m\); table \d+ is 1.\d\d m from sofa \d+ \(near\)", reason)
    (reason,) = ask(room, "nearest chair to the window").reasons
    assert "is the nearest of 2, 0." in reason


def test_plain_texts_are_answered_as_by_the_engine(room):
    texts = ["chair", "table", "unicorn"]
    for instances in (None, room.view):
        plain = room.engine.query(room.features, texts, instances=instances)
        answer = ask(room, *texts, instances=instances)
        assert [(a.id, a.text, a.score) for a in answer.result.objects] == [(b.id, b.text, b.score) for b in plain.objects]
        np.testing.assert_array_equal(answer.result.voxel_scores, plain.voxel_scores)
        assert answer.reasons == ("",) * len(plain.objects)
        assert answer.understood == tuple(texts)


def test_an_object_has_the_same_id_with_and_without_a_relation(room):
    everyone = {one.id for one in ask(room, "chair").result.objects}
    assert {one.id for one in ask(room, "chair near the window").result.objects} <= everyone


def test_several_texts_are_answered_side_by_side(room):
    texts = ["lamp on the table", "chair", "chair near the window", "chair"]
    answer = ask(room, *texts)
    assert answer.result.texts == tuple(texts)
    assert room.names(answer, "lamp on the table") == ["lamp"]
    assert [one.text for one in answer.result.objects] == [texts[0], *["chair"] * 2, texts[2], *["chair"] * 2]


def test_the_heat_of_a_relation_lies_on_its_answers(room):
    result = ask(room, "chair near the window").result
    hot = np.flatnonzero(result.scores[0])
    np.testing.assert_array_equal(np.sort(hot), result.objects[0].voxel_indices)


def test_an_absent_anchor_leaves_no_answer_and_the_message_says_so(room):
    answer = ask(room, "chair near the unicorn")
    assert answer.result.objects == []
    assert answer.notes == ("No unicorn was found, so nothing can be near it.",)
    answer = ask(room, "unicorn near the window")
    assert answer.notes == ("No unicorn was found.",)
    answer = ask(room, "chair near the table near the window")
    assert answer.notes[0] == "Of 1 table, none is near window."
    assert "table [near (window)]" in answer.notes[1]


def test_nothing_is_near_what_is_not_there_so_all_are_not_near_it(room):
    answer = ask(room, "chair not near the unicorn")
    assert len(answer.result.objects) == 2
    assert answer.notes == ("No unicorn was found.",)


@pytest.mark.parametrize(
    "text", ["left of the table", "nearest to me", "chair near me", "leftmost chair", "unicorn behind the table"]
)
def test_a_direction_without_a_viewpoint_is_refused_with_what_to_do(room, text):
    with pytest.raises(QueryError, match="viewpoint_frame"):
        ask(room, text)


@pytest.mark.parametrize("text", ["cup on me", "chair under you", "in me"])
def test_nothing_stands_on_a_viewpoint(room, text):
    with pytest.raises(QueryError, match="name a thing"):
        ask(room, text, viewpoint=view())


def test_too_many_relations_are_refused(room):
    with pytest.raises(QueryError, match="more than 8 relations"):
        ask(room, "chair" + " near the table" * 9)
    with pytest.raises(QueryError, match="more than 1 relations"):
        ask(room, "chair near the table near the wall", config=RelationConfig(max_relations=1))


def test_anything_needs_instances(room):
    with pytest.raises(QueryError, match="instances"):
        ask(room, "on the table", instances=None)


def test_without_parsing_the_words_are_one_description(room):
    room.encoder.calls.clear()
    answer = ask(room, "chair near the window", parse_relations=False)
    assert "chair near the window" in room.encoder.calls
    assert answer.understood == ("chair near the window",)


def test_quotes_ask_for_the_words_themselves(room):
    room.encoder.calls.clear()
    ask(room, '"chair near the window"')
    assert "chair near the window" in room.encoder.calls


def test_at_most_the_wanted_number_of_objects_answers(room):
    assert len(ask(room, "chair far from the lamp", "chair", max_objects=1).result.objects) == 2


def test_scores_below_the_wanted_one_do_not_answer(room):
    score = ask(room, "chair near the window").result.objects[0].score
    assert ask(room, "chair near the window", min_score=min(score + 0.01, 1.0)).result.objects == []
    assert ask(room, "chair near the window", min_score=score - 0.01).result.objects


# Directions -------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.floats(-3.1, 3.1))
def test_who_turns_around_finds_left_on_the_other_side(yaw):
    room = _ROOM
    here, back = view(yaw=yaw), view(yaw=yaw + np.pi)
    for one, other in (("left of", "right of"), ("in front of", "behind")):
        first = ask(room, f"chair {one} me", viewpoint=here).result.objects
        second = ask(room, f"chair {other} me", viewpoint=back).result.objects
        assert [a.id for a in first] == [b.id for b in second]
        assert [a.score for a in first] == pytest.approx([b.score for b in second], abs=1e-9)


_ROOM = Room()


# Regions ----------------------------------------------------------------------------------------------------


def turned(yaw, x=0.0, y=0.0):
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:2, 3] = x, y
    return pose


def test_a_region_along_the_map_is_that_of_the_engine(room):
    corners = ((0.0, 0.0, -1.0), (3.0, 3.0, 3.0))
    plain = room.engine.query(room.features, ["chair"], region=corners, instances=room.view)
    answer = ask(room, "chair", region=RegionBox(corners, np.eye(4)))
    assert [one.id for one in answer.result.objects] == [one.id for one in plain.objects]
    assert room.names(answer) == ["near chair"]


def test_a_quarter_turn_is_exact(room):
    # x of the frame points along y of the map: the far chair at (1.6, -1.8) is at (-1.8, -1.6) there
    answer = ask(room, "chair", region=RegionBox(((-2.5, -2.5, -1), (-1.0, -1.0, 3)), turned(np.pi / 2)))
    assert room.names(answer) == ["far chair"]


@settings(max_examples=12)
@given(st.floats(-3.1, 3.1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_region_is_read_in_its_frame_however_that_is_turned(yaw, x, y):
    room, frame = _ROOM, turned(yaw, x, y)
    centers = {"near chair": (1.4, 1.6, 0.45), "far chair": (1.6, -1.8, 0.45)}
    back = np.linalg.inv(frame)
    for name, center in centers.items():
        middle = back[:3, :3] @ center + back[:3, 3]
        box = RegionBox((tuple(middle - 0.6), tuple(middle + 0.6)), frame)  # 1.2 m around a chair of 0.45 m x 0.85 m
        answer = ask(room, "chair", region=box)
        assert room.names(answer) == [name]
        whole = {one.id: one for one in ask(room, "chair").result.objects}
        np.testing.assert_array_equal(answer.result.objects[0].voxel_indices, whole[room.ids[name]].voxel_indices)


def test_an_object_is_cut_to_a_turned_region(room):
    frame = turned(0.4)
    back = np.linalg.inv(frame)
    middle = back[:3, :3] @ np.array([-1.5, -1.9, 0.35])
    box = RegionBox((tuple(middle - np.array([0, 2, 2])), tuple(middle + np.array([3, 2, 2]))), frame)
    (sofa,) = ask(room, "sofa", region=box).result.objects
    points = room.features.snapshot.centroids[sofa.voxel_indices].astype(float) @ back[:3, :3].T
    assert points[:, 0].min() >= middle[0] - 1e-5  # float32 centroids
    (whole,) = ask(room, "sofa").result.objects
    assert 0.3 < len(sofa.voxel_indices) / len(whole.voxel_indices) < 0.7
    assert sofa.box.size[0] < whole.box.size[0]


def test_anchors_may_lie_outside_the_region(room):
    box = RegionBox(((0.0, 0.0, -1.0), (3.0, 2.0, 3.0)), np.eye(4))
    assert room.names(ask(room, "chair near the window", "near the window", region=box)) == ["near chair", "near chair"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 5.0])
def test_a_malformed_region_is_refused(bad):
    with pytest.raises(QueryError, match="region"):
        RegionBox(((bad, 0, 0), (1, 1, 1)), turned(0.3))


# The map's up axis, and time ----------------------------------------------------------------------------------


def test_relations_follow_the_maps_up_axis():
    """The room lies on its side: y is up."""
    room = Room()
    tilt = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z of the room becomes y of the map
    snapshot = room.features.snapshot
    moved = replace(snapshot, centroids=(snapshot.centroids @ tilt.T).astype(np.float32), up=tilt[:, 2])
    features = replace(room.features, snapshot=moved)
    instances = room.engine.view(features, room.view.instances)
    for text in ("on the table", "under the table", "radiator under the window", "lamp on the table"):
        answer = query_with_relations(room.engine, features, [text], instances=instances)
        assert room.names(answer) == ANSWERS[text], text


def test_relations_cost_little_beyond_the_plain_queries(room):
    """Loose, for busy machines: docs/query.md has the figures."""

    def best(call):
        call()
        times = []
        for _ in range(7):
            began = time.thread_time()
            call()
            times.append(time.thread_time() - began)
        return min(times)

    plain = best(lambda: room.engine.query(room.features, ["chair", "window"], instances=room.view))
    related = best(lambda: ask(room, "chair near the window"))
    assert related - plain < 0.05
