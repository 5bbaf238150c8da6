"""Classes of masks: of given ones by the class probabilities of their points, of proposals by what their source knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mosaic3d_core.models.scene_encoder import FeatureMap
    from mosaic3d_core.query.proposals import Proposal

ClassedBy = Literal["embedding", "feature"]
"""What names a proposal: its place in text space as the decoder sees it (published), or the mean feature of its voxels."""


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


def classify_proposals(
    proposals: Sequence[Proposal], feature_map: FeatureMap, texts: NDArray[np.float32], by: ClassedBy
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Best class of each proposal and its share of the softmax over all classes.

    Lengths in text space mean nothing, because training divides them out: probabilities come from cosines times the scale that
    the encoder has learnt.

    Args:
        proposals: The proposals.
        feature_map: The map that they were found on.
        texts: Unit embedding of each class. Shape (K, D).
        by: What names them, see `ClassedBy`.

    Returns:
        Class (P,) and its probability (P,).

    Raises:
        ValueError: If `by` is unknown, or "embedding" is asked of proposals that have none.
    """
    if by not in ("embedding", "feature"):
        raise ValueError(f'proposals are named by "embedding" or "feature", not by "{by}"')
    if not proposals:
        return np.zeros(0, np.int64), np.zeros(0)
    if by == "feature":
        pooled = np.stack([one.feature for one in proposals])
        cosine = feature_map.head.cosine(pooled, feature_map.head.norms(pooled), texts)
    else:
        embeddings = [one.embedding for one in proposals if one.embedding is not None]
        if len(embeddings) < len(proposals):
            raise ValueError('these proposals have no place in text space: name them by "feature"')
        cosine = np.stack(embeddings) @ texts.T
    probability = softmax(cosine * feature_map.logit_scale)
    best = probability.argmax(1)
    return best, probability[np.arange(len(best)), best].astype(np.float64)


def points_of_proposals(
    proposals: Sequence[Proposal], voxel_of_point: NDArray[np.integer], voxels: int, min_points: int = 1
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Masks over points of those proposals that have enough of them.

    Args:
        proposals: The proposals.
        voxel_of_point: Encoder voxel of each point. Shape (N,).
        voxels: Encoder voxels of the map.
        min_points: Proposals of fewer points are left out.

    Returns:
        Masks (P', N), and the rows of the proposals that they belong to, ascending (P',).
    """
    points = np.bincount(voxel_of_point, minlength=voxels)
    kept = [row for row, one in enumerate(proposals) if points[one.cells].sum() >= min_points]
    masks = np.zeros((len(kept), len(voxel_of_point)), bool)
    inside = np.zeros(voxels, bool)
    for mask, row in zip(masks, kept, strict=True):
        inside[proposals[row].cells] = True
        mask[:] = inside[voxel_of_point]
        inside[proposals[row].cells] = False
    return masks, np.array(kept, np.int64)
