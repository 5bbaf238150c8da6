"""Matching and mask losses against loops in double precision, and against every possible assignment."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from mosaic3d_core.losses.mask_losses import (
    MaskTargets,
    MaskWeights,
    dice_loss,
    mask_bce,
    mask_loss,
    match,
    matching_costs,
    object_contrast,
)
from mosaic3d_core.models.mask_decoder.decoder import Prediction

WEIGHTS = MaskWeights()


def case(seed: int, queries: int = 4, targets: int = 3, points: int = 9):
    g = torch.Generator().manual_seed(seed)
    prediction = Prediction(
        torch.randn(queries, 2, generator=g, dtype=torch.float64),
        2 * torch.randn(queries, points, generator=g, dtype=torch.float64),
        torch.randn(queries, 5, generator=g, dtype=torch.float64),
    )
    masks = torch.rand(targets, points, generator=g) < 0.4
    return prediction, MaskTargets(masks, normalize(torch.randn(targets, 5, generator=g, dtype=torch.float64), dim=1))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def bce_by_loop(logits, mask) -> float:
    return -sum(math.log(sigmoid(x) if m else 1 - sigmoid(x)) for x, m in zip(logits, mask, strict=True)) / len(mask)


def dice_by_loop(logits, mask) -> float:
    p = [sigmoid(x) for x in logits]
    return 1 - (2 * sum(a for a, m in zip(p, mask, strict=True) if m) + 1) / (sum(p) + sum(mask) + 1)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_mask_losses_are_their_definitions(seed):
    prediction, targets = case(seed, 3, 3)
    logits, masks = prediction.mask_logits, targets.masks
    for k in range(3):
        row, mask = logits[k].tolist(), masks[k].tolist()
        assert math.isclose(float(mask_bce(logits, masks)[k]), bce_by_loop(row, mask), rel_tol=1e-9)
        assert math.isclose(float(dice_loss(logits, masks)[k]), dice_by_loop(row, mask), rel_tol=1e-9)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), queries=st.integers(1, 5), targets=st.integers(0, 5))
def test_the_matching_is_the_cheapest_of_all_assignments(seed, queries, targets):
    prediction, truth = case(seed, queries, targets)
    costs = matching_costs(prediction, truth, WEIGHTS)
    certainty = prediction.object_logits.softmax(1)[:, 0]
    for q in range(queries):
        for t in range(targets):
            row, mask = prediction.mask_logits[q].tolist(), truth.masks[t].tolist()
            wanted = 5 * bce_by_loop(row, mask) + 2 * dice_by_loop(row, mask) - 2 * float(certainty[q])
            assert math.isclose(float(costs[q, t]), wanted, rel_tol=1e-9, abs_tol=1e-12)
    found = match(prediction, truth, WEIGHTS)
    few = min(queries, targets)
    assert len(found[0]) == len(set(found[0].tolist())) == len(set(found[1].tolist())) == few
    cheapest = min(
        (sum(float(costs[q, t]) for q, t in zip(qs, ts, strict=True))
         for qs in itertools.permutations(range(queries), few) for ts in itertools.combinations(range(targets), few)),
        default=0.0,
    )  # fmt: skip
    assert math.isclose(sum(float(costs[q, t]) for q, t in zip(*found, strict=True)), cheapest, rel_tol=1e-6, abs_tol=1e-6)


def test_the_loss_of_a_scene_adds_up_over_its_matched_objects():
    prediction, truth = case(3)
    queries, found = match(prediction, truth, WEIGHTS)
    losses = mask_loss(prediction, truth, WEIGHTS, torch.tensor(7.0, dtype=torch.float64))
    pairs = [(prediction.mask_logits[q].tolist(), truth.masks[t].tolist()) for q, t in zip(queries, found, strict=True)]
    assert math.isclose(float(losses["bce"]), 5 * sum(bce_by_loop(*pair) for pair in pairs) / 3, rel_tol=1e-9)
    assert math.isclose(float(losses["dice"]), 2 * sum(dice_by_loop(*pair) for pair in pairs) / 3, rel_tol=1e-9)
    certainty = 0.0
    for q, logits in enumerate(prediction.object_logits.tolist()):
        chosen = 0 if q in queries.tolist() else 1
        certainty -= logits[chosen] - math.log(sum(math.exp(v) for v in logits))
    assert math.isclose(float(losses["object"]), 2 * certainty / 4, rel_tol=1e-9)
    contrast = object_contrast(prediction.embeddings[queries], truth.embeddings[found], torch.tensor(7.0, dtype=torch.float64))
    assert torch.allclose(losses["caption"], contrast)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_losses_over_voxels_with_shares_and_counts_equal_those_over_points(seed):
    g = torch.Generator().manual_seed(seed)
    owner = torch.randint(0, 9, (60,), generator=g)
    points = torch.rand(3, 60, generator=g) < 0.4
    counts = torch.bincount(owner, minlength=9).double()
    inside = torch.stack([torch.bincount(owner[mask], minlength=9) for mask in points]).double()
    prediction, truth = case(seed)
    voxels = MaskTargets(inside / counts.clamp(min=1), truth.embeddings, counts)
    on_points = Prediction(prediction.object_logits, prediction.mask_logits[:, owner], prediction.embeddings)
    exact = MaskTargets(points, truth.embeddings)
    assert torch.allclose(matching_costs(prediction, voxels, WEIGHTS), matching_costs(on_points, exact, WEIGHTS), atol=1e-9)
    scale = torch.tensor(7.0, dtype=torch.float64)
    one, other = mask_loss(prediction, voxels, WEIGHTS, scale), mask_loss(on_points, exact, WEIGHTS, scale)
    assert all(torch.allclose(one[name], other[name], atol=1e-9) for name in other)


def test_objects_of_one_text_share_a_candidate():
    g = torch.Generator().manual_seed(0)
    objects = torch.randn(3, 5, generator=g, dtype=torch.float64)
    texts = normalize(torch.randn(3, 5, generator=g, dtype=torch.float64), dim=1)
    texts[2] = texts[0]
    total = 0.0
    for k in range(3):
        cosines = [float(normalize(objects[k], dim=0) @ texts[u]) for u in range(2)]
        own = cosines[0] if k != 1 else cosines[1]
        total += math.log(sum(math.exp(4 * c) for c in cosines)) - 4 * own
    assert math.isclose(float(object_contrast(objects, texts, torch.tensor(4.0))), total / 3, rel_tol=1e-9)


@pytest.mark.parametrize(("queries", "targets", "points"), [(4, 0, 9), (2, 5, 9), (1, 1, 1)])
def test_no_object_more_objects_than_queries_and_single_points_give_finite_losses(queries, targets, points):
    prediction, truth = case(1, queries, targets, points)
    prediction = Prediction(*(value.requires_grad_() for value in vars(prediction).values()))
    losses = mask_loss(prediction, truth, WEIGHTS, torch.tensor(5.0, dtype=torch.float64))
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert torch.isfinite(prediction.mask_logits.grad).all()


@pytest.mark.parametrize("full", [True, False])
def test_masks_of_everything_and_of_nothing_give_finite_losses(full):
    prediction, truth = case(2)
    masks = torch.full_like(truth.masks, full)
    huge = Prediction(prediction.object_logits, prediction.mask_logits * 1e4, prediction.embeddings)
    for one in (prediction, huge):
        assert all(torch.isfinite(v) for v in mask_loss(one, MaskTargets(masks), WEIGHTS).values())


def test_gradients_are_right():
    prediction, truth = case(5)
    values = [value.requires_grad_() for value in vars(prediction).values()]

    def total(*parts):
        return sum(mask_loss(Prediction(*parts), truth, WEIGHTS, torch.tensor(5.0, dtype=torch.float64)).values())

    assert torch.autograd.gradcheck(total, values, eps=1e-6, atol=1e-6)
