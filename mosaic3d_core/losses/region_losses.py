"""Losses between whole regions and captions: the alternatives to the per-point one that Mosaic3D's training offers.

A region is the mean of its points before the head, pushed through the head: the head is linear, so nothing of text width is made
per point. Equal captions are one caption throughout: a region of a chair is no negative for the caption of another chair.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mosaic3d_core.losses.gathering import gather_rows


def pool_regions(features: Tensor, point: Tensor, mask: Tensor, masks: int) -> Tensor:
    """Mean feature of each mask's points.

    Args:
        features: Point features, (N, C).
        point: Point of each (mask, point) incidence, (I,) int64.
        mask: Mask of each incidence, (I,) int64 in [0, M).
        masks: Number of masks M.

    Returns:
        (M, C); 0 for a mask without points.
    """
    total = features.new_zeros(masks, features.shape[1]).index_add(0, mask, features[point])
    count = features.new_zeros(masks).index_add(0, mask, torch.ones_like(mask, dtype=features.dtype))
    return total / count.clamp_min(1)[:, None]


def region_vectors(features: Tensor, head_weight: Tensor, point: Tensor, mask: Tensor, masks: int) -> Tensor:
    """Unit vectors of the regions in text space, (M, D)."""
    return functional.normalize(pool_regions(features, point, mask, masks) @ head_weight.T, dim=1)


def merge_captions(text: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Equal captions as one.

    Args:
        text: Caption embeddings, rows may repeat, (U, D).
        target: Caption of each region, (M,).

    Returns:
        Distinct embeddings (V, D) and the row of each region in them (M,).
    """
    distinct, row = torch.unique(text, dim=0, return_inverse=True)
    return distinct, row[target]


def region_contrastive_loss(region: Tensor, text: Tensor, target: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric cross-entropy between regions and captions (CLIP, arXiv 2103.00020, section 2.3), over all processes.

    A region chooses among all captions; a caption spreads its choice evenly over its own regions.

    Args:
        region: Unit region vectors of this process, (M, D).
        text: Unit embeddings of its captions, (U, D).
        target: Caption of each region, (M,) int64.
        logit_scale: Scalar.

    Returns:
        Scalar, the same on every process; 0 with a gradient path where there is no region.
    """
    region, of_region = gather_rows(region), gather_rows(text[target])
    if not len(region):
        return region.sum() * logit_scale
    distinct, target = merge_captions(of_region, torch.arange(len(of_region), device=text.device))
    logits = logit_scale * region @ distinct.T
    to_text = functional.cross_entropy(logits, target)
    belongs = functional.one_hot(target, len(distinct)).T.to(logits.dtype)
    to_region = functional.cross_entropy(logits.T, belongs / belongs.sum(1, keepdim=True))
    return (to_text + to_region) / 2


def sigmoid_loss(region: Tensor, text: Tensor, target: Tensor, logit_scale: Tensor, bias: Tensor) -> Tensor:
    """Every pair of a region and a caption judged by itself (SigLIP, arXiv 2303.15343, section 3.2), over all processes.

    Args:
        region: Unit region vectors of this process, (M, D).
        text: Unit embeddings of its captions, (U, D).
        target: Caption of each region, (M,) int64.
        logit_scale: Scalar; the paper starts at 10.
        bias: Scalar; the paper starts at -10.

    Returns:
        Scalar, the same on every process: the sum over all pairs, divided by the number of regions.
    """
    region, of_region = gather_rows(region), gather_rows(text[target])
    if not len(region):
        return region.sum() * logit_scale * bias
    distinct, target = merge_captions(of_region, torch.arange(len(of_region), device=text.device))
    logits = logit_scale * region @ distinct.T + bias
    sign = 2.0 * functional.one_hot(target, len(distinct)).to(logits.dtype) - 1.0
    return -functional.logsigmoid(sign * logits).sum() / len(region)


def region_alignment_loss(region: Tensor, text: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 - cosine between regions (M, D) and their captions (U, D); no negatives."""
    if not len(region):
        return region.sum()
    return (1 - (region * text[target]).sum(1)).mean()


def point_alignment_loss(cosine: Tensor, point: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 - cosine over all (mask, point) incidences; arguments as ``caption_contrastive_loss`` takes them."""
    if not len(point):
        return cosine.sum() * 0.0
    return (1 - cosine[point, target[mask]]).mean()
