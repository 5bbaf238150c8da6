"""The loss of stage 1, chosen by name, with its learnt scale."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mosaic3d_core.data.caption_dataset import CaptionBatch
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.losses.caption_contrastive import caption_contrastive_loss, folded_cosine
from mosaic3d_core.losses.region_losses import (
    point_alignment_loss,
    region_alignment_loss,
    region_contrastive_loss,
    region_vectors,
    sigmoid_loss,
)

KINDS = ("caption", "region", "sigmoid", "region_alignment", "point_alignment")


class AlignmentLoss(nn.Module):
    """A loss between features and captions.

    Args:
        kind: One of ``KINDS``: every point among the captions of its process (the released one), whole regions among the captions
            of all processes (CLIP), every pair by itself (SigLIP), or plain alignment of regions or points.
        reduction: Of "caption": "weighted_sum" weighs points alike, "mean" regions.
        logit_scale: Start value of the scale.
        learn_scale: Whether it is learnt.
        max_scale: It is kept at or below this; None for no bound, as released.
        bias: Start value of SigLIP's bias.

    Raises:
        Mosaic3DError: If the kind is unknown.
    """

    def __init__(
        self,
        kind: str = "caption",
        reduction: str = "weighted_sum",
        logit_scale: float = 20.0,
        learn_scale: bool = True,
        max_scale: float | None = 100.0,
        bias: float = -10.0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise Mosaic3DError(f"loss {kind} is unknown: choose {', '.join(KINDS)}")
        self.kind, self.reduction, self.max_scale = kind, reduction, max_scale
        scaled = kind in ("caption", "region", "sigmoid")
        self.log_scale = nn.Parameter(torch.tensor(math.log(logit_scale)), requires_grad=learn_scale and scaled)
        self.bias = nn.Parameter(torch.tensor(float(bias)), requires_grad=kind == "sigmoid")

    @property
    def logit_scale(self) -> Tensor:
        """The scale, within its bound."""
        scale = self.log_scale.exp()
        return scale if self.max_scale is None else scale.clamp(max=self.max_scale)

    def forward(self, features: Tensor, head_weight: Tensor, text: Tensor, batch: CaptionBatch) -> Tensor:
        """The loss of a batch.

        Args:
            features: Voxel features before the head, (V, C).
            head_weight: Head matrix, (D, C).
            text: Unit embeddings of ``batch.texts``, (U, D).
            batch: The batch.
        """
        if self.kind in ("caption", "point_alignment"):
            used, row = torch.unique(batch.point, return_inverse=True)
            cosine = folded_cosine(features[used], head_weight, text)
            if self.kind == "caption":
                return caption_contrastive_loss(cosine, row, batch.mask, batch.target, self.logit_scale, self.reduction)  # type: ignore[arg-type]
            return point_alignment_loss(cosine, row, batch.mask, batch.target)
        region = region_vectors(features, head_weight, batch.point, batch.mask, len(batch.target))
        if self.kind == "region":
            return region_contrastive_loss(region, text, batch.target, self.logit_scale)
        if self.kind == "sigmoid":
            return sigmoid_loss(region, text, batch.target, self.logit_scale, self.bias)
        return region_alignment_loss(region, text, batch.target)


def build_loss(config: dict[str, Any]) -> AlignmentLoss:
    """The loss of a configuration group."""
    return AlignmentLoss(**config)
