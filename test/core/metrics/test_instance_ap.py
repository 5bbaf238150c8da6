"""Instance AP agrees with hand-worked cases and with a literal, slow reading of the ScanNet protocol."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.metrics.class_lists import from_names
from mosaic3d_core.metrics.instance_ap import THRESHOLDS, InstanceEvaluator

CLASSES = from_names(["wall", "chair", "table", "other thing", "lamp"])
MIN = 4


def literal_ap(scenes, classes, min_points, threshold, c):  # noqa: C901
    """One class at one threshold, point sets and counting only. scenes: (masks, labels, scores, segment, instance)."""
    flags, values, missed, any_truth, any_prediction = [], [], 0, False, False
    for masks, labels, scores, segment, instance in scenes:
        void = {
            n
            for n in range(len(segment))
            if not (0 <= segment[n] < len(classes)) or segment[n] in classes.not_instances or instance[n] < 0
        }
        truth = {}
        for n in range(len(segment)):
            if n not in void and segment[n] == c:
                truth.setdefault(int(instance[n]), set()).add(n)
        truth = [truth[k] for k in sorted(truth)]
        predictions = []
        for mask, label, score in zip(masks, labels, scores):
            points = {n for n in range(len(segment)) if mask[n]}
            if label == c and len(points) >= min_points:
                predictions.append((points, score))
        any_prediction |= bool(predictions)
        taken = set()
        for one in truth:
            if len(one) < min_points:
                continue
            any_truth = True
            current = None
            for k, (points, score) in enumerate(predictions):
                if k in taken or len(points & one) / len(points | one) <= threshold:
                    continue
                if current is None:
                    current, _ = score, taken.add(k)
                else:
                    flags.append(0)
                    values.append(min(current, score))
                    current = max(current, score)
            if current is None:
                missed += 1
            else:
                flags.append(1)
                values.append(current)
        for points, score in predictions:
            if any(len(points & one) / len(points | one) > threshold for one in truth):
                continue
            nobody = len(points & void) + sum(len(points & one) for one in truth if len(one) < min_points)
            if nobody / len(points) <= threshold:
                flags.append(0)
                values.append(score)
    if not any_truth:
        return float("nan")
    if not any_prediction or not values:
        return 0.0
    precision, recall = [], []
    for cut in sorted(set(values)):
        hits = sum(f for f, v in zip(flags, values) if v >= cut)
        kept = sum(v >= cut for v in values)
        precision.append(hits / kept)
        recall.append(hits / (sum(flags) + missed) if sum(flags) + missed else 0.0)
    precision.append(1.0)
    recall.append(0.0)
    around = [recall[0], *recall, 0.0]
    return sum(p * 0.5 * (around[k] - around[k + 2]) for k, p in enumerate(precision))


def random_scene(rng):
    """Few points and few distinct scores, so that ties, tiny masks, duplicates and void overlaps are common."""
    n = int(rng.integers(1, 60))
    segment = rng.integers(-1, 6, n)  # 5 lies outside the list
    instance = rng.integers(-1, 4, n)
    masks, labels, scores = [], [], []
    for _ in range(int(rng.integers(0, 7))):
        kind = rng.random()
        if kind < 0.6 and n:
            k = int(rng.integers(n))
            mask = (segment == segment[k]) & (instance == instance[k])
            mask ^= rng.random(n) < 0.15
            label = segment[k] if 0 <= segment[k] < 5 else 1
        else:
            mask, label = rng.random(n) < rng.uniform(0, 1), rng.integers(0, 5)
        masks.append(mask)
        labels.append(int(label))
        scores.append(float(rng.choice([0.1, 0.5, 0.5, 0.9])))
        if rng.random() < 0.3:
            masks.append(mask.copy())
            labels.append(int(label))
            scores.append(float(rng.choice([0.1, 0.5, 0.9])))
    return masks, labels, scores, segment, instance


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 3))
def test_equals_a_literal_reading_of_the_protocol(seed, count):
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng) for _ in range(count)]
    evaluator = InstanceEvaluator(CLASSES, MIN)
    for scene in scenes:
        evaluator.add(*scene)
    found = evaluator.scores()
    for c in (1, 2, 4):
        wanted = {t: literal_ap(scenes, CLASSES, MIN, t, c) for t in (*THRESHOLDS, 0.25)}
        expected = [np.mean([wanted[t] for t in THRESHOLDS]), wanted[0.5], wanted[0.25]]
        np.testing.assert_allclose(found.per_class[c], expected, atol=1e-9)
    assert np.isnan(found.per_class[[0, 3]]).all()  # walls and "other" are no instances


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), first=st.integers(0, 4))
def test_scenes_of_two_processes_count_as_those_of_one(seed, first):
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng) for _ in range(4)]
    whole, one, other = (InstanceEvaluator(CLASSES, MIN) for _ in range(3))
    for number, scene in enumerate(scenes):
        whole.add(*scene)
        (one if number < first else other).add(*scene)
    one.merge(other)
    np.testing.assert_array_equal(one.scores().per_class, whole.scores().per_class)


def one_chair(points=10, total=20):
    segment, instance = np.full(total, 0), np.full(total, -1)
    segment[:points], instance[:points] = 1, 0
    return segment, instance


def masks_of(total, *ranges):
    out = np.zeros((len(ranges), total), bool)
    for row, (a, b) in zip(out, ranges):
        row[a:b] = True
    return out


def test_hand_worked_cases():
    segment, instance = one_chair()

    def ap(ranges, scores):
        evaluator = InstanceEvaluator(CLASSES, MIN)
        evaluator.add(masks_of(20, *ranges), [1] * len(ranges), scores, segment, instance)
        return evaluator.scores()

    perfect = ap([(0, 10)], [0.7])
    assert (perfect.map, perfect.ap50, perfect.ap25) == (1.0, 1.0, 1.0)
    # IoU 6/10: right at 0.50 and 0.55 of the nine thresholds ("above" excludes 0.60), right at 0.25
    assert ap([(0, 6)], [0.7]).map == pytest.approx(2 / 9)
    assert ap([(0, 6)], [0.7]).ap25 == 1.0
    # exactly IoU 0.5 is not above 0.5
    assert ap([(0, 5)], [0.7]).ap50 == 0.0
    # a second prediction on the same chair is wrong; the surer one comes first, so precision 1 up to recall 1
    assert ap([(0, 10), (0, 9)], [0.9, 0.2]).ap50 == pytest.approx(1.0)
    # a chair that is missed
    assert ap([], []).ap50 == 0.0
    # a prediction on void alone (the wall is no instance) does not count against anything
    assert ap([(0, 10), (10, 20)], [0.5, 0.9]).ap50 == pytest.approx(1.0)


def test_a_wrong_prediction_above_the_right_one_costs_half():
    segment, instance = one_chair(10, 30)
    segment[10:20], instance[10:20] = 2, 1  # a table
    evaluator = InstanceEvaluator(CLASSES, MIN)
    evaluator.add(masks_of(30, (0, 10), (10, 20)), [1, 1], [0.5, 0.9], segment, instance)
    # recall 0 at score 0.9 with precision 0; recall 1 at 0.5 with precision 1/2: the trapezoid of ScanNet's sum
    assert evaluator.scores().per_class[1, 1] == pytest.approx(0.5 * 0.5 * 1.0)


def test_classes_without_ground_truth_are_left_out_of_the_mean():
    segment, instance = one_chair()
    evaluator = InstanceEvaluator(CLASSES, MIN)
    evaluator.add(masks_of(20, (0, 10), (0, 10)), [1, 2], [0.5, 0.9], segment, instance)
    scores = evaluator.scores()
    assert scores.map == 1.0
    assert np.isnan(scores.per_class[2]).all()


@pytest.mark.alone
def test_a_large_scene_takes_less_than_three_seconds():
    rng = np.random.default_rng(0)
    n, count = 200_000, 100
    instance = np.sort(rng.integers(0, 60, n))
    segment = rng.integers(0, 5, 60)[instance]
    masks = np.stack([(instance == rng.integers(60)) ^ (rng.random(n) < 0.02) for _ in range(count)])
    evaluator = InstanceEvaluator(CLASSES)
    start = time.perf_counter()
    evaluator.add(masks, rng.integers(0, 5, count), rng.random(count), segment, instance)
    evaluator.scores()
    assert time.perf_counter() - start < 3.0


def test_input_that_does_not_fit_is_refused():
    segment, instance = one_chair()
    evaluator = InstanceEvaluator(CLASSES)
    with pytest.raises(Mosaic3DError, match="1 masks, 2 labels and 1 scores"):
        evaluator.add(masks_of(20, (0, 10)), [1, 1], [0.5], segment, instance)
    with pytest.raises(Mosaic3DError, match="masks cover 19 points"):
        evaluator.add(masks_of(19, (0, 10)), [1], [0.5], segment, instance)
    with pytest.raises(Mosaic3DError, match="must lie in 0 to 4, got 7 to 7"):
        evaluator.add(masks_of(20, (0, 10)), [7], [0.5], segment, instance)
    with pytest.raises(Mosaic3DError, match="must be finite"):
        evaluator.add(masks_of(20, (0, 10)), [1], [np.nan], segment, instance)
    assert np.isnan(evaluator.scores().map)  # nothing was added
