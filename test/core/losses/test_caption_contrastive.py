"""The caption contrastive loss against loops, known values and double-precision gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.losses.caption_contrastive import caption_contrastive_loss, folded_cosine


def by_loops(cosine, point, mask, target, scale, reduction):
    """Log-softmax per point, mean per mask, then the weighted or plain mean over masks."""
    losses, weights = [], []
    for m in range(len(target)):
        rows = [int(p) for p, k in zip(point, mask, strict=True) if int(k) == m]
        if not rows:
            continue
        total = 0.0
        for p in rows:
            logits = [scale * float(c) for c in cosine[p]]
            top = max(logits)
            total -= logits[int(target[m])] - top - math.log(sum(math.exp(v - top) for v in logits))
        losses.append(total / len(rows))
        weights.append(len(rows))
    if reduction == "mean":
        return sum(losses) / len(losses)
    return sum(a * w for a, w in zip(losses, weights, strict=True)) / sum(weights)


@given(st.integers(0, 10_000), st.sampled_from(["weighted_sum", "mean"]))
@settings(max_examples=60)
def test_equals_the_definition_written_as_loops(seed, reduction):
    g = torch.Generator().manual_seed(seed)
    n, u, m = 7, 5, 4
    cosine = torch.rand(n, u, generator=g, dtype=torch.float64) * 2 - 1
    count = int(torch.randint(1, 20, (1,), generator=g))
    point, mask = torch.randint(0, n, (count,), generator=g), torch.randint(0, m, (count,), generator=g)
    target = torch.randint(0, u, (m,), generator=g)
    loss = caption_contrastive_loss(cosine, point, mask, target, torch.tensor(9.0, dtype=torch.float64), reduction)
    assert float(loss) == pytest.approx(by_loops(cosine, point, mask, target, 9.0, reduction), rel=1e-9)


def test_a_perfectly_aligned_point_costs_nothing_at_a_large_scale():
    cosine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    loss = caption_contrastive_loss(cosine, torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor(50.0))
    assert float(loss) < 1e-6


def test_equal_cosines_cost_the_log_of_the_number_of_captions():
    loss = caption_contrastive_loss(
        torch.zeros(3, 8), torch.arange(3), torch.zeros(3, dtype=torch.long), torch.tensor([2]), torch.tensor(10.0)
    )
    assert float(loss) == pytest.approx(math.log(8), rel=1e-6)


def test_weighted_sum_weighs_points_and_mean_weighs_masks():
    cosine = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    point, mask, target = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0])
    scale = torch.tensor(4.0)
    good, bad = (float(-torch.log_softmax(torch.tensor(v), 0)[0]) for v in ([4.0, 0.0], [0.0, 4.0]))
    assert float(caption_contrastive_loss(cosine, point, mask, target, scale)) == pytest.approx((3 * good + bad) / 4, rel=1e-5)
    assert float(caption_contrastive_loss(cosine, point, mask, target, scale, "mean")) == pytest.approx(
        (good + bad) / 2, rel=1e-5
    )


def test_no_captions_cost_nothing_and_keep_the_gradient_path():
    cosine = torch.rand(4, 3, requires_grad=True)
    empty = torch.zeros(0, dtype=torch.long)
    loss = caption_contrastive_loss(cosine, empty, empty, empty, torch.tensor(5.0))
    loss.backward()
    assert float(loss) == 0.0
    assert torch.equal(cosine.grad, torch.zeros_like(cosine))


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="'weighted_sum' or 'mean'"):
        caption_contrastive_loss(
            torch.zeros(1, 1),
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, dtype=torch.long),
            torch.tensor(1.0),
            "sum",
        )  # type: ignore[arg-type]


def test_folded_cosine_equals_the_cosine_in_text_space():
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(50, 12, generator=g, dtype=torch.float64), torch.randn(32, 12, generator=g, dtype=torch.float64)
    t = torch.nn.functional.normalize(torch.randn(9, 32, generator=g, dtype=torch.float64), dim=1)
    expected = torch.nn.functional.normalize(x @ w.T, dim=1) @ t.T
    assert torch.allclose(folded_cosine(x, w, t), expected, atol=1e-10)


def test_gradients_reach_features_head_and_scale_in_double_precision():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(6, 4, generator=g, dtype=torch.float64, requires_grad=True)
    w = torch.randn(5, 4, generator=g, dtype=torch.float64, requires_grad=True)
    s = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    t = torch.nn.functional.normalize(torch.randn(3, 5, generator=g, dtype=torch.float64), dim=1)
    point, mask, target = torch.tensor([0, 1, 2, 5, 5]), torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 2, 1])
    for reduction in ("weighted_sum", "mean"):
        assert torch.autograd.gradcheck(
            lambda x, w, s, r=reduction: caption_contrastive_loss(folded_cosine(x, w, t), point, mask, target, s, r), (x, w, s)
        )


def test_a_feature_of_zeros_has_a_finite_gradient():
    """ReLU nets give such rows, and at the start of a training many."""
    features, head = torch.zeros(2, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    text = torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    folded_cosine(features, head, text).sum().backward()
    assert features.grad.isfinite().all()
    assert head.grad.isfinite().all()
