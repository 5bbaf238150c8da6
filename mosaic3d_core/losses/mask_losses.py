"""Matching of predicted and true masks, and the losses between matched ones (Mask3D, arXiv 2210.03105, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mosaic3d_core.models.mask_decoder.decoder import Prediction

OBJECT, NOTHING = 0, 1


@dataclass(frozen=True)
class MaskTargets:
    """True objects of a scene.

    The published losses count points, while masks are predicted on voxels. With the share of each voxel's points that lie in a
    mask, and with their number, losses over voxels equal those over points.

    Attributes:
        masks: In the mask, or the share of the voxel that is. Shape (T, P), bool or in [0, 1].
        embeddings: Unit text embedding of each object (T, D), zeros for one without a text; None where captions do not count.
        counts: Points of each voxel (P,); None for one each.
    """

    masks: Tensor
    embeddings: Tensor | None = None
    counts: Tensor | None = None


@dataclass(frozen=True)
class MaskWeights:
    """Weights of the parts, in the matching and in the loss; the published ones.

    Attributes:
        object_: Object against nothing.
        bce: Binary cross-entropy of the mask.
        dice: Dice loss of the mask.
        caption: Contrastive loss between objects and captions (loss only).
    """

    object_: float = 2.0
    bce: float = 5.0
    dice: float = 2.0
    caption: float = 1.0


def dice_loss(logits: Tensor, targets: Tensor, counts: Tensor | None = None) -> Tensor:
    """``1 - (2 |p t| + 1) / (|p| + |t| + 1)`` of each mask: logits and targets (N, P), counts (P,) -> (N,)."""
    probability = logits.sigmoid()
    targets, counts = targets.to(probability.dtype), _ones(counts, logits)
    both = (probability * targets) @ counts
    return 1 - (2 * both + 1) / (probability @ counts + targets @ counts + 1)


def mask_bce(logits: Tensor, targets: Tensor, counts: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of each mask: logits and targets (N, P), counts (P,) -> (N,)."""
    counts = _ones(counts, logits)
    each = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return each @ counts / counts.sum().clamp(min=1)


def _ones(counts: Tensor | None, like: Tensor) -> Tensor:
    return like.new_ones(like.shape[1]) if counts is None else counts.to(like.dtype)


@torch.no_grad()
def matching_costs(prediction: Prediction, targets: MaskTargets, weights: MaskWeights) -> Tensor:
    """Cost of giving each query each target. Shape (Q, T)."""
    logits = prediction.mask_logits
    counts = _ones(targets.counts, logits)
    true = targets.masks.to(logits.dtype) * counts
    # softplus(-x) t + softplus(x) (1 - t) = softplus(x) - x t, summed over points
    bce = ((F.softplus(logits) @ counts)[:, None] - logits @ true.T) / counts.sum().clamp(min=1)
    probability = logits.sigmoid()
    both = probability @ true.T
    dice = 1 - (2 * both + 1) / ((probability @ counts)[:, None] + true.sum(1)[None] + 1)
    certainty = prediction.object_logits.softmax(1)[:, OBJECT]
    return weights.bce * bce + weights.dice * dice - weights.object_ * certainty[:, None]


def match(prediction: Prediction, targets: MaskTargets, weights: MaskWeights) -> tuple[Tensor, Tensor]:
    """The cheapest one-to-one assignment (Hungarian algorithm): queries and targets (min(Q, T),) each."""
    costs = torch.nan_to_num(matching_costs(prediction, targets, weights).float(), nan=1e6, posinf=1e6, neginf=-1e6)
    queries, found = linear_sum_assignment(costs.cpu().numpy())
    device = prediction.mask_logits.device
    return torch.from_numpy(queries.astype(np.int64)).to(device), torch.from_numpy(found.astype(np.int64)).to(device)


def mask_loss(
    prediction: Prediction, targets: MaskTargets, weights: MaskWeights, logit_scale: Tensor | None = None
) -> dict[str, Tensor]:
    """The losses of one scene after matching, already weighted.

    Args:
        prediction: The queries.
        targets: The truth; may hold no object.
        weights: Weights.
        logit_scale: Scale of the contrastive loss; None leaves that loss out.

    Returns:
        "object", "bce", "dice" and, with captions, "caption"; scalars.
    """
    queries, found = match(prediction, targets, weights)
    wanted = torch.full((len(prediction.object_logits),), NOTHING, device=prediction.object_logits.device)
    wanted[queries] = OBJECT
    nothing = prediction.mask_logits.sum() * 0  # keeps the graph where there is no object
    logits, true = prediction.mask_logits[queries], targets.masks[found]
    count = max(len(queries), 1)
    losses = {
        "object": weights.object_ * F.cross_entropy(prediction.object_logits, wanted),
        "bce": weights.bce * (mask_bce(logits, true, targets.counts).sum() / count + nothing),
        "dice": weights.dice * (dice_loss(logits, true, targets.counts).sum() / count + nothing),
    }
    if logit_scale is not None and targets.embeddings is not None:
        losses["caption"] = weights.caption * (
            object_contrast(prediction.embeddings[queries], targets.embeddings[found], logit_scale) + nothing
        )
    return losses


def object_contrast(objects: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """Cross-entropy of each object among the distinct texts of its scene.

    Args:
        objects: (N, D), not normalised.
        texts: Unit embedding of each object's text (N, D); equal ones count as one candidate. Objects with zeros do not count.
        logit_scale: Factor on the cosines.

    Returns:
        Scalar; 0 without objects.
    """
    described = texts.abs().sum(1) > 0
    objects, texts = objects[described], texts[described]
    if not len(objects):
        return objects.sum()
    candidates, target = torch.unique(texts, dim=0, return_inverse=True)
    logits = logit_scale * F.normalize(objects, dim=1) @ candidates.T.to(objects.dtype)
    return F.cross_entropy(logits, target)
