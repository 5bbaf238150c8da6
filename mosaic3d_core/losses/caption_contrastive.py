"""The per-point caption contrastive loss of Mosaic3D's first training stage.

Every point is classified among the batch's unique captions; a caption's loss is the mean over its points, and captions are
averaged with weights. Log-softmax per point first, mean over points second (the order matters).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["weighted_sum", "mean"]


def folded_cosine(features: Tensor, head_weight: Tensor, text: Tensor, eps: float = 1e-6) -> Tensor:
    """Cosine between head(features) and texts without making text-sized point features.

    cos(W x, t) = x.(W^T t) / sqrt(x^T W^T W x), differentiable in features and head.

    Args:
        features: Point features before the head, (N, C).
        head_weight: Head matrix W, (D, C).
        text: Unit-norm text embeddings, (U, D).
        eps: Keeps the norm of a zero feature from dividing by zero.

    Returns:
        (N, U) cosines.
    """
    gram = head_weight.T @ head_weight
    # bounded before the root, whose slope at 0 is infinite: a dead feature would make every gradient NaN
    norm = ((features @ gram) * features).sum(1).clamp_min(eps**2).sqrt()
    return (features @ (head_weight.T @ text.T)) / norm[:, None]


def caption_contrastive_loss(
    cosine: Tensor, point: Tensor, mask: Tensor, target: Tensor, logit_scale: Tensor, reduction: Reduction = "weighted_sum"
) -> Tensor:
    """Cross-entropy of points against the batch's unique captions.

    Args:
        cosine: Cosine of every point with every unique caption, (N, U).
        point: Point index of each (mask, point) incidence, (I,) int64; points may be in several masks.
        mask: Mask index of each incidence, (I,) int64 in [0, M).
        target: Unique-caption index of each mask, (M,) int64.
        logit_scale: Scalar s that multiplies the cosines.
        reduction: "weighted_sum" weighs a mask by its number of points (the released configuration); "mean" weighs all
            masks alike.

    Returns:
        Scalar loss; 0 (with a gradient path) when there is no incidence.

    Raises:
        ValueError: For an unknown reduction.
    """
    if reduction not in ("weighted_sum", "mean"):
        raise ValueError(f"unknown reduction {reduction!r}: expected 'weighted_sum' or 'mean'")
    if len(point) == 0:
        return cosine.sum() * 0.0 * logit_scale
    log_probability = torch.log_softmax(logit_scale * cosine, dim=1)
    incidence = -log_probability[point, target[mask]]
    if reduction == "weighted_sum":
        return incidence.mean()
    count = torch.zeros(len(target), dtype=incidence.dtype, device=incidence.device).index_add_(
        0, mask, torch.ones_like(incidence)
    )
    total = torch.zeros_like(count).index_add_(0, mask, incidence)
    present = count > 0
    return (total[present] / count[present]).mean()
