"""Classes of given masks: the class probabilities of a mask's points, averaged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Probabilities of the last axis."""
    shifted = np.asarray(logits, np.float32) - np.max(logits, axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(-1, keepdims=True)
    return shifted


def classify_masks(
    logits: NDArray[np.floating], voxel_of_point: NDArray[np.integer], masks: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Best class of each mask and its probability (Mosaic3D's evaluation with proposals from elsewhere).

    Softmax over all classes per point, mean over the points of the mask, then the largest.

    Args:
        logits: Score of each voxel and class. Shape (V, C).
        voxel_of_point: Voxel of each point. Shape (N,).
        masks: Shape (M, N).

    Returns:
        Class (M,) and its mean probability (M,); a mask without points gets class 0 with probability 0.
    """
    probabilities = softmax(logits)
    mean = np.zeros((len(masks), logits.shape[1]), np.float32)
    for number, mask in enumerate(masks):
        voxels, points = np.unique(voxel_of_point[mask], return_counts=True)
        if len(voxels):
            mean[number] = points.astype(np.float32) @ probabilities[voxels] / points.sum()
    labels = mean.argmax(1)
    return labels.astype(np.int64), mean[np.arange(len(masks)), labels]
