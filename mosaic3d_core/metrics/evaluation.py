"""Annotation-free semantic segmentation as Mosaic3D evaluates it (arXiv 2502.02548, section 5).

Every point gets the class whose text its feature is most like. Two confusion matrices are kept over the whole split: one over all
classes, and one with predictions and ground truth restricted to the foreground.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.metrics.class_lists import ClassList
from mosaic3d_core.metrics.semantic import confusion_matrix

Protocol = Literal["official", "present"]
#: Ids in ground-truth files that mean "no label".
UNLABELLED = (-100, -1, 255)


@dataclass(frozen=True)
class SemanticScores:
    """Scores in [0, 1]; NaN where nothing could be scored.

    Attributes:
        f_miou: Mean IoU over foreground classes, predictions restricted to them.
        f_macc: Mean accuracy, likewise.
        miou: Mean IoU over all classes.
        macc: Mean accuracy over all classes.
        groups: Mean foreground IoU of each group (head, common, tail).
        iou: Foreground IoU per class, NaN for background classes and, in protocol "present", for absent ones.
        accuracy: Foreground accuracy per class, likewise.
        points: Ground-truth points per class.
    """

    f_miou: float
    f_macc: float
    miou: float
    macc: float
    groups: dict[str, float]
    iou: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    points: NDArray[np.int64]


class SemanticEvaluator:
    """Sums confusion over scenes.

    Args:
        classes: The class list.
    """

    def __init__(self, classes: ClassList) -> None:
        self.classes = classes
        n = len(classes)
        self.all_confusion = np.zeros((n, n), np.int64)
        self.foreground_confusion = np.zeros((n, n), np.int64)

    def add(self, scores: NDArray[np.floating], truth: NDArray[np.integer]) -> None:
        """Add a scene.

        Args:
            scores: Score of each point for each class. Shape (N, K); rows need no normalisation.
            truth: Class id per point, -1, 255 or -100 for none. Shape (N,).

        Raises:
            Mosaic3DError: If shapes disagree with each other or the class list, or an id lies outside the list.
        """
        n = len(self.classes)
        if scores.ndim != 2 or scores.shape[1] != n:
            raise Mosaic3DError(f"scores must have one column per class, (N, {n}) for {self.classes.name}, got {scores.shape}")
        foreground = np.array(self.classes.foreground, np.int64)
        best = scores.argmax(1) if len(scores) else np.zeros(0, np.int64)
        best_foreground = foreground[scores[:, foreground].argmax(1)] if len(scores) else best
        self.add_labels(best, best_foreground, truth)

    def add_labels(self, label: NDArray[np.integer], foreground_label: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
        """Add a scene by its labels: the best of all classes, and the best of the foreground, each (N,)."""
        if not (label.shape == foreground_label.shape == truth.shape) or label.ndim != 1:
            raise Mosaic3DError(
                f"prediction and ground truth must have one entry per point, got {label.shape}, {foreground_label.shape} "
                f"and {truth.shape}"
            )
        kept = self._ignore(truth)
        self.all_confusion += confusion_matrix(kept, label, len(self.classes))
        inside = np.where(np.isin(kept, self.classes.foreground), kept, -1)
        self.foreground_confusion += confusion_matrix(inside, foreground_label, len(self.classes))

    def _ignore(self, truth: NDArray[np.integer]) -> NDArray[np.int64]:
        """Ground truth with -1 for everything that is not scored."""
        kept = np.where(np.isin(truth, UNLABELLED), -1, truth.astype(np.int64))
        if len(kept) and (kept.min() < -1 or kept.max() >= len(self.classes)):
            wrong = kept[(kept < -1) | (kept >= len(self.classes))][0]
            raise Mosaic3DError(
                f"ground truth holds class {wrong}, but {self.classes.name} has classes 0 to {len(self.classes) - 1} "
                "(and -1 or 255 for none)"
            )
        return np.where(np.isin(kept, list(self.classes.never_scored)), -1, kept)

    def scores(self, protocol: Protocol = "official") -> SemanticScores:
        """The scores so far.

        Args:
            protocol: "official" counts a class without ground truth and predictions as 0, as the published figures do;
                "present" leaves classes without ground truth out of the means.

        Raises:
            Mosaic3DError: For an unknown protocol.
        """
        if protocol not in ("official", "present"):
            raise Mosaic3DError(f'protocol must be "official" or "present", got "{protocol}"')
        iou, accuracy = _per_class(self.foreground_confusion, protocol)
        iou_all, accuracy_all = _per_class(self.all_confusion, protocol)
        foreground = list(self.classes.foreground)
        shown = np.isin(np.arange(len(self.classes)), foreground)
        # officially wall, floor and ceiling stay in their group with 0, so that "head" is divided by all its classes
        in_groups = iou if protocol == "official" else np.where(shown, iou, np.nan)
        return SemanticScores(
            _mean(iou[foreground]),
            _mean(accuracy[foreground]),
            _mean(iou_all),
            _mean(accuracy_all),
            {name: _mean(in_groups[list(ids)]) for name, ids in self.classes.groups.items()},
            np.where(shown, iou, np.nan),
            np.where(shown, accuracy, np.nan),
            self.all_confusion.sum(1),
        )


def _per_class(confusion: NDArray[np.int64], protocol: Protocol) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    hit, truth = np.diag(confusion).astype(np.float64), confusion.sum(1)
    union = truth + confusion.sum(0) - hit
    nothing = 0.0 if protocol == "official" else np.nan
    iou = np.where(union > 0, hit / np.maximum(union, 1), nothing)
    if protocol == "present":
        iou = np.where(truth > 0, iou, np.nan)
    return iou, np.where(truth > 0, hit / np.maximum(truth, 1), nothing)


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
