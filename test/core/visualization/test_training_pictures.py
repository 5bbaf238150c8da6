"""Pictures that a training leaves: curves, and a scene beside its truth."""

from __future__ import annotations

import numpy as np
import pytest

from mosaic3d_core.visualization.curves import picture_of_curves
from mosaic3d_core.visualization.segmentation import picture_of_segmentation


def test_a_falling_curve_falls_in_the_picture():
    steps = np.arange(100)
    picture = picture_of_curves({"loss": (steps, 5.0 - steps / 25)})
    line = (picture == (30, 90, 200)).all(-1)
    rows = [np.flatnonzero(line[:, x]).mean() for x in (100, 250, 400)]
    assert rows[0] < rows[1] < rows[2]


@pytest.mark.parametrize("values", [[1.0, 1.0], [np.nan, np.inf], [np.nan, 2.0], [3.0]])
def test_constant_single_and_missing_values_are_drawn(values):
    assert picture_of_curves({"a": (np.arange(len(values)), np.array(values)), "b": (np.arange(1), np.zeros(1))}).shape[2] == 3


def test_no_curves_at_all_are_refused():
    with pytest.raises(ValueError, match="no curves to show"):
        picture_of_curves({})


def test_where_prediction_and_truth_differ_the_halves_differ():
    rng = np.random.default_rng(0)
    points = rng.uniform([-2, -2, 0], [2, 2, 0.01], (40_000, 3)).astype(np.float32)
    truth = np.where(points[:, 0] > 0, 1, 0)
    same = picture_of_segmentation(points, None, truth, truth, ["chair", "table"], 400)
    other = picture_of_segmentation(points, None, truth, 1 - truth, ["chair", "table"], 400)
    below = slice(40, None)  # under the captions
    assert np.array_equal(same[below, :400], same[below, 400:800])
    assert not np.array_equal(other[below, :400], other[below, 400:800])
    assert same.shape[1] > 800  # the legend


def test_points_without_a_class_are_drawn_without_one():
    points = np.random.default_rng(0).uniform(0, 1, (500, 3)).astype(np.float32)
    nothing = np.full(500, -1)
    assert picture_of_segmentation(points, None, nothing, nothing, ["chair"], 200).shape[1] == 400  # no legend
