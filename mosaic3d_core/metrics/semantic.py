"""Semantic segmentation scores from a confusion matrix.

The foreground scores follow Mosaic3D's protocol: wall, floor and ceiling are left out of prediction and ground truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(truth: NDArray[np.integer], prediction: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Counts [true class, predicted class], (classes, classes); points with a true class < 0 are ignored.

    Raises:
        ValueError: If the lengths differ or a prediction lies outside [0, classes).
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth and prediction must have one shape, got {truth.shape} and {prediction.shape}")
    valid = truth >= 0
    t, p = truth[valid].astype(np.int64), prediction[valid].astype(np.int64)
    if len(p) and (p.min() < 0 or p.max() >= classes or t.max() >= classes):
        raise ValueError(f"class ids must lie in [0, {classes})")
    return np.bincount(t * classes + p, minlength=classes * classes).reshape(classes, classes)


def intersection_over_union(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU per class, (classes,); NaN for a class without ground truth and without predictions."""
    hit = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def foreground_miou(confusion: NDArray[np.int64], background: Sequence[int]) -> float:
    """Mean IoU over the classes not in `background` that have ground truth, in [0, 1]; NaN when there is none.

    Predictions are expected to be restricted to foreground classes where the protocol asks for it.
    """
    kept = [i for i in range(len(confusion)) if i not in set(background)]
    sub = confusion[np.ix_(kept, kept)]
    iou = intersection_over_union(sub)
    present = sub.sum(1) > 0
    return float(np.nanmean(iou[present])) if present.any() else float("nan")
