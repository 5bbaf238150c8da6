"""Judged proposals: one measure for all sources, and two things that touch come apart where the parts look like whole ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_proposals import bar, feature_map

from mosaic3d_core.data.synthetic.record import fuse_sequence, true_labels
from mosaic3d_core.data.synthetic.staged import stage
from mosaic3d_core.metrics.object_scores import are_separated
from mosaic3d_core.models.scene_encoder import SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import QueryEngine
from mosaic3d_core.query.combined_proposals import CombinedProposals
from mosaic3d_core.query.proposal_judge import JudgeConfig, ProposalJudge, cuts_of, surroundings_of
from mosaic3d_core.query.proposals import Proposal
from mosaic3d_core.query.sources import choose_proposals


class Ruler:
    """Takes for whole what is 0.24 m long: a scorer of which everybody knows what it says."""

    def scores(self, features, surroundings, proposals):
        lengths = [np.ptp(surroundings.positions[cells], axis=0).max() for cells in proposals]
        return np.array([max(0.0, 1 - 2 * abs(length - 0.2)) for length in lengths])


def proposal(fm, first, last, quality=0.8):
    cells = np.arange(first, last)
    return Proposal(cells, quality, fm.features[cells].mean(0))


@pytest.fixture
def pair():
    """Two things of 6 x 3 x 3 voxels that touch, as one proposal."""
    return feature_map(bar(0, 12))


def test_two_things_that_touch_come_apart_in_the_middle(pair):
    found = ProposalJudge(Ruler()).judged([proposal(pair, 0, 108)], pair)
    assert sorted(one.cells.tolist() for one in found) == [list(range(54)), list(range(54, 108))]
    for one in found:
        assert np.allclose(one.feature, pair.features[one.cells].mean(0))
        assert 0.6 < one.quality <= 0.8  # what the source said, times an overlap near 1


def test_a_thing_that_looks_whole_stays_whole(pair):
    whole = proposal(pair, 0, 54)
    (found,) = ProposalJudge(Ruler()).judged([whole], pair)
    assert np.array_equal(found.cells, whole.cells)
    assert np.array_equal(found.feature, whole.feature)


def test_parts_have_to_be_better_by_a_margin(pair):
    says = [proposal(pair, 0, 108)]
    assert len(ProposalJudge(Ruler(), JudgeConfig(min_gain=1.0)).judged(says, pair)) == 1
    assert len(ProposalJudge(Ruler(), JudgeConfig(max_cut_m=0.1)).judged(says, pair)) == 1
    assert len(ProposalJudge(Ruler(), JudgeConfig(min_part_cells=55)).judged(says, pair)) == 1


def test_qualities_of_all_sources_mean_the_same_afterwards(pair):
    boastful, modest = proposal(pair, 0, 18, quality=1.0), proposal(pair, 0, 54, quality=0.95)
    found = ProposalJudge(Ruler(), JudgeConfig(min_gain=1.0)).judged([boastful, modest], pair)
    assert [len(one.cells) for one in found] == [54, 18]
    assert found[0].quality > found[1].quality


def test_what_the_scorer_takes_for_nothing_keeps_the_order_of_its_source(pair):
    class Nothing:
        def scores(self, features, surroundings, proposals):
            return np.zeros(len(proposals))

    walls = [proposal(pair, 0, 108, quality=0.9), proposal(pair, 0, 54, quality=0.5)]
    found = ProposalJudge(Nothing()).judged(walls, pair)
    assert [len(one.cells) for one in found] == [108, 54]
    assert [one.quality for one in found] == pytest.approx([0.18, 0.1])
    found = ProposalJudge(Nothing(), JudgeConfig(own_share=1.0)).judged(walls, pair)
    assert [one.quality for one in found] == pytest.approx([0.9, 0.5])


def test_where_nothing_was_found_nothing_is_judged(pair):
    assert ProposalJudge(Ruler()).judged([], pair) == []
    empty = feature_map(np.zeros((0, 3), np.int32))
    assert ProposalJudge(Ruler()).judged([], empty) == []
    assert len(surroundings_of(empty).positions) == 0


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 200), st.integers(1, 20))
def test_a_cut_loses_nothing_and_doubles_nothing(seed, count, least):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 1.5, (400, 3)).astype(np.float32)
    cells = np.sort(rng.choice(400, count, replace=False))
    config = JudgeConfig(min_part_cells=least)
    found = cuts_of(cells, positions, config)
    assert [len(parts) for parts in found] in ([], [2], [3], [2, 3])
    for parts in found:
        assert np.array_equal(np.sort(np.concatenate(parts)), cells)
        assert min(map(len, parts)) >= least
        assert all((np.diff(part) > 0).all() for part in parts)
    again = cuts_of(cells, positions, config)
    assert all(np.array_equal(a, b) for x, y in zip(found, again, strict=True) for a, b in zip(x, y, strict=True))


def test_what_stands_in_one_place_is_not_cut():
    column = np.zeros((60, 3), np.float32)
    column[:, 2] = np.arange(60) * 0.04
    assert cuts_of(np.arange(60), column, JudgeConfig()) == []


def test_up_of_the_map_is_up_for_the_scorer(pair):
    tilted = dataclasses.replace(pair, snapshot=dataclasses.replace(pair.snapshot, up=np.array([1.0, 0.0, 0.0])))
    assert np.ptp(surroundings_of(tilted).positions[:, 2]) == pytest.approx(
        np.ptp(surroundings_of(pair).positions[:, 0]), abs=1e-5
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("own_share", -0.1),
        ("own_share", 1.1),
        ("min_gain", -0.1),
        ("min_gain", 1.1),
        ("min_whole", 1.1),
        ("min_part_cells", 0),
        ("max_cut_m", -1.0),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        JudgeConfig(**{name: value})


def test_what_ships_tells_two_chairs_that_touch_from_one():
    """Validation rooms; docs/results.md has the figures of many more."""
    encoder = SceneEncoder.from_checkpoint()
    source, _ = choose_proposals("", encoder.head, QueryEngine(get_text_encoder(encoder.text_encoder_name)))
    assert isinstance(source, CombinedProposals)
    assert source.judge is not None
    plain = CombinedProposals(source.sources)
    apart = {"judged": 0, "plain": 0}
    for seed in range(103, 106):
        pair = stage("chairs", seed, "val", frames=40, width=320, height=240)
        encoded = encoder.encode(fuse_sequence(pair.sequence))
        _, instance = true_labels(pair.sequence, encoded.snapshot.centroids)
        for name, one in (("judged", source), ("plain", plain)):
            apart[name] += are_separated(one.propose(encoded), encoded, instance, pair.first, pair.second)
    assert apart["judged"] >= 2
    assert apart["plain"] < apart["judged"]
