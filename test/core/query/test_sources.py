"""Which source of proposals is used: the decoder where it fits, components where none does, an error where one was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scenes import WordEncoder

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.mask_decoder import MaskDecoder, MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.checkpoint import save_decoder
from mosaic3d_core.models.proposal_scorer import ProposalScorer, ScorerConfig
from mosaic3d_core.models.proposal_scorer.checkpoint import save_scorer
from mosaic3d_core.query import sources
from mosaic3d_core.query.combined_proposals import CombinedProposals
from mosaic3d_core.query.component_proposals import ComponentProposals
from mosaic3d_core.query.engine import QueryEngine
from mosaic3d_core.query.proposals import DecoderProposals

HEAD = FoldedHead(np.eye(24, 5, dtype=np.float32))


@pytest.fixture
def engine():
    return QueryEngine(WordEncoder({}))


@pytest.fixture
def decoder(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "decoder.safetensors"
    config = MaskDecoderConfig(text_width=24, hidden=16, feedforward=32, heads=4, queries=6, test_queries=7)
    save_decoder(path, MaskDecoder(config), HEAD, {"text_encoder": "none"})
    return path


@pytest.fixture(autouse=True)
def scorer(tmp_path, monkeypatch):
    """A scorer that belongs to the encoder, in place of the package's."""
    torch.manual_seed(0)
    path = tmp_path / "scorer.safetensors"
    save_scorer(path, ProposalScorer(ScorerConfig(features=5)), HEAD, {})
    monkeypatch.setattr(sources, "DEFAULT_SCORER", path)
    return path


def test_the_scorer_of_the_package_judges_both_sources_where_it_belongs_to_the_encoder(engine, decoder, scorer, tmp_path):
    source, name = sources.choose_proposals(str(decoder), HEAD, engine)
    assert isinstance(source, CombinedProposals)
    assert [type(one) for one in source.sources] == [DecoderProposals, ComponentProposals]
    assert source.judge is not None
    assert name.endswith("connected components, judged by scorer.safetensors")
    other = FoldedHead(HEAD.weight + 1)
    mine = tmp_path / "mine.safetensors"
    config = MaskDecoderConfig(text_width=24, hidden=16, feedforward=32, heads=4, queries=6, test_queries=7)
    save_decoder(mine, MaskDecoder(config), other, {})
    source, name = sources.choose_proposals(str(mine), other, engine)
    assert [type(one) for one in source.sources] == [DecoderProposals, ComponentProposals]
    assert source.judge is None
    assert "judged" not in name


def test_a_damaged_scorer_is_told(engine, decoder, scorer):
    scorer.write_bytes(scorer.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"proposal scorer .*scorer\.safetensors is not a whole safetensors file"):
        sources.choose_proposals(str(decoder), HEAD, engine)


def test_the_decoder_of_the_package_is_used_with_its_encoder(engine, decoder, scorer, monkeypatch):
    scorer.unlink()
    monkeypatch.setattr(sources, "DEFAULT_DECODER", decoder)
    source, name = sources.choose_proposals("", HEAD, engine)
    assert isinstance(source, CombinedProposals)
    assert name == "mask decoder decoder.safetensors and connected components"


def test_without_a_fitting_decoder_there_are_components_and_it_is_said_why(engine, decoder, monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "DEFAULT_DECODER", decoder)
    source, name = sources.choose_proposals("", FoldedHead(HEAD.weight + 1), engine)
    assert isinstance(source, ComponentProposals)
    assert "belongs to another encoder" in name
    monkeypatch.setattr(sources, "DEFAULT_DECODER", tmp_path / "none.safetensors")
    source, name = sources.choose_proposals("", HEAD, engine)
    assert isinstance(source, ComponentProposals)
    assert "no mask decoder is installed" in name


def test_a_decoder_looks_for_as_many_objects_as_it_is_told_to(engine, decoder):
    own = sources.choose_proposals(str(decoder), HEAD, engine)[0].sources[0]
    more = sources.choose_proposals(str(decoder), HEAD, engine, queries=12)[0].sources[0]
    rng = np.random.default_rng(0)
    features, places = (torch.from_numpy(rng.normal(size=(80, width)).astype(np.float32)) for width in (5, 3))
    for source, wanted in ((own, 7), (more, 12)):
        output = source.decoder(features, torch.from_numpy(HEAD.weight), None, places, queries=source.queries)
        assert len(output.final.mask_logits) == wanted


def test_components_can_be_asked_for(engine):
    assert isinstance(sources.choose_proposals("components", HEAD, engine)[0], ComponentProposals)


def test_a_decoder_that_was_asked_for_must_exist_and_fit(engine, decoder, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors does not exist"):
        sources.choose_proposals(str(tmp_path / "none.safetensors"), HEAD, engine)
    with pytest.raises(CheckpointError, match="trained with another encoder"):
        sources.choose_proposals(str(decoder), FoldedHead(HEAD.weight + 1), engine)
    with pytest.raises(CheckpointError, match=r"reads a text space of 24, but the encoder's has 30"):
        sources.choose_proposals(str(decoder), FoldedHead(np.eye(30, 5, dtype=np.float32)), engine)
