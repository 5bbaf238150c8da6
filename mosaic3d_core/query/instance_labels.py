"""A word of the vocabulary for every instance, and the rest of the labelled voxels in groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.query.instance_view import InstanceView
from mosaic3d_core.query.instances import Instance, robust_mean
from mosaic3d_core.query.results import NO_LABEL

# An instance has the word that most of its labelled voxels have, when these are at least this share of all its voxels.
_LEAST_SHARE = 0.3
# A group of left-over voxels that is smaller than this share of an instance of the same word is its border.
_BORDER_SHARE = 0.25


def word_of_instances(
    view: InstanceView, labels: NDArray[np.uint16], scores: NDArray[np.float32], words: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The word of each instance.

    Args:
        view: The instances.
        labels: Word per encoder voxel, ``NO_LABEL`` for none. Shape (V,), uint16.
        scores: Its score. Shape (V,), float32.
        words: Size of the vocabulary.

    Returns:
        Position of the word, -1 for none, shape (I,), int64; and the robust mean of its voxels' scores, 0 for none, shape (I,).
    """
    word, score = np.full(len(view), -1, np.int64), np.zeros(len(view))
    for k, one in enumerate(view.instances):
        inside = labels[one.cells]
        named = inside != NO_LABEL
        if not named.any():
            continue
        weight = np.bincount(inside[named], scores[one.cells][named], words)
        best = int(weight.argmax())
        mine = inside == best
        if mine.sum() >= _LEAST_SHARE * len(one.cells):
            word[k], score[k] = best, robust_mean(scores[one.cells][mine])
    return word, score


def left_over(
    view: InstanceView,
    labels: NDArray[np.uint16],
    word: NDArray[np.int64],
    words: int,
    group: Callable[[NDArray[np.int64]], list[Instance]],
    min_relative: float,
) -> list[list[Instance]]:
    """Labelled voxels that belong to no instance, in groups; the borders of instances are left out.

    Args:
        view: The instances.
        labels: Word per encoder voxel, ``NO_LABEL`` for none. Shape (V,), uint16.
        word: Word per instance, -1 for none. Shape (I,).
        words: Size of the vocabulary.
        group: Groups some encoder voxels (K,) into objects.
        min_relative: Groups below this share of the largest instance of the same word are dropped.

    Returns:
        Groups per word.
    """
    free = np.flatnonzero((view.owner < 0) & (labels != NO_LABEL))
    order = free[np.argsort(labels[free], kind="stable")]
    ends = np.searchsorted(labels[order], np.arange(words + 1))
    found = []
    for number in range(words):
        sizes = view.sizes[word == number]
        least = max(min_relative, _BORDER_SHARE) * sizes.max() if len(sizes) else 0
        cells = order[ends[number] : ends[number + 1]]
        found.append([one for one in group(cells) if len(one.cells) >= least] if len(cells) else [])
    return found
