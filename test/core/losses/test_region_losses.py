"""Losses between regions and captions against loops in double precision, and over two processes against one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, multiprocessing
from torch.nn.functional import normalize

from mosaic3d_core.losses.region_losses import (
    point_alignment_loss,
    pool_regions,
    region_alignment_loss,
    region_contrastive_loss,
    region_vectors,
    sigmoid_loss,
)

SCALE, BIAS = torch.tensor(7.0, dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)


def case(seed: int, masks: int = 6, captions: int = 5):
    """Unit regions, unit captions of which the last repeats the first, and a caption per region."""
    g = torch.Generator().manual_seed(seed)
    region = normalize(torch.randn(masks, 4, generator=g, dtype=torch.float64), dim=1)
    text = normalize(torch.randn(captions, 4, generator=g, dtype=torch.float64), dim=1)
    text[-1] = text[0]
    return region, text, torch.randint(0, captions, (masks,), generator=g)


def by_loops(region, text, target, kind):
    """The definitions, one number at a time, over the distinct captions that some region has."""
    wanted = [tuple(text[int(t)].tolist()) for t in target]
    distinct = sorted(set(wanted))
    dot = [[sum(a * b for a, b in zip(r.tolist(), t, strict=True)) for t in distinct] for r in region]
    if kind == "sigmoid":
        total = 0.0
        for m, row in enumerate(dot):
            for u, value in enumerate(row):
                sign = 1.0 if distinct[u] == wanted[m] else -1.0
                total += math.log1p(math.exp(-sign * (float(SCALE) * value + float(BIAS))))
        return total / len(region)
    logits = [[float(SCALE) * value for value in row] for row in dot]

    def log_softmax(values, at):
        return values[at] - math.log(sum(math.exp(v) for v in values))

    to_text = -sum(log_softmax(row, distinct.index(wanted[m])) for m, row in enumerate(logits)) / len(region)
    to_region = 0.0
    for u, caption in enumerate(distinct):
        mine = [m for m in range(len(region)) if wanted[m] == caption]
        column = [logits[m][u] for m in range(len(region))]
        to_region -= sum(log_softmax(column, m) for m in mine) / len(mine)
    return (to_text + to_region / len(distinct)) / 2


@settings(max_examples=60)
@given(st.integers(0, 10_000))
def test_both_losses_equal_their_definitions_written_as_loops(seed):
    region, text, target = case(seed)
    found = float(region_contrastive_loss(region, text, target, SCALE))
    assert found == pytest.approx(by_loops(region, text, target, "clip"), rel=1e-9)
    found = float(sigmoid_loss(region, text, target, SCALE, BIAS))
    assert found == pytest.approx(by_loops(region, text, target, "sigmoid"), rel=1e-9)


def test_equal_captions_are_one_caption():
    """Whether the two regions of a chair share a row of captions or have a row each changes nothing."""
    region, text, _ = case(3)
    shared, apart = torch.tensor([0, 0, 1, 2, 3, 1]), torch.tensor([0, 4, 1, 2, 3, 1])  # row 4 repeats row 0
    for loss in (
        lambda target: region_contrastive_loss(region, text, target, SCALE),
        lambda target: sigmoid_loss(region, text, target, SCALE, BIAS),
        lambda target: region_alignment_loss(region, text, target),
    ):
        assert float(loss(shared)) == pytest.approx(float(loss(apart)), rel=1e-12)


def test_a_region_is_the_mean_of_its_points_through_the_head():
    g = torch.Generator().manual_seed(0)
    features, head = torch.randn(9, 3, generator=g, dtype=torch.float64), torch.randn(5, 3, generator=g, dtype=torch.float64)
    point, mask = torch.tensor([0, 4, 4, 8, 2]), torch.tensor([0, 0, 2, 2, 2])
    pooled = pool_regions(features, point, mask, 3)
    assert torch.allclose(pooled[0], (features[0] + features[4]) / 2)
    assert torch.equal(pooled[1], torch.zeros(3, dtype=torch.float64))  # a mask without points
    vectors = region_vectors(features, head, point, mask, 3)
    mean = torch.stack([head @ features[i] for i in (4, 8, 2)]).mean(0)
    assert torch.allclose(vectors[2], mean / mean.norm())


def test_alignment_is_one_minus_the_cosine():
    region, text, target = case(1)
    wanted = sum(1 - float(region[m] @ text[int(target[m])]) for m in range(6)) / 6
    assert float(region_alignment_loss(region, text, target)) == pytest.approx(wanted, rel=1e-12)
    cosine, point, mask = torch.tensor([[0.5, -1.0], [1.0, 0.25]]), torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    found = point_alignment_loss(cosine, point, mask, torch.tensor([0, 1]))
    assert float(found) == pytest.approx((0.5 + 0.0 + 0.75) / 3)


@pytest.mark.parametrize("kind", ["clip", "sigmoid", "alignment"])
def test_gradients_agree_with_finite_differences(kind):
    _, text, target = case(2)
    g = torch.Generator().manual_seed(9)
    features = torch.randn(8, 3, generator=g, dtype=torch.float64, requires_grad=True)
    head = torch.randn(4, 3, generator=g, dtype=torch.float64, requires_grad=True)
    scale, bias = SCALE.clone().requires_grad_(), BIAS.clone().requires_grad_()
    point, mask = torch.randint(0, 8, (20,), generator=g), torch.arange(20) % 6

    def loss(features, head, scale, bias):
        region = region_vectors(features, head, point, mask, 6)
        if kind == "clip":
            return region_contrastive_loss(region, text, target, scale)
        if kind == "sigmoid":
            return sigmoid_loss(region, text, target, scale, bias)
        return region_alignment_loss(region, text, target)

    assert torch.autograd.gradcheck(loss, (features, head, scale, bias))


@pytest.mark.parametrize("loss", ["clip", "sigmoid", "alignment", "points"])
def test_without_regions_the_loss_is_nothing_with_a_gradient(loss):
    features = torch.randn(4, 3, requires_grad=True)
    empty = torch.zeros(0, dtype=torch.long)
    region = region_vectors(features, torch.randn(4, 3), empty, empty, 0)
    text, one = torch.randn(2, 4), torch.tensor(1.0)
    found = {
        "clip": lambda: region_contrastive_loss(region, text, empty, one),
        "sigmoid": lambda: sigmoid_loss(region, text, empty, one, one),
        "alignment": lambda: region_alignment_loss(region, text, empty),
        "points": lambda: point_alignment_loss(features @ torch.randn(3, 2), empty, empty, empty),
    }[loss]()
    found.backward()
    assert float(found.detach()) == 0
    assert features.grad.abs().max() == 0


def _process(rank: int, address: str, kind: str, answers) -> None:
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    region, text, target = case(5, masks=7)
    part = slice(0, 3) if rank == 0 else slice(3, 7)  # uneven shares
    mine = region[part].clone().requires_grad_()
    scale = SCALE.clone().requires_grad_()
    if kind == "clip":
        loss = region_contrastive_loss(mine, text, target[part], scale)
    else:
        loss = sigmoid_loss(mine, text, target[part], scale, BIAS)
    loss.backward()
    answers.put((rank, float(loss.detach()), mine.grad.tolist(), float(scale.grad)))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["clip", "sigmoid"])
def test_two_processes_get_the_loss_and_the_gradients_of_one_with_the_joint_batch(tmp_path, kind):
    """Averaged over processes, as DDP does: regions of a process then have half of what reaches them, two processes' worth."""
    region, text, target = case(5, masks=7)
    region, scale = region.requires_grad_(), SCALE.clone().requires_grad_()
    joint = (
        region_contrastive_loss(region, text, target, scale)
        if kind == "clip"
        else sigmoid_loss(region, text, target, scale, BIAS)
    )
    joint.backward()
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    address = f"file://{tmp_path}/meeting"
    workers = [context.Process(target=_process, args=(rank, address, kind, answers)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = sorted(answers.get() for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    gradient = torch.cat([torch.tensor(grad, dtype=torch.float64) for _, _, grad, _ in found]) / 2
    assert [loss for _, loss, _, _ in found] == pytest.approx([float(joint.detach())] * 2, rel=1e-12)
    assert torch.allclose(gradient, region.grad, rtol=1e-9, atol=1e-12)
    assert sum(one for *_, one in found) / 2 == pytest.approx(float(scale.grad), rel=1e-9)
