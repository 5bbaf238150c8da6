"""The nets have the names and shapes of the published ones, and their fast forms compute the same."""

from __future__ import annotations

import pytest
import torch
from clouds import room_cells, with_lively_norms

from mosaic3d_core.models.building import build_sparse_unet
from mosaic3d_core.models.config import SparseUNetConfig
from mosaic3d_core.models.scene_encoder import head_of
from mosaic3d_core.models.sparse_unet import fold_batchnorm
from mosaic3d_core.sparse import SparseTensor

# Parameter tensors of the published plain nets, counted from their state dicts, and numbers of parameters.
PUBLISHED = {
    "spunet14a": (175, 9_376_672),
    "spunet18a": (271, 16_845_344),
    "spunet34c": (355, 39_208_224),
    "spunet50": (499, 101_102_112),
    "spunet101": (805, 256_015_904),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_nets_have_their_published_number_of_tensors_and_parameters(name):
    with torch.device("meta"):
        net = build_sparse_unet(name)
    assert (len(net.state_dict()), sum(p.numel() for p in net.parameters())) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_nets_have_their_published_names_and_shapes(name, state_dict_lists):
    with torch.device("meta"):
        net = build_sparse_unet(name)
    found = {key: list(value.shape) for key, value in net.state_dict().items()}
    assert found == state_dict_lists[name]


def test_a_few_names_and_shapes_by_hand():
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in build_sparse_unet("spunet34c").state_dict().items()}
    assert shapes["conv_input.0.weight"] == (32, 3, 3, 3, 3)
    assert shapes["up.0.0.weight"] == (96, 2, 2, 2, 96)
    assert shapes["dec.3.block0.proj.0.weight"] == (256, 1, 1, 1, 384)
    assert shapes["enc.3.block5.bn2.running_var"] == (256,)
    assert shapes["final.weight"] == (768, 1, 1, 1, 96)
    assert "final.bias" not in shapes


def test_the_narrow_net_fits_into_a_small_checkpoint():
    net = build_sparse_unet("narrow", in_channels=6)
    assert sum(p.numel() for p in net.parameters()) < 4_000_000
    assert net.final.weight.shape == (384, 1, 1, 1, 48)


@pytest.fixture(scope="module")
def scene():
    generator = torch.Generator().manual_seed(0)
    cells = room_cells(60)
    return cells, torch.rand(len(cells), 6, generator=generator) * 2 - 1


@pytest.fixture(scope="module")
def net():
    return with_lively_norms(build_sparse_unet("narrow", in_channels=6))


def test_folding_batch_norms_changes_nothing(net, scene):
    cells, features = scene
    with torch.no_grad():
        wanted = net(SparseTensor(features, cells))
        found = fold_batchnorm(net)(SparseTensor(features, cells))
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())
    assert torch.equal(net(SparseTensor(features, cells)), wanted)  # the net itself stays as it was


def test_folding_works_inside_inference_mode_and_follows_changed_weights(net, scene):
    cells, features = scene
    with torch.inference_mode():
        folded = fold_batchnorm(net)
        before = folded(SparseTensor(features, cells))
        folded.conv_input[0].weight.mul_(2.0)
        assert not torch.equal(folded(SparseTensor(features, cells)), before)


def test_bfloat16_points_the_same_way_as_float32(net, scene):
    cells, features = scene
    folded = fold_batchnorm(net)
    exact = folded(SparseTensor(features, cells), head=True)
    folded.compute_dtype = torch.bfloat16
    rough = folded(SparseTensor(features, cells), head=True)
    assert rough.dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(exact, rough, dim=1)
    assert cosine.min() > 0.99
    assert cosine.mean() > 0.999


def test_rows_come_back_in_the_order_they_were_given(net, scene):
    cells, features = scene
    shuffle = torch.randperm(len(cells), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        straight = net(SparseTensor(features, cells))
        shuffled = net(SparseTensor(features[shuffle], cells[shuffle]))
    assert torch.allclose(shuffled, straight[shuffle], rtol=1e-3, atol=1e-4 * straight.abs().max().item())


@pytest.mark.parametrize("name", ["narrow", "spunet14a"])
@pytest.mark.parametrize("rows", [0, 1])
def test_empty_and_one_voxel_scenes_are_encoded(name, rows):
    net = fold_batchnorm(build_sparse_unet(name))
    cells = torch.full((rows, 4), -3, dtype=torch.int32)
    cells[:, 0] = 0
    assert net(SparseTensor(torch.ones(rows, 3), cells)).shape == (rows, net.config.feature_channels)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_net_learns(dtype):
    torch.manual_seed(0)
    cells = room_cells(16)
    net = build_sparse_unet("narrow", compute_dtype=dtype, out_channels=8).train()
    features = torch.rand(len(cells), 3) * 2 - 1
    target = (cells[:, 3] > 8).long()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(net(SparseTensor(features, cells), head=True)[:, :2], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_on_cuda_the_result_is_that_of_the_cpu(net, scene):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")
    cells, features = scene
    folded = fold_batchnorm(net)
    wanted = folded(SparseTensor(features, cells))
    found = folded.cuda()(SparseTensor(features.cuda(), cells.cuda())).cpu()
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max().item())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (32, 48)}, "channels must be 8 positive numbers"),
        ({"blocks": (1,) * 7 + (0,)}, "blocks must be 8 positive numbers"),
        ({"in_channels": 0}, "in_channels must be at least 1"),
        ({"momentum": 0.0}, r"momentum must lie in \(0, 1\]"),
        ({"init": "zeros"}, "init must be"),
        ({"width": 3}, r"unknown architecture settings \['width'\]"),
    ],
)
def test_impossible_architectures_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build_sparse_unet("narrow", **change)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match='unknown encoder "resnet"; known are spunet14a'):
        build_sparse_unet("resnet")


def test_the_config_survives_its_plain_form():
    config = SparseUNetConfig("mine", 6, 384, momentum=0.05, init="kaiming")
    assert SparseUNetConfig.from_dict(config.to_dict()) == config


def test_the_head_of_a_net_is_its_last_layer(net):
    assert torch.equal(torch.from_numpy(head_of(net).weight), net.final.weight.detach().flatten(1))
