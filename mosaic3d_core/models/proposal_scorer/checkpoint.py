"""Reading and writing proposal scorers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.proposal_scorer.config import ScorerConfig
from mosaic3d_core.models.proposal_scorer.scorer import ProposalScorer
from mosaic3d_core.models.tensor_files import read_net, write_net

_WHAT, _VERSION = "proposal scorer", "1"


def save_scorer(path: str | os.PathLike[str], model: ProposalScorer, head: FoldedHead, metadata: Mapping[str, Any]) -> None:
    """Write a scorer and its metadata as one file, whole or not at all.

    Args:
        path: File to write; an existing one is replaced at the end.
        model: The scorer.
        head: Head of the encoder that it was trained with.
        metadata: Plain values.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    write_net(path, _WHAT, _VERSION, model, model.config.to_dict(), {**metadata, "encoder": head.fingerprint()})


@dataclass(frozen=True)
class LoadedScorer:
    """A proposal scorer with what belongs to it.

    Attributes:
        model: The scorer on the CPU in evaluation mode, float32.
        metadata: "encoder" (fingerprint of the encoder's head), and what else was saved.
    """

    model: ProposalScorer
    metadata: dict[str, Any]

    def belongs_to(self, head: FoldedHead) -> bool:
        """Whether it was trained with the encoder of a head."""
        return self.metadata.get("encoder") == head.fingerprint() and head.weight.shape[1] == self.model.config.features


def load_scorer(path: str | os.PathLike[str]) -> LoadedScorer:
    """Read a scorer.

    Raises:
        CheckpointError: If the file is missing, damaged or something else.
    """
    return LoadedScorer(*read_net(path, _WHAT, _VERSION, lambda values: ProposalScorer(ScorerConfig.from_dict(values))))
