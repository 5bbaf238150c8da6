"""Which source of proposals a system uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mosaic3d_core.query.combined_proposals import CombinedProposals
from mosaic3d_core.query.component_proposals import ComponentProposals
from mosaic3d_core.query.instance_map import InstanceMap
from mosaic3d_core.query.proposal_judge import ProposalJudge
from mosaic3d_core.query.proposals import DecoderProposals, ProposalConfig, ProposalSource

if TYPE_CHECKING:
    from mosaic3d_core.models.folded_head import FoldedHead
    from mosaic3d_core.models.scene_encoder import FeatureMap
    from mosaic3d_core.query.engine import QueryEngine
    from mosaic3d_core.query.instance_map import MapInstance
    from mosaic3d_core.query.instance_view import InstanceView

DEFAULT_DECODER = Path(__file__).resolve().parent.parent / "assets" / "mosaic3d_narrow_decoder.safetensors"
"""The mask decoder that comes with the package, for the encoder that comes with it."""

DEFAULT_SCORER = DEFAULT_DECODER.with_name("mosaic3d_narrow_scorer.safetensors")
"""The scorer of proposals that comes with the package, for the encoder that comes with it."""

COMPONENTS = "components"


def choose_proposals(
    decoder: str,
    head: FoldedHead,
    engine: QueryEngine,
    config: ProposalConfig | None = None,
    device: torch.device | str = "cpu",
    queries: int | None = None,
) -> tuple[ProposalSource, str]:
    """The source of proposals by name.

    Args:
        decoder: File of a mask decoder, whose objects stand beside connected voxels of the same concept, the surer one of two
            counts; "components" for the latter alone; "" for the decoder that comes with the package where it belongs to the
            encoder, else for components. Beside a decoder the scorer that comes with the package judges both, where it belongs
            to the encoder.
        head: Head of the encoder.
        engine: The query engine, of which components use the concepts.
        config: What becomes of a decoder's masks.
        device: Where a decoder runs.
        queries: Objects that a decoder looks for in a map; None for its own number.

    Returns:
        The source, and what it is, for people.

    Raises:
        CheckpointError: If a decoder that was asked for cannot be read or belongs to another encoder.
    """
    from mosaic3d_core.models.mask_decoder.checkpoint import load_decoder
    from mosaic3d_core.models.precision import choose_device, choose_dtype

    if decoder == COMPONENTS:
        return ComponentProposals(engine), "connected components"
    file = Path(decoder) if decoder else DEFAULT_DECODER
    if not decoder and not file.is_file():
        return ComponentProposals(engine), "connected components (no mask decoder is installed)"
    loaded = load_decoder(file)
    if not decoder and loaded.metadata.get("encoder") != head.fingerprint():
        return ComponentProposals(engine), "connected components (the mask decoder of the package belongs to another encoder)"
    loaded.check_encoder(head, file.name)
    where = choose_device(device)
    dtype = choose_dtype(where, None)
    found: list[ProposalSource] = [
        DecoderProposals(loaded.model.to(where), config, queries, dtype),
        ComponentProposals(engine),
    ]
    name = f"mask decoder {file.name} and connected components"
    judge = _judge(head)
    return CombinedProposals(found, judge), name if judge is None else f"{name}, judged by {DEFAULT_SCORER.name}"


def _judge(head: FoldedHead) -> ProposalJudge | None:
    from mosaic3d_core.models.proposal_scorer.checkpoint import load_scorer

    if not DEFAULT_SCORER.is_file():
        return None
    loaded = load_scorer(DEFAULT_SCORER)
    return ProposalJudge(loaded.model) if loaded.belongs_to(head) else None


def instances_of(
    feature_map: FeatureMap, engine: QueryEngine, decoder: str = "", device: torch.device | str = "cpu"
) -> InstanceView:
    """Instances of one encoded map, for :meth:`QueryEngine.query` and :meth:`QueryEngine.label`.

    Args:
        feature_map: The encoded map.
        engine: The query engine.
        decoder: See :func:`choose_proposals`.
        device: Where a decoder runs.

    Raises:
        CheckpointError: If a decoder that was asked for cannot be read or belongs to another encoder.
    """
    source, _ = choose_proposals(decoder, feature_map.head, engine, device=device)
    found = InstanceMap(ids=engine.tracker.ids).update(feature_map, source.propose(feature_map))
    return engine.view(feature_map, found)


def instances_kept(feature_map: FeatureMap, engine: QueryEngine, kept: Sequence[MapInstance]) -> InstanceView:
    """Instances that a map file keeps, under their ids, for :meth:`QueryEngine.query` and :meth:`QueryEngine.label`.

    Args:
        feature_map: The encoded map of the file.
        engine: The query engine.
        kept: From ``unpack_instances``.
    """
    known = InstanceMap(ids=engine.tracker.ids)
    known.restore(feature_map, kept)
    return engine.view(feature_map, known.instances)
