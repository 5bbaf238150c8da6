"""The net that scores proposals: a PointNet over the voxels of a proposal and those around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mosaic3d_core.models.proposal_scorer.config import ScorerConfig
from mosaic3d_core.models.proposal_scorer.views import SUMMARY, Surroundings, View

_BATCH = 64


@dataclass(frozen=True)
class ViewBatch:
    """Several views, as the net takes them.

    Attributes:
        features: Features of the voxels. Shape (B, N, C).
        places: Where they are, see `View`. Shape (B, N, 4).
        inside: 1 in the proposal, 0 around it, -1 nothing. Shape (B, N).
        summary: What else there is to a proposal, see `View`. Shape (B, 8).
    """

    features: Tensor
    places: Tensor
    inside: Tensor
    summary: Tensor


class ProposalScorer(nn.Module):
    """How well a set of voxels fits one whole object: its predicted intersection over union with the best one.

    Mask Scoring R-CNN (arXiv 1903.00241, section 3) scores masks by predicted overlaps; each voxel passes the same layers and
    is pooled as in PointNet (arXiv 1612.00593). Where one of two equal things ends is not in an encoder's features, but two
    chairs are wider than one: the scorer sees the extents.

    Args:
        config: Sizes.
    """

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_scale", torch.ones(config.features))
        self.voxels = _layers(config.features + 5, config.widths)
        self.proposal = _layers(3 * config.widths[-1] + SUMMARY, config.hidden)
        self.score = nn.Linear(config.hidden[-1], 1)

    def normalise(self, features: Tensor) -> None:
        """Take over mean and spread of an encoder's features (V, C)."""
        self.feature_mean.copy_(features.mean(0))
        self.feature_scale.copy_(features.std(0).clamp(min=1e-6))

    def forward(self, batch: ViewBatch) -> Tensor:
        """Logits of the predicted overlaps. Shape (B,)."""
        features = (batch.features - self.feature_mean) / self.feature_scale
        own, other = (batch.inside == 1)[..., None], (batch.inside == 0)[..., None]
        # voxel layers end in ReLU, so what is blanked out by zeros never is the largest
        each = self.voxels(torch.cat([features, batch.places, own.to(features.dtype)], -1))
        mean = (each * own).sum(1) / own.sum(1).clamp(min=1)
        pooled = [(each * own).amax(1), (each * other).amax(1), mean, batch.summary]
        return self.score(self.proposal(torch.cat(pooled, -1)))[:, 0]

    def scores(
        self, features: NDArray[np.float32], surroundings: Surroundings, proposals: list[NDArray[np.int64]]
    ) -> NDArray[np.float64]:
        """Predicted overlaps of the proposals of a map.

        Args:
            features: Voxel features before the encoder's head. Shape (V, C).
            surroundings: The map.
            proposals: Rows of the voxels of each, ascending, at least one each.

        Returns:
            Intersection over union with the best object, in [0, 1]. Shape (P,).

        Raises:
            ValueError: If the features have another width than the scorer was made for.
        """
        if features.shape[1] != self.config.features:
            raise ValueError(
                f"the proposal scorer reads features of width {self.config.features}, got {features.shape[1]}: "
                "use the scorer that was trained with this encoder"
            )
        found = [np.zeros(0)]
        with torch.inference_mode():
            for first in range(0, len(proposals), _BATCH):
                views = [surroundings.view(cells, self.config) for cells in proposals[first : first + _BATCH]]
                found.append(self(batch_of(views, features)).double().sigmoid().cpu().numpy())
        return np.concatenate(found)


def batch_of(views: list[View], features: NDArray[np.floating]) -> ViewBatch:
    """Views of one map with the features of their voxels; features (V, C)."""
    rows = np.stack([one.rows for one in views])
    return ViewBatch(
        torch.from_numpy(features[rows].astype(np.float32, copy=False)),
        torch.from_numpy(np.stack([one.places for one in views])),
        torch.from_numpy(np.stack([one.inside for one in views])),
        torch.from_numpy(np.stack([one.summary for one in views])),
    )


def _layers(width: int, widths: tuple[int, ...]) -> nn.Sequential:
    found: list[nn.Module] = []
    for one in widths:
        found += [nn.Linear(width, one), nn.ReLU()]
        width = one
    return nn.Sequential(*found)
