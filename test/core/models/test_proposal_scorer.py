"""The proposal scorer: it sees the same thing the same way wherever it stands, and its file belongs to one encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.proposal_scorer import ProposalScorer, ScorerConfig
from mosaic3d_core.models.proposal_scorer.checkpoint import load_scorer, save_scorer
from mosaic3d_core.models.proposal_scorer.scorer import batch_of
from mosaic3d_core.models.proposal_scorer.views import Surroundings, Voxels

EDGE_M = 0.04
SMALL = ScorerConfig(features=5, widths=(8, 12), hidden=(6,), inside=32, around=16)
HEAD = FoldedHead(np.eye(24, 5, dtype=np.float32))


def room(seed: int, voxels: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1.2, (voxels, 3)).astype(np.float32)


def some(seed: int, voxels: int, count: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).choice(voxels, count, replace=False))


@pytest.fixture
def scorer():
    torch.manual_seed(0)
    return ProposalScorer(SMALL).eval()


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 60), st.floats(0.01, 0.5))
def test_what_is_around_is_what_a_search_over_all_voxels_finds(seed, count, margin):
    positions = room(seed, 200)
    cells = some(seed, 200, count)
    low, high = positions[cells].min(0) - np.float32(margin), positions[cells].max(0) + np.float32(margin)
    wanted = np.setdiff1d(np.flatnonzero(((positions >= low) & (positions <= high)).all(1)), cells)
    surroundings = Surroundings(positions, EDGE_M)
    for _ in range(2):  # the first search leaves nothing behind
        assert np.array_equal(np.sort(surroundings.around(cells, margin)), wanted)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 3), st.floats(-5, 5))
def test_a_thing_moved_and_turned_by_a_right_angle_looks_the_same(seed, quarters, shift):
    positions, cells = room(seed), some(seed, 400, 20)
    angle = quarters * np.pi / 2
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = (positions @ turn.T + [shift, -shift, shift]).astype(np.float32)
    everything = ScorerConfig(
        features=5, inside=400, around=400
    )  # nothing is chosen: a box is enlarged along the axes of the map
    one, other = (Surroundings(p, EDGE_M).view(cells, everything) for p in (positions, moved))
    columns = 6  # are counted from a corner, which is another one when turned
    assert np.allclose(np.delete(one.summary, columns), np.delete(other.summary, columns), atol=1e-3)
    assert one.summary[columns] == pytest.approx(other.summary[columns], abs=0.01)
    # which way along a side is not told apart: only distances from the middle are; rows of voxels around come in another order
    inside = one.inside == 1
    assert np.allclose(np.abs(one.places[inside, :3]), np.abs(other.places[inside, :3]), atol=1e-3)
    assert np.allclose(one.places[inside, 3], other.places[inside, 3], atol=1e-3)
    assert set(one.rows[one.inside == 0]) == set(other.rows[other.inside == 0])


def test_a_view_says_how_large_and_how_full_a_thing_is():
    edge = np.arange(10) * EDGE_M
    block = np.stack(np.meshgrid(edge, edge[:5], edge[:3], indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    floor = np.array([[x, y, -0.4] for x in edge for y in edge], np.float32)
    view = Surroundings(np.concatenate([block, floor]), EDGE_M).view(np.arange(150), ScorerConfig())
    inside, around, length, width, height, above_floor, covered, filled = view.summary
    assert inside * 8 == pytest.approx(np.log(150))
    assert around == 0
    assert (length, width, height) == pytest.approx((0.36, 0.16, 0.08), abs=1e-5)
    assert above_floor == pytest.approx(0.4, abs=1e-5)
    assert (covered, filled) == pytest.approx((1, 1), abs=1e-3)


def test_no_more_voxels_are_looked_at_than_asked_for_and_evenly_chosen():
    positions = room(1)
    view = Surroundings(positions, EDGE_M).view(np.arange(0, 400, 2), SMALL)
    assert len(view.rows) == 48
    assert (view.inside == 1).sum() == 32
    assert (view.inside == 0).sum() == 16
    chosen = view.rows[view.inside == 1]
    assert len(set(chosen)) == 32
    assert np.diff(chosen).max() <= 14  # 200 voxels, two rows apart, of which every sixth or seventh
    one = Surroundings(positions, EDGE_M).view(np.array([7]), SMALL)
    assert one.rows[one.inside == 1].tolist() == [7]
    assert np.isfinite(one.summary).all()


def test_scores_are_shares_and_do_not_depend_on_the_company(scorer):
    features = np.random.default_rng(0).standard_normal((400, 5)).astype(np.float32)
    surroundings = Surroundings(room(2), EDGE_M)
    proposals = [some(k, 400, 5 + k) for k in range(70)]  # more than one batch
    together = scorer.scores(features, surroundings, proposals)
    assert together.shape == (70,)
    assert ((together > 0) & (together < 1)).all()
    alone = [scorer.scores(features, surroundings, [one])[0] for one in proposals]
    assert np.allclose(together, alone, atol=1e-5)  # float32 sums in batches of another size
    assert scorer.scores(features, surroundings, []).shape == (0,)


def test_what_is_nothing_in_a_view_does_not_count(scorer):
    surroundings, cells = Surroundings(room(3), EDGE_M), some(3, 400, 9)
    features = np.random.default_rng(0).standard_normal((400, 5)).astype(np.float32)
    batch = batch_of([surroundings.view(cells, SMALL)], features)
    with torch.inference_mode():
        before = scorer(batch)
        batch.features[batch.inside == -1] = 1e3
        batch.places[batch.inside == -1] = -1e3
        assert torch.equal(scorer(batch), before)


def test_the_order_of_a_things_voxels_does_not_matter(scorer):
    surroundings = Surroundings(room(4), EDGE_M)
    features = np.random.default_rng(0).standard_normal((400, 5)).astype(np.float32)
    cells = some(4, 400, 20)
    own = Voxels.of(cells, surroundings.positions)
    mixed = np.random.default_rng(1).permutation(20)
    around = Voxels.of(surroundings.around(cells, 0.1), surroundings.positions)
    views = [surroundings.view_of(one, around, SMALL) for one in (own, Voxels(own.rows[mixed], own.positions[mixed]))]
    with torch.inference_mode():
        one, other = scorer(batch_of(views, features))
    assert float(one) == pytest.approx(float(other), abs=1e-5)


def test_features_of_another_width_are_named(scorer):
    with pytest.raises(ValueError, match="features of width 5, got 7"):
        scorer.scores(np.zeros((400, 7), np.float32), Surroundings(room(0), EDGE_M), [np.arange(3)])


@pytest.mark.parametrize("field", ["features", "inside", "around", "margin_m"])
def test_sizes_that_cannot_be_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} of the proposal scorer must be positive"):
        ScorerConfig(**{field: 0})
    with pytest.raises(ValueError, match="widths of the proposal scorer must be positive"):
        ScorerConfig(widths=())
    with pytest.raises(ValueError, match="unknown proposal scorer settings"):
        ScorerConfig.from_dict({"depth": 3})


def test_a_scorer_comes_back_from_its_file_and_knows_its_encoder(scorer, tmp_path):
    path = tmp_path / "deep" / "scorer.safetensors"
    scorer.normalise(torch.randn(100, 5) * 3 + 1)
    save_scorer(path, scorer, HEAD, {"recipe": {"seed": 1}})
    loaded = load_scorer(path)
    assert loaded.model.config == SMALL
    assert loaded.metadata["recipe"] == {"seed": 1}
    for name, value in scorer.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[name]), name
    assert loaded.belongs_to(HEAD)
    assert not loaded.belongs_to(FoldedHead(HEAD.weight + 1))


def test_a_file_that_is_no_scorer_is_named(scorer, tmp_path):
    path = tmp_path / "scorer.safetensors"
    with pytest.raises(CheckpointError, match=r"proposal scorer .*scorer\.safetensors does not exist"):
        load_scorer(path)
    save_scorer(path, scorer, HEAD, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_scorer(path)
    from mosaic3d_core.query.sources import DEFAULT_DECODER

    with pytest.raises(CheckpointError, match=r"is no proposal scorer of this version \(mosaic3d-mask-decoder\)"):
        load_scorer(DEFAULT_DECODER)
