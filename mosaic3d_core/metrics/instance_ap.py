"""Average precision of instance segmentation by the ScanNet protocol.

A prediction matches a ground-truth instance of its class when their IoU is above a threshold; of several matches the one of
highest score counts and the others are false positives. Predictions that mostly cover void or ignored points are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.metrics.class_lists import ClassList

#: mAP averages over these IoU thresholds; AP50 and AP25 are given beside it.
THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(9))
MIN_POINTS = 100


@dataclass(frozen=True)
class InstanceScores:
    """Average precision in [0, 1]; NaN for a class without ground truth.

    Attributes:
        map: Mean over classes and thresholds 0.50 to 0.90.
        ap50: Mean over classes at IoU 0.50.
        ap25: Mean over classes at IoU 0.25.
        groups: mAP of each group of classes.
        per_class: (mAP, AP50, AP25) per class, NaN for classes that are not instances. Shape (K, 3).
    """

    map: float
    ap50: float
    ap25: float
    groups: dict[str, float]
    per_class: NDArray[np.float64]


@dataclass(frozen=True)
class _ClassInScene:
    """One class in one scene.

    Attributes:
        overlap: Intersections of predictions and ground truth. Shape (P, G).
        iou: Their IoU. Shape (P, G).
        score: Confidence of each prediction. Shape (P,).
        large: Whether a ground-truth instance counts (is large enough). Shape (G,).
        void: Share of each prediction on points that are nobody's. Shape (P,).
        size: Points of each prediction. Shape (P,).
    """

    overlap: NDArray[np.int64]
    iou: NDArray[np.float64]
    score: NDArray[np.float64]
    large: NDArray[np.bool_]
    void: NDArray[np.int64]
    size: NDArray[np.int64]


class InstanceEvaluator:
    """Collects scenes and computes AP at the end.

    Args:
        classes: The class list; its `not_instances` are void.
        min_points: Smaller predictions and ground-truth instances do not count.
    """

    def __init__(self, classes: ClassList, min_points: int = MIN_POINTS) -> None:
        self.classes, self.min_points = classes, min_points
        self._valid = [i for i in range(len(classes)) if i not in classes.not_instances]
        self._scenes: dict[int, list[_ClassInScene]] = {i: [] for i in self._valid}

    def add(
        self,
        masks: Sequence[NDArray[np.bool_]] | NDArray[np.bool_],
        labels: Sequence[int],
        scores: Sequence[float],
        segment: NDArray[np.integer],
        instance: NDArray[np.integer],
    ) -> None:
        """Add a scene.

        Args:
            masks: Points of each prediction, (P, N) bool.
            labels: Class id of each prediction.
            scores: Confidence of each prediction.
            segment: True class per point, (N,); ids outside the list are void.
            instance: True instance per point, (N,); below 0 is none.

        Raises:
            Mosaic3DError: If lengths disagree, a label lies outside the list or a score is not finite.
        """
        predicted = np.asarray(masks, bool).reshape(len(masks), -1) if len(masks) else np.zeros((0, len(segment)), bool)
        label, score = np.asarray(labels, np.int64), np.asarray(scores, np.float64)
        self._check(predicted, label, score, segment, instance)
        size = predicted.sum(1)
        keep = (size >= self.min_points) & np.isin(label, self._valid)
        predicted, label, score, size = predicted[keep], label[keep], score[keep], size[keep]
        countable = np.isin(segment, self._valid) & (instance >= 0)
        # one number per true instance; a point that is nobody's has the last one
        pairs = np.stack([segment[countable], instance[countable]], 1).astype(np.int64)
        true, owner = np.unique(pairs, axis=0, return_inverse=True) if len(pairs) else (np.zeros((0, 2), np.int64), pairs[:, 0])
        of_point = np.full(len(segment), len(true), np.int64)
        of_point[countable] = owner.reshape(-1)
        true_size = np.bincount(of_point, minlength=len(true) + 1)[:-1]
        overlap = np.stack(
            [np.bincount(of_point[m], minlength=len(true) + 1) for m in predicted] or [np.zeros(len(true) + 1, int)]
        )
        overlap = overlap[: len(predicted)]
        for c in self._valid:
            p, g = np.flatnonzero(label == c), np.flatnonzero(true[:, 0] == c)
            if len(p) or len(g):
                inter = overlap[np.ix_(p, g)]
                union = size[p][:, None] + true_size[g][None] - inter
                iou = inter / np.maximum(union, 1)
                self._scenes[c].append(
                    _ClassInScene(inter, iou, score[p], true_size[g] >= self.min_points, overlap[p, -1], size[p])
                )

    def _check(
        self,
        masks: NDArray[np.bool_],
        labels: NDArray[np.int64],
        scores: NDArray[np.float64],
        segment: NDArray[np.integer],
        instance: NDArray[np.integer],
    ) -> None:
        if not len(masks) == len(labels) == len(scores):
            raise Mosaic3DError(
                f"{len(masks)} masks, {len(labels)} labels and {len(scores)} scores: give one of each per instance"
            )
        if segment.shape != instance.shape or segment.ndim != 1 or masks.shape[1] != len(segment):
            raise Mosaic3DError(
                f"masks cover {masks.shape[1]} points, but the ground truth has {segment.shape} classes and {instance.shape} "
                "instances: all need one entry per point"
            )
        if len(labels) and (labels.min() < 0 or labels.max() >= len(self.classes)):
            raise Mosaic3DError(
                f"predicted labels must lie in 0 to {len(self.classes) - 1}, got {labels.min()} to {labels.max()}"
            )
        if not np.isfinite(scores).all():
            raise Mosaic3DError("scores of predicted instances must be finite")

    def merge(self, other: InstanceEvaluator) -> None:
        """Add the scenes of another evaluator of the same classes, such as that of another process."""
        for c in self._valid:
            self._scenes[c] += other._scenes[c]

    def scores(self) -> InstanceScores:
        """AP over all scenes added so far."""
        per_class = np.full((len(self.classes), 3), np.nan)
        for c in self._valid:
            values = {t: _average_precision(self._scenes[c], t) for t in (*THRESHOLDS, 0.25)}
            per_class[c] = float(np.mean([values[t] for t in THRESHOLDS])), values[0.5], values[0.25]
        means = [_mean(per_class[:, k]) for k in range(3)]
        groups = {name: _mean(per_class[list(ids), 0]) for name, ids in self.classes.groups.items()}
        return InstanceScores(means[0], means[1], means[2], groups, per_class)


def _average_precision(scenes: list[_ClassInScene], threshold: float) -> float:
    """AP of one class at one threshold; NaN without ground truth, 0 without predictions."""
    true: list[bool] = []
    score: list[float] = []
    missed = 0
    any_truth = any_prediction = False
    for scene in scenes:
        any_truth |= bool(scene.large.any())
        any_prediction |= bool(len(scene.score))
        matched, extra, missed_here = _match(scene, threshold)
        missed += missed_here
        true += [True] * len(matched) + [False] * len(extra)
        score += matched + extra
        # what matches no instance is wrong, unless it lies on void or on instances too small to count
        hits = (scene.iou > threshold).any(1) if scene.iou.size else np.zeros(len(scene.score), bool)
        ignored = scene.void + scene.overlap[:, ~scene.large].sum(1)
        wrong = ~hits & (ignored / scene.size <= threshold)
        true += [False] * int(wrong.sum())
        score += scene.score[wrong].tolist()
    if not any_truth:
        return float("nan")
    if not any_prediction or not score:
        return 0.0
    return _area(np.array(true), np.array(score), missed)


def _match(scene: _ClassInScene, threshold: float) -> tuple[list[float], list[float], int]:
    """Scores of matched instances, scores of further predictions on them, and how many instances were missed."""
    used: set[int] = set()
    matched: list[float] = []
    extra: list[float] = []
    missed = 0
    for g in np.flatnonzero(scene.large):
        best: float | None = None
        for p in np.flatnonzero(scene.iou[:, g] > threshold):
            if int(p) in used:
                continue
            value = float(scene.score[p])
            if best is None:
                best = value
                used.add(int(p))
            else:
                extra.append(min(best, value))
                best = max(best, value)
        if best is None:
            missed += 1
        else:
            matched.append(best)
    return matched, extra, missed


def _area(true: NDArray[np.bool_], score: NDArray[np.float64], missed: int) -> float:
    """Area under the precision-recall curve, one point per distinct score, summed as ScanNet's evaluation does."""
    order = np.argsort(score, kind="stable")
    score, right = score[order], np.append(np.cumsum(true[order]), 0)
    _, first = np.unique(score, return_index=True)
    total, count = int(right[-2]), len(score)
    left_out = right[first - 1]  # true ones below the threshold; entry -1 is 0 for the lowest
    hits = total - left_out
    precision = np.append(hits / (count - first), 1.0)
    recall = np.append(hits / max(total + missed, 1), 0.0)
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ np.convolve(padded, [-0.5, 0.0, 0.5], "valid"))


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
