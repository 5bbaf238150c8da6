"""One word per voxel: the vocabulary's words compete with each other and with everything they do not mean."""

from __future__ import annotations

import numpy as np
from numba import njit

from mosaic3d_core.query.calibration import VoxelLikelihoods
from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.results import NO_LABEL


@njit(cache=True, nogil=True)
def _label(
    cosine: np.ndarray,
    likelihood: np.ndarray,
    reference: np.ndarray,
    free: np.ndarray,
    owner: np.ndarray,
    scale: np.float32,
    floor: np.float32,
    least: np.float32,
    labels: np.ndarray,
    scores: np.ndarray,
) -> None:  # pragma: no cover - compiled
    block = 512
    totals, strongest = np.empty(block, np.float32), np.empty(block, np.float32)
    shares = np.empty(cosine.shape[1], np.float32)
    for start in range(0, cosine.shape[0], block):
        count = min(block, cosine.shape[0] - start)
        totals[:] = 0.0
        strongest[:] = 0.0
        for k in range(likelihood.shape[0]):  # whole stretches of a row: the alternatives lie one below the other
            for i in range(count):
                rival = free[k] * likelihood[k, start + i]
                totals[i] += rival
                strongest[i] = max(strongest[i], rival)
        for i in range(count):
            v = start + i
            total = totals[i]
            best, value = -1, np.float32(-1.0)
            for q in range(cosine.shape[1]):
                own = np.exp(min(scale * (cosine[v, q] - reference[v]), np.float32(60.0)))
                shares[q] = own
                total += own
                if own > value:
                    best, value = q, own
            for q in range(cosine.shape[1]):  # prompts of one label do not compete with each other
                if q != best and owner[q] == owner[best]:
                    total -= shares[q]
            if best >= 0 and cosine[v, best] >= floor and value >= strongest[i] and value >= least * total:
                labels[v] = owner[best]
                scores[v] = value / total


def label_voxels(
    likelihoods: VoxelLikelihoods,
    word_cosine: np.ndarray,
    affinity: np.ndarray,
    config: QueryConfig,
    label_of_word: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Best word per encoder voxel.

    A concept of the built-in alternatives that one of the words means does not compete with the words; all
    others do, so that a voxel of something the vocabulary does not name stays unlabelled.

    Args:
        likelihoods: The map's part of the calculation.
        word_cosine: Cosine of voxels and words. Shape (V, W), float32.
        affinity: How far each alternative is what each word means. Shape (W, K).
        config: ``cosine_floor`` and ``min_label_score`` are used.
        label_of_word: Label that each word stands for, shape (W,), int64: several words may be prompts of one. None: itself.

    Returns:
        Label of the best word or ``NO_LABEL``, shape (V,), uint16; and its share of the softmax, 0 where there
        is no label, shape (V,), float32.
    """
    free = 1.0 - affinity.max(axis=0) if len(affinity) else np.ones(affinity.shape[1])
    labels = np.full(len(word_cosine), NO_LABEL, np.uint16)
    scores = np.zeros(len(word_cosine), np.float32)
    _label(
        np.ascontiguousarray(word_cosine, np.float32),
        likelihoods.likelihood,
        likelihoods.reference,
        free.astype(np.float32),
        np.arange(word_cosine.shape[1]) if label_of_word is None else np.asarray(label_of_word, np.int64),
        np.float32(likelihoods.scale),
        np.float32(config.cosine_floor),
        np.float32(config.min_label_score),
        labels,
        scores,
    )
    return labels, scores
