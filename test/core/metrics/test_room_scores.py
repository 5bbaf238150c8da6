"""The accuracy figures: what counts as present, right and absent."""

from __future__ import annotations

import numpy as np
import pytest

from mosaic3d_core.data.synthetic.classes import CLASS_ID, NEVER_PRESENT
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.metrics.room_scores import MIN_VOXELS, Question, RoomScores, TrueObject, judge, room_questions, true_objects
from mosaic3d_core.query import DetectedObject, OrientedBox


def box(x: float, size: float = 1.0) -> OrientedBox:
    return OrientedBox(center=np.array([x, 0.0, 0.0]), rotation=np.eye(3), size=np.full(3, size))


def found(x: float) -> DetectedObject:
    return DetectedObject(1, "chair", 0.9, box(x), np.arange(3))


TRUTH = [TrueObject("chair", box(0.0), 500), TrueObject("table", box(5.0), 500)]
CHAIR = Question("chair", "name", frozenset({"chair", "office chair"}))


def test_an_answer_is_right_when_its_box_overlaps_a_true_one_by_more_than_a_quarter():
    assert judge(CHAIR, [found(0.0)], TRUTH).iou == pytest.approx(1.0)
    assert judge(CHAIR, [found(0.5)], TRUTH).correct  # IoU 1/3
    assert not judge(CHAIR, [found(0.7)], TRUTH).correct  # IoU 0.176
    assert not judge(CHAIR, [found(5.0)], TRUTH).correct, "a table is no chair"
    assert not judge(CHAIR, [], TRUTH).correct


def test_only_the_first_object_counts():
    assert not judge(CHAIR, [found(5.0), found(0.0)], TRUTH).correct


def test_an_absent_thing_is_right_only_without_any_object():
    absent = Question("giraffe", "absent", frozenset())
    assert judge(absent, [], TRUTH).correct
    assert not judge(absent, [found(0.0)], TRUTH).correct


def test_questions_cover_names_synonyms_uses_and_absent_things():
    questions = room_questions({"floor", "wall", "office chair", "bed"})
    kinds = {q.text: q.kind for q in questions}
    assert kinds["bed"] == "name"
    assert kinds["double bed"] == "synonym"
    assert kinds["place to sleep"] == "synonym"
    assert kinds["somewhere to sleep at night"] == "held_out"
    assert kinds["sofa"] == "absent"
    assert "chair" not in kinds, "a room with an office chair does not lack a chair"
    assert all(kinds[text] == "absent" for text in NEVER_PRESENT)


def test_instances_that_were_hardly_seen_are_not_asked_for():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(0, 0.5, (2000, 3)), rng.uniform(2, 2.02, (5, 3))])
    snapshot = MapSnapshot.from_points(points, np.zeros_like(points))
    instance = np.where(snapshot.centroids[:, 0] < 1, 1, 2).astype(np.int32)
    assert (instance == 2).sum() < MIN_VOXELS
    truth = true_objects(snapshot, instance, np.array([-1, CLASS_ID["bed"], CLASS_ID["lamp"]], np.int16))
    assert [t.class_name for t in truth] == ["bed"]


def test_shares_are_over_questions_of_their_kind():
    scores = RoomScores()
    answers = [judge(CHAIR, [found(0.0)], TRUTH), judge(CHAIR, [], TRUTH), judge(Question("x", "absent", frozenset()), [], TRUTH)]
    scores.add(answers, np.eye(len(CLASS_ID), dtype=np.int64))
    result = scores.result()
    assert result["top1_by_name"] == 0.5
    assert result["absent_rejected"] == 1.0
    assert result["top1_by_synonym"] is None
    assert result["foreground_miou"] == 1.0
    assert scores.by_class() == {"chair": (1, 2)}
