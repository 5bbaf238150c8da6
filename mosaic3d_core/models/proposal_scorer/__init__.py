"""Scoring proposals: how much of one whole object a set of voxels is."""

from mosaic3d_core.models.proposal_scorer.config import ScorerConfig
from mosaic3d_core.models.proposal_scorer.scorer import ProposalScorer

__all__ = ["ProposalScorer", "ScorerConfig"]
