"""Proposals: predicted masks become separate objects that know where they are and what they are like."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.mask_decoder import MaskDecoder, MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.decoder import Prediction
from mosaic3d_core.models.scene_encoder import FeatureMap
from mosaic3d_core.query.combined_proposals import CombinedProposals
from mosaic3d_core.query.proposals import DecoderProposals, Proposal, ProposalConfig, mean_positions, proposals_of

SURE, UNSURE = [9.0, -9.0], [-9.0, 9.0]


def feature_map(cells: np.ndarray, seed: int = 0) -> FeatureMap:
    """An encoded map with two map voxels in every encoder voxel."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(cells)), 2)
    points = ((cells[owner] + rng.random((len(owner), 3))) * 0.04).astype(np.float32)
    n = len(points)
    fine = np.floor(points / 0.02).astype(np.int32)
    color, normal = np.zeros((n, 3), np.float32), np.zeros((n, 3), np.float32)
    snapshot = MapSnapshot(1, 0, 0.02, fine, points, color, normal, np.ones(n, np.float32), np.zeros(n, np.int64))
    head = FoldedHead(rng.standard_normal((24, 5)).astype(np.float32))
    features = rng.standard_normal((len(cells), 5)).astype(np.float32)
    return FeatureMap(snapshot, features, head.norms(features), owner, cells.astype(np.int32), 0.04, head, "none", 20.0, 0.0)


def bar(start: int, length: int) -> np.ndarray:
    """A bar of 3x3 cells along x."""
    grid = np.stack(np.meshgrid(np.arange(start, start + length), np.arange(3), np.arange(3), indexing="ij"), -1)
    return grid.reshape(-1, 3)


@pytest.fixture
def bars() -> FeatureMap:
    """Two bars, a third of a metre apart."""
    return feature_map(np.concatenate([bar(0, 6), bar(14, 6)]))


def prediction(masks: np.ndarray, certain: list[list[float]]) -> Prediction:
    logits = np.where(masks, 8.0, -8.0).astype(np.float32)
    return Prediction(torch.tensor(certain), torch.from_numpy(logits), torch.randn(len(masks), 24))


def test_a_mask_over_two_things_falls_apart_into_both(bars):
    masks = np.ones((1, 108), bool)
    found = proposals_of(prediction(masks, [SURE]), bars, ProposalConfig())
    assert sorted(one.cells.tolist() for one in found) == [list(range(54)), list(range(54, 108))]
    (whole,) = proposals_of(prediction(masks, [SURE]), bars, ProposalConfig(max_gap_m=0.0))
    assert len(whole.cells) == 108
    near = ProposalConfig(max_gap_m=0.04)
    apart = feature_map(np.concatenate([bar(0, 6), bar(8, 6)]))
    assert len(proposals_of(prediction(masks, [SURE]), apart, near)) == 2
    assert len(proposals_of(prediction(masks, [SURE]), apart, ProposalConfig(max_gap_m=0.12))) == 1


def test_unsure_small_and_double_objects_are_left_out(bars):
    masks = np.zeros((5, 108), bool)
    masks[0, :54] = True
    masks[1, 2:54] = True  # nearly the same
    masks[2, 54:] = True  # unsure
    masks[3, 54:58] = True  # small
    found = proposals_of(prediction(masks, [SURE, [5.0, -1.0], UNSURE, SURE, SURE]), bars, ProposalConfig())
    assert [one.cells.tolist() for one in found] == [list(range(54))]
    both = proposals_of(prediction(masks, [SURE, [5.0, -1.0], UNSURE, SURE, SURE]), bars, ProposalConfig(max_overlap=1.0))
    assert [len(one.cells) for one in both] == [54, 52]
    assert both[0].quality > both[1].quality > 0.9


def test_an_object_keeps_its_mean_feature_and_its_place_in_text_space(bars):
    masks = np.zeros((1, 108), bool)
    masks[0, :54] = True
    (one,) = proposals_of(prediction(masks, [SURE]), bars, ProposalConfig())
    assert np.allclose(one.feature, bars.features[:54].mean(0), atol=1e-6)
    assert np.isclose(np.linalg.norm(one.embedding), 1)


def test_positions_are_the_means_of_the_map_voxels(bars):
    wanted = bars.snapshot.centroids.reshape(-1, 2, 3).mean(1)
    assert np.allclose(mean_positions(bars), wanted, atol=1e-5)


@pytest.mark.parametrize("cells", [0, 1, 60])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_decoder_proposes_for_empty_tiny_and_usual_maps(cells, dtype):
    torch.manual_seed(0)
    decoder = MaskDecoder(MaskDecoderConfig(text_width=24, hidden=16, feedforward=32, heads=4)).eval()
    found = DecoderProposals(decoder, ProposalConfig(min_quality=0.0, min_cells=1), dtype=dtype).propose(
        feature_map(bar(0, 7)[:cells])
    )
    assert all(np.isfinite(one.quality) and len(one.cells) for one in found)
    assert [one.quality for one in found] == sorted((one.quality for one in found), reverse=True)


@pytest.mark.parametrize("change", [{"min_quality": 2.0}, {"max_overlap": -1.0}, {"min_cells": 0}, {"max_gap_m": -1.0}])
def test_settings_without_sense_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ProposalConfig(**change)


class Says:
    """A source that always says the same."""

    def __init__(self, *found: Proposal) -> None:
        self.found = list(found)

    def propose(self, feature_map):
        return self.found


def said(low: int, high: int, quality: float) -> Proposal:
    return Proposal(np.arange(low, high), quality, np.zeros(3, np.float32))


def test_of_two_sources_the_surer_one_has_each_object_and_none_is_there_twice(bars):
    first = Says(said(0, 10, 0.9), said(20, 30, 0.5))
    second = Says(said(1, 10, 0.8), said(20, 29, 0.7), said(40, 45, 0.3))
    for sources in ([first, second], [second, first]):
        found = CombinedProposals(sources).propose(bars)
        assert [(one.cells[0], one.quality) for one in found] == [(0, 0.9), (20, 0.7), (40, 0.3)]


def test_a_piece_of_what_the_other_source_is_surer_of_is_left_out(bars):
    whole, piece, beside = said(0, 20, 0.9), said(0, 6, 0.8), said(15, 27, 0.7)  # 5 of 12 voxels inside
    for sources in ([Says(whole), Says(piece, beside)], [Says(piece, beside), Says(whole)]):
        assert CombinedProposals(sources).propose(bars) == [whole, beside]
    assert CombinedProposals([Says(whole, piece)], max_inside=1.0).propose(bars) == [whole, piece]


@pytest.mark.parametrize(("sources", "overlap"), [([], 0.5), ([Says()], -0.1)])
def test_combinations_without_sense_are_refused(sources, overlap):
    with pytest.raises(ValueError, match=r"source|must be in"):
        CombinedProposals(sources, max_overlap=overlap)
