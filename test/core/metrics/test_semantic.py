"""Semantic scores against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.metrics.semantic import confusion_matrix, foreground_miou, intersection_over_union


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), max_size=60))
@settings(max_examples=150)
def test_iou_equals_set_overlap_of_the_points(pairs):
    truth, prediction = np.array([p[0] for p in pairs], int), np.array([p[1] for p in pairs], int)
    iou = intersection_over_union(confusion_matrix(truth, prediction, 4))
    kept = [i for i, t in enumerate(truth) if t >= 0]
    for c in range(4):
        a, b = {i for i in kept if truth[i] == c}, {i for i in kept if prediction[i] == c}
        if a | b:
            assert iou[c] == pytest.approx(len(a & b) / len(a | b))
        else:
            assert np.isnan(iou[c])


def test_perfect_predictions_score_one_and_background_does_not_count():
    confusion = confusion_matrix(np.array([0, 1, 2, 2]), np.array([1, 1, 2, 2]), 3)
    assert foreground_miou(confusion, [0]) == 1.0
    assert foreground_miou(confusion, []) < 1.0


def test_no_foreground_gives_nan_not_zero():
    assert np.isnan(foreground_miou(np.zeros((3, 3), np.int64), [0]))


def test_impossible_class_ids_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        confusion_matrix(np.array([0]), np.array([3]), 3)
    with pytest.raises(ValueError, match="one shape"):
        confusion_matrix(np.array([0]), np.array([0, 1]), 3)
