"""Proposals of two sources: the surer one has each object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mosaic3d_core.query.proposals import Proposal, ProposalSource, distinct

if TYPE_CHECKING:
    from mosaic3d_core.models.scene_encoder import FeatureMap
    from mosaic3d_core.query.proposal_judge import ProposalJudge


class CombinedProposals:
    """Proposals of several sources, weeded of what is there twice.

    A mask decoder draws tighter outlines, connected components see small things that no query started at.

    Args:
        sources: The sources, with qualities that are shares in [0, 1].
        judge: Makes these qualities comparable; None to take them as they are.
        max_overlap: Of two objects that overlap more (intersection over union) the less sure one is dropped.
        max_inside: And of two of which one lies in the other with more than this share of itself. Sources that cut one thing at
            different places would otherwise take turns, and its instance change its id.

    Raises:
        ValueError: If there is no source, or a share is out of its range.
    """

    def __init__(
        self,
        sources: Sequence[ProposalSource],
        judge: ProposalJudge | None = None,
        max_overlap: float = 0.5,
        max_inside: float = 0.8,
    ) -> None:
        if not sources:
            raise ValueError("combined proposals need at least one source")
        for name, value in (("max_overlap", max_overlap), ("max_inside", max_inside)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} of combined proposals must be in [0, 1], got {value}")
        self.sources, self.judge = tuple(sources), judge
        self.max_overlap, self.max_inside = max_overlap, max_inside

    def propose(self, feature_map: FeatureMap) -> list[Proposal]:
        """Objects of a map, best first."""
        found = [one for source in self.sources for one in source.propose(feature_map)]
        if self.judge is not None:
            found = self.judge.judged(found, feature_map)
        return distinct(sorted(found, key=lambda one: -one.quality), self.max_overlap, len(feature_map.cells), self.max_inside)
