"""Semantic evaluation by the published definitions, and where they differ from the usual ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.metrics.class_lists import ClassList, class_list_names, from_names, get_class_list
from mosaic3d_core.metrics.evaluation import SemanticEvaluator

SMALL = ClassList("small", ("wall", "floor", "chair", "table", "otherthing"), {"head": (0, 2), "tail": (3,)})


def one_hot(labels, classes=5):
    return np.eye(classes, dtype=np.float32)[labels]


def by_hand(scenes, classes, protocol):
    """f-mIoU, f-mAcc, mIoU, mAcc by loops over points."""
    foreground = [i for i, n in enumerate(classes.names) if n not in ("wall", "floor", "ceiling") and "other" not in n]

    def means(kept, restrict):
        hit, gt, pred = (dict.fromkeys(range(len(classes)), 0) for _ in range(3))
        for scores, truth in scenes:
            for row, t in zip(scores, truth):
                if t in (-1, 255, -100) or classes.names[t].startswith("other") or (restrict and t not in foreground):
                    continue
                allowed = foreground if restrict else range(len(classes))
                p = max(allowed, key=lambda k: (row[k], -k))
                gt[t] += 1
                pred[p] += 1
                hit[t] += int(p == t)
        nothing = 0.0 if protocol == "official" else None
        iou = [hit[c] / (gt[c] + pred[c] - hit[c]) if gt[c] + pred[c] - hit[c] else nothing for c in kept]
        if protocol == "present":
            iou = [v if gt[c] else None for v, c in zip(iou, kept)]
        acc = [hit[c] / gt[c] if gt[c] else nothing for c in kept]
        return [np.mean([v for v in values if v is not None] or [np.nan]) for values in (iou, acc)]

    return [*means(foreground, True), *means(range(len(classes)), False)]


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), protocol=st.sampled_from(["official", "present"]))
def test_equals_counting_by_hand(seed, protocol):
    rng = np.random.default_rng(seed)
    evaluator, scenes = SemanticEvaluator(SMALL), []
    for _ in range(int(rng.integers(1, 3))):
        n = int(rng.integers(0, 30))
        scores = rng.integers(0, 4, (n, 5)).astype(np.float32)  # ties are common
        truth = rng.choice([-100, -1, 0, 1, 2, 3, 4, 255], n)
        evaluator.add(scores, truth)
        scenes.append((scores, truth))
    found = evaluator.scores(protocol)
    np.testing.assert_allclose([found.f_miou, found.f_macc, found.miou, found.macc], by_hand(scenes, SMALL, protocol), atol=1e-9)


def test_absent_classes_count_zero_officially_and_not_at_all_otherwise():
    evaluator = SemanticEvaluator(SMALL)
    evaluator.add(one_hot([2, 2, 0]), np.array([2, 2, 0]))
    official, present = evaluator.scores(), evaluator.scores("present")
    assert (official.f_miou, present.f_miou) == (0.5, 1.0)  # no table anywhere
    assert (official.miou, present.miou) == (2 / 5, 1.0)
    assert (official.groups["head"], present.groups["head"]) == (0.5, 1.0)  # the wall stays in its group with 0


def test_foreground_scores_ignore_what_the_net_says_of_walls():
    evaluator = SemanticEvaluator(SMALL)
    scores = np.array([[9.0, 0, 1, 0, 0], [0, 9.0, 0, 1, 5]])
    evaluator.add(scores, np.array([2, 3]))
    assert evaluator.scores().f_miou == 1.0
    assert evaluator.scores().miou == 0.0


def test_published_lists_have_their_published_sizes():
    sizes = {name: (len(get_class_list(name)), len(get_class_list(name).foreground)) for name in class_list_names()}
    assert sizes["scannet20"] == (20, 17)
    assert sizes["scannet200"] == (200, 197)
    assert sizes["matterport21"] == (21, 17)
    assert [sizes[f"matterport{n}"][1] for n in (40, 80, 160)] == [37, 77, 157]
    groups = get_class_list("scannet200").groups
    assert [len(groups[k]) for k in ("head", "common", "tail")] == [66, 68, 66]
    assert sorted(i for ids in groups.values() for i in ids) == list(range(200))
    assert len(get_class_list("scannet200")) - len(get_class_list("scannet200").not_instances) == 198


def test_group_means_combine_to_the_published_overall_score():
    """The reported head, common and tail values of one published net give its overall score only if head is divided by 66."""
    names = get_class_list("scannet200")
    foreground = len(names.foreground)
    total = sum(len(names.groups[k]) * v for k, v in (("head", 0.32943), ("common", 0.11242), ("tail", 0.03254)))
    assert total / foreground == pytest.approx(0.16007, abs=1e-5)


def test_a_list_comes_from_a_file(tmp_path):
    (tmp_path / "mine.txt").write_text("wall\nlamp\n\nsofa\n")
    assert get_class_list(str(tmp_path / "mine.txt")) == ClassList("mine", ("wall", "lamp", "sofa"))
    (tmp_path / "twice.txt").write_text("lamp\nlamp\n")
    with pytest.raises(Mosaic3DError, match="class list twice repeats lamp"):
        get_class_list(str(tmp_path / "twice.txt"))
    with pytest.raises(Mosaic3DError, match=r"class list scannetpp is unknown: expected scannet20, .* or a file"):
        get_class_list("scannetpp")
    with pytest.raises(Mosaic3DError, match="has no class"):
        from_names([])


def test_input_that_does_not_fit_is_refused():
    evaluator = SemanticEvaluator(SMALL)
    with pytest.raises(Mosaic3DError, match=r"one column per class, \(N, 5\) for small, got \(2, 4\)"):
        evaluator.add(np.zeros((2, 4)), np.zeros(2, int))
    with pytest.raises(Mosaic3DError, match="one entry per point"):
        evaluator.add(np.zeros((2, 5)), np.zeros(3, int))
    with pytest.raises(Mosaic3DError, match="ground truth holds class 7, but small has classes 0 to 4"):
        evaluator.add(np.zeros((2, 5)), np.array([0, 7]))
    with pytest.raises(Mosaic3DError, match='protocol must be "official" or "present"'):
        evaluator.scores("usual")
