"""The mask decoder against slow, plain versions of itself, and on scenes that are empty, tiny or odd."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mosaic3d_core.models.mask_decoder import MaskDecoder, MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.layers import CrossAttention, FourierPositions, SpatialWindow, window_terms
from mosaic3d_core.models.mask_decoder.masked_attention import masked_attention
from mosaic3d_core.models.mask_decoder.sampling import farthest_points

SMALL = MaskDecoderConfig(text_width=24, hidden=16, feedforward=32, heads=4, queries=6, test_queries=7)


def scene(voxels: int, seed: int = 0, width: int = 5, text_width: int = 24, bias: bool = True):
    g = torch.Generator().manual_seed(seed)
    head = torch.randn(text_width, width, generator=g)
    return (
        torch.randn(voxels, width, generator=g),
        head,
        torch.randn(text_width, generator=g) if bias else None,
        torch.rand(voxels, 3, generator=g) * 3,
    )


def decoder(config: MaskDecoderConfig = SMALL, seed: int = 0) -> MaskDecoder:
    torch.manual_seed(seed)
    return MaskDecoder(config).eval()


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12), points=st.integers(1, 40))
def test_each_query_starts_as_far_as_possible_from_those_before(seed, count, points):
    rng = np.random.default_rng(seed)
    cloud = rng.integers(0, 5, (points, 3)).astype(np.float32)  # with repetitions and equal distances
    first = int(rng.integers(points))
    found = farthest_points(cloud, count, first)
    assert len(found) == min(count, points)
    if count >= points:
        assert found.tolist() == list(range(points))
        return
    assert found[0] == first
    for k in range(1, count):
        nearest = [min(((cloud[i] - cloud[j]) ** 2).sum() for j in found[:k]) for i in range(points)]
        assert found[k] == int(np.argmax(nearest))


def test_a_start_outside_the_cloud_is_refused():
    with pytest.raises(ValueError, match="row of the 4 points"):
        farthest_points(np.zeros((4, 3)), 2, 4)


def test_attention_is_that_of_torch_with_the_blocked_voxels_left_out():
    torch.manual_seed(0)
    layer = CrossAttention(16, 4).double()
    queries, place = torch.randn(5, 16).double(), torch.randn(5, 16).double()
    memory, positions = torch.randn(30, 16).double(), torch.randn(30, 16).double()
    allowed = torch.rand(5, 30) < 0.4
    allowed[:, 0] = True
    found = layer(queries, place, *layer.keys_and_values(memory, positions), allowed)
    plain, _ = layer.multihead_attn(
        (queries + place)[None], (memory + positions)[None], memory[None], attn_mask=~allowed, need_weights=False
    )
    assert torch.allclose(found, layer.norm(queries + plain[0]), atol=1e-12)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    voxels=st.sampled_from([1, 7, 600, 8192, 9000]),
    spread=st.sampled_from([1.0, 8.0, 60.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_attention_over_allowed_pairs_is_attention(seed, voxels, spread, dtype):
    g = torch.Generator().manual_seed(seed)
    queries, keys, values = (torch.randn(2, n, 8, generator=g, dtype=dtype) for n in (5, voxels, voxels))
    queries = queries * spread
    allowed = torch.rand(5, voxels, generator=g) < torch.rand(5, 1, generator=g)
    allowed[3] = False
    allowed[torch.arange(5), torch.randint(voxels, (5,), generator=g)] = True  # one voxel each at least, one alone for the fourth
    found = masked_attention(queries, keys, values, allowed)
    scores = (queries.double() @ keys.double().transpose(1, 2) / 8**0.5).masked_fill(~allowed, -torch.inf)
    # scores reach some hundred, whose float32 rounding moves a weight by 1e-4
    assert found.dtype == dtype
    assert torch.allclose(found.double(), scores.softmax(2) @ values.double(), atol=2e-4 if dtype == torch.float32 else 1e-11)


def test_attention_does_not_depend_on_the_number_of_threads():
    g = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, n, 8, generator=g) for n in (5, 40_000, 40_000))
    allowed = torch.rand(5, 40_000, generator=g) < 0.5
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(masked_attention(queries, keys, values, allowed))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_inference_and_training_see_the_same():
    model = decoder()
    features, head, bias, positions = scene(300)
    one = model(features, head, bias, positions, steps=True)
    with torch.inference_mode():
        other = model(features, head, bias, positions, steps=True)
    assert len(other.steps) == 3
    assert np.array_equal(one.start, other.start)
    assert torch.allclose(one.final.mask_logits, other.final.mask_logits, atol=1e-3)
    assert torch.allclose(one.steps[1].mask_logits, other.steps[1].mask_logits, atol=1e-3)


@pytest.mark.parametrize("window", [False, True])
def test_the_objects_do_not_depend_on_whether_earlier_steps_are_asked_for(window):
    """Without them masks are made piece by piece, and only which voxels they hold is kept."""
    model = decoder(replace(SMALL, window=window))
    inputs = scene(9_001)  # several whole pieces and some of another
    with torch.inference_mode():
        whole, brief = model(*inputs, steps=True), model(*inputs)
    assert len(whole.steps) == 3
    assert not brief.steps
    # a voxel on the border of a mask may fall on either side, as sums of floats depend on their order
    assert torch.allclose(whole.final.mask_logits, brief.final.mask_logits, atol=2e-3)
    assert torch.allclose(whole.final.object_logits, brief.final.object_logits, atol=2e-3)


def test_positions_are_encoded_within_the_box_of_the_scene():
    torch.manual_seed(0)
    encode = FourierPositions(8, 1.0)
    points = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 4.0]])
    low, high = points.min(0).values, points.max(0).values
    found = encode(points, low, high)
    angle = 2 * np.pi * torch.tensor([[0.0, 0, 0], [1, 0, 1]]) @ encode.gauss_B
    assert torch.allclose(found, torch.cat([angle.sin(), angle.cos()], 1), atol=1e-5)
    assert torch.allclose(encode(points + 7, low + 7, high + 7), found, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_the_folded_head_gives_what_features_in_text_space_give(bias):
    """As published: the decoder reads the encoder's final features. Here an identity head reads them ready-made."""
    model = decoder()
    features, head, head_bias, positions = scene(40, bias=bias)
    in_text_space = features @ head.T + (0 if head_bias is None else head_bias)
    folded = model(features, head, head_bias, positions).final
    plain = model(in_text_space, torch.eye(24), None, positions).final
    assert torch.allclose(folded.mask_logits, plain.mask_logits, atol=1e-4)
    assert torch.allclose(folded.embeddings, plain.embeddings, atol=1e-4)


def by_hand(model: MaskDecoder, features, positions, start):
    """The published steps in plain torch, with the attention module's own forward."""
    memory, mask_features = model.linear[0](features), model.decoder_proj(features)
    encoded = model.pos_enc(positions, positions.min(0).values, positions.max(0).values)
    place, content = model.query_proj(encoded[torch.from_numpy(start)]), torch.zeros(len(start), 16)
    for _ in range(model.config.iterations):
        logits = model.mask_head(model.decoder_norm(content)) @ mask_features.T
        blocked = logits < 0
        blocked[blocked.all(1)] = False
        cross = model.cross_attention[0]
        found, _ = cross.multihead_attn((content + place)[None], (memory + encoded)[None], memory[None], attn_mask=blocked)
        content = cross.norm(content + found[0])
        own = model.self_attention[0]
        found, _ = own.self_attn((content + place)[None], (content + place)[None], content[None])
        content = own.norm(content + found[0])
        content = model.ffn[0](content)
    content = model.decoder_norm(content)
    return model.class_head(content), model.mask_head(content) @ mask_features.T, model.clip_head(content)


def test_the_whole_decoder_is_what_is_published_step_by_step():
    model = decoder()
    features, _, _, positions = scene(50, width=24)
    found = model(features, torch.eye(24), None, positions, steps=True)
    assert len(found.steps) == 3
    wanted = by_hand(model, features, positions, found.start)
    for one, other in zip((found.final.object_logits, found.final.mask_logits, found.final.embeddings), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_names_and_shapes_are_the_published_ones():
    shapes = {name: tuple(value.shape) for name, value in MaskDecoder(MaskDecoderConfig()).state_dict().items()}
    assert shapes["pos_enc.gauss_B"] == (3, 64)
    assert shapes["decoder_proj.weight"] == (128, 768)
    assert shapes["linear.0.weight"] == (128, 768)
    assert shapes["class_head.weight"] == (2, 128)
    assert shapes["mask_head.0.weight"] == shapes["mask_head.2.weight"] == (128, 128)
    assert shapes["clip_head.weight"] == (768, 128)
    assert shapes["query_proj.layers.0.weight"] == shapes["query_proj.layers.2.weight"] == (128, 128)
    assert shapes["ffn.0.linear1.weight"] == (1024, 128)
    assert {name.split(".")[0] for name in shapes} == {
        "decoder_proj", "query_proj", "pos_enc", "decoder_norm", "linear", "cross_attention", "self_attention", "ffn",
        "class_head", "mask_head", "clip_head",
    }  # fmt: skip


@pytest.mark.parametrize("voxels", [0, 1, 3])
def test_scenes_with_fewer_voxels_than_queries_have_fewer_queries(voxels):
    found = decoder()(*scene(voxels))
    assert found.final.mask_logits.shape == (voxels, voxels)
    assert found.final.object_logits.shape == (voxels, 2)
    assert torch.isfinite(found.final.embeddings).all()


def test_a_flat_scene_and_one_of_equal_positions_give_numbers():
    features, head, bias, positions = scene(20)
    flat = positions.clone()
    flat[:, 2] = 1.0
    for place in (flat, torch.zeros_like(positions)):
        assert torch.isfinite(decoder()(features, head, bias, place).final.mask_logits).all()


@pytest.mark.parametrize("push", [-1e4, 1e4])
def test_queries_whose_masks_hold_nothing_or_everything_go_on(push):
    model = decoder()
    features, head, bias, positions = scene(30)
    with torch.no_grad():
        model.decoder_proj.weight.zero_()
        model.decoder_proj.bias.fill_(1.0)
        model.mask_head[2].bias.fill_(push)
    found = model(features, head, bias, positions).final
    assert torch.isfinite(found.mask_logits).all()
    assert (found.mask_logits > 0).all() == (push > 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_per_voxel_stays_close_and_gives_numbers(dtype):
    model = decoder()
    features, head, bias, positions = scene(200)
    exact = model(features, head, bias, positions).final
    half = model(features, head, bias, positions, dtype=dtype).final
    assert torch.isfinite(half.mask_logits).all()
    assert torch.isfinite(half.embeddings).all()
    # queries near a mask's border see other voxels, so single numbers differ; the masks agree
    assert ((exact.mask_logits > 0) == (half.mask_logits > 0)).float().mean() > 0.95


def test_training_attends_to_a_random_share_and_starts_anywhere():
    model = decoder(MaskDecoderConfig(text_width=24, hidden=16, feedforward=32, heads=4, queries=6, max_keys=10)).train()
    features, head, bias, positions = scene(60)
    one = model(features, head, bias, positions, generator=torch.Generator().manual_seed(1))
    same = model(features, head, bias, positions, generator=torch.Generator().manual_seed(1))
    other = model(features, head, bias, positions, generator=torch.Generator().manual_seed(2))
    assert torch.equal(one.final.mask_logits, same.final.mask_logits)
    assert (one.start != other.start).any()
    assert one.final.mask_logits.shape == (6, 60)


def test_every_part_learns():
    model = decoder().train()
    features, head, bias, positions = scene(40)
    found = model(features, head, bias, positions, steps=True)
    total = sum(p.mask_logits.pow(2).mean() + p.object_logits.pow(2).mean() + p.embeddings.pow(2).mean()
                for p in (found.final, *found.steps))  # fmt: skip
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_decoder_for_another_text_space_is_named():
    features, head, bias, positions = scene(10, text_width=32)
    with pytest.raises(ValueError, match="text space of 24, but the encoder's has 32"):
        decoder()(features, head, bias, positions)


@pytest.mark.parametrize("change", [{"hidden": 15}, {"queries": 0}, {"heads": 3}])
def test_sizes_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match=r"hidden|queries|heads"):
        MaskDecoderConfig(**{"hidden": 16, **change})
    assert isinstance(MaskDecoder(MaskDecoderConfig.from_dict(SMALL.to_dict())), nn.Module)
    with pytest.raises(ValueError, match="unknown mask decoder settings"):
        MaskDecoderConfig.from_dict({"depth": 3})


def test_a_window_is_highest_at_its_centre_and_falls_off_as_said():
    torch.manual_seed(0)
    window = SpatialWindow(16).double()
    nn.init.normal_(window.layers[2].weight, std=0.5)
    queries, start = torch.randn(5, 16, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    points = torch.randn(40, 3, dtype=torch.float64) * 3
    found = window(queries, start) @ window_terms(points).T
    said = window.layers(queries)
    for q in range(5):
        center, sharpness, height = start[q] + said[q, :3], said[q, 3:6].exp(), said[q, 6]
        wanted = torch.stack([height - (sharpness * (p - center) ** 2).sum() for p in points])
        assert torch.allclose(found[q], wanted, atol=1e-9)


def test_with_windows_things_of_equal_features_come_apart():
    """Two cubes with the same features: without windows no mask tells them apart, with windows every first mask does."""
    cube = torch.from_numpy(np.stack(np.meshgrid(*[np.arange(0, 0.4, 0.1)] * 3), -1).reshape(-1, 3).astype(np.float32))
    positions = torch.cat([cube, cube + torch.tensor([3.0, 0, 0])])
    features = torch.ones(len(positions), 5)
    head = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))
    for window in (False, True):
        model = decoder(replace(SMALL, window=window))
        masks = model(features, head, None, positions, steps=True).steps[0].mask_logits
        apart = (masks[:, : len(cube)].mean(1) - masks[:, len(cube) :].mean(1)).abs()
        assert (apart > 5).all() if window else (apart < 1e-5).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_windows_give_the_same_masks_in_another_order_and_stay_finite_far_from_the_origin(dtype):
    model = decoder(replace(SMALL, window=True))
    features, head, bias, positions = scene(300)
    positions = positions + 500.0
    with torch.no_grad():
        plain = model(features, head, bias, positions, dtype=dtype).final
    assert torch.isfinite(plain.mask_logits).all()
    with torch.enable_grad():
        ordered = model(features, head, bias, positions, dtype=dtype).final
    # float32 positions at 500 m hold 0.03 mm; bfloat16 keeps 8 bits of each product
    assert torch.allclose(plain.mask_logits, ordered.mask_logits, atol=2e-2 if dtype == torch.float32 else 0.5)


@pytest.mark.parametrize("window", [False, True])
def test_queries_that_are_hardly_objects_are_left_out_and_the_others_are_the_same(window):
    model = decoder(replace(SMALL, window=window))
    features, head, bias, positions = scene(200)
    with torch.inference_mode():
        whole = model(features, head, bias, positions)
        certain = whole.final.object_logits.softmax(1)[:, 0]
        least = float(certain.sort().values[3]) + 1e-6
        part = model(features, head, bias, positions, least=least)
        none = model(features, head, bias, positions, least=1.0)
    kept = (certain >= least).nonzero().squeeze(1)
    assert 0 < len(kept) < len(certain)
    assert torch.allclose(part.final.mask_logits, whole.final.mask_logits[kept], atol=1e-5)
    assert torch.allclose(part.final.embeddings, whole.final.embeddings[kept], atol=1e-5)
    assert np.array_equal(part.start, whole.start[kept.numpy()])
    assert none.final.mask_logits.shape == (0, 200)
