"""Nets with conditions: published names, one plain net per condition, and samples of several datasets in one batch."""

from __future__ import annotations

import pytest
import torch
from clouds import room_cells, room_snapshot, with_lively_norms
from torch import nn

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.mapping import load_map, save_map
from mosaic3d_core.models.building import CONDITIONS, build_prompt_driven, build_sparse_unet
from mosaic3d_core.models.checkpoint import load_checkpoint, save_checkpoint
from mosaic3d_core.models.mask_decoder import MaskDecoder, MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.checkpoint import load_decoder, save_decoder
from mosaic3d_core.models.scene_encoder import SceneEncoder
from mosaic3d_core.models.sparse_unet import fold_batchnorm
from mosaic3d_core.query.feature_store import pack_features, unpack_features
from mosaic3d_core.sparse import SparseTensor

NAMES = CONDITIONS[3]
# backbone tensors and parameters of the published nets by number of conditions; the embedding table comes on top
PUBLISHED = {
    ("spunet14a", 1): (234, 11_055_136),
    ("spunet14a", 3): (524, 11_068_192),
    ("spunet18a", 2): (587, 19_488_032),
    ("spunet34c", 3): (1064, 43_651_360),
    ("spunet34c", 5): (1654, 43_685_664),
}


def lively(net):
    """Norms, embeddings and modulations that all matter."""
    generator = torch.Generator().manual_seed(4)
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[1], nn.Linear):
            module[1].weight.data.normal_(0, 0.05, generator=generator)
            module[1].bias.data.normal_(0, 0.1, generator=generator)
    return with_lively_norms(net)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return lively(build_prompt_driven("narrow", NAMES, out_channels=16))


@pytest.fixture(scope="module")
def scene():
    cells = room_cells(36)
    return cells, torch.rand(len(cells), 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("name", "count"), PUBLISHED)
def test_published_nets_have_their_published_number_of_tensors_and_parameters(name, count):
    with torch.device("meta"):
        net = build_prompt_driven(name, CONDITIONS[count])
    assert (len(net.backbone.state_dict()), sum(p.numel() for p in net.backbone.parameters())) == PUBLISHED[name, count]
    assert net.embedding_table.weight.shape == (count, 256)


@pytest.mark.parametrize("name", ["spunet14a+ppt", "spunet18a+ppt", "spunet34c+ppt", "spunet50+ppt", "spunet101+ppt"])
def test_published_nets_have_their_published_names_and_shapes(name, state_dict_lists):
    with torch.device("meta"):
        net = build_prompt_driven(name)
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == state_dict_lists[name]


@pytest.mark.parametrize("condition", NAMES)
def test_choosing_a_condition_gives_a_plain_net_with_the_same_output(net, scene, condition):
    cells, features = scene
    with torch.no_grad():
        wanted = net(SparseTensor(features, cells), condition, head=True)
        plain = net.for_condition(condition)
        found = plain(SparseTensor(features, cells), head=True)
        folded = fold_batchnorm(plain)(SparseTensor(features, cells), head=True)
    scale = wanted.abs().max().item()
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * scale)
    assert torch.allclose(folded, wanted, rtol=1e-3, atol=1e-4 * scale)


def test_conditions_differ_and_each_sample_may_have_its_own(net, scene):
    cells, features = scene
    second = cells.clone()
    second[:, 0] = 1
    both = SparseTensor(torch.cat([features, features]), torch.cat([cells, second]))
    with torch.no_grad():
        mixed = net(both, [NAMES[2], NAMES[0]])
        alone = [net(SparseTensor(features, cells), name) for name in (NAMES[2], NAMES[0])]
    assert not torch.allclose(*alone, rtol=0.1)
    scale = mixed.abs().max().item()
    assert torch.allclose(mixed, torch.cat(alone), rtol=1e-4, atol=1e-5 * scale)


def test_training_moves_the_statistics_of_the_conditions_in_the_batch_only(scene):
    torch.manual_seed(0)
    cells, features = scene
    net = build_prompt_driven("narrow", NAMES, out_channels=16).train()
    net(SparseTensor(features, cells), NAMES[1], head=True).square().mean().backward()
    norm = net.backbone.conv_input[1]
    assert [int(bn.num_batches_tracked) for bn in norm.bns] == [0, 1, 0]
    assert net.embedding_table.weight.grad is not None
    assert norm.modulation[1].bias.grad.abs().sum() > 0


def test_unknown_and_missing_conditions_list_those_there_are(net, scene):
    cells, features = scene
    x = SparseTensor(features, cells)
    with pytest.raises(ValueError, match=r"condition 'S3DIS' is unknown: this net has ScanNet, ARKitScenes, ScanNetPP"):
        net(x, "S3DIS")
    with pytest.raises(ValueError, match="no condition is given"):
        net(x, [])
    with pytest.raises(ValueError, match="2 conditions are given for 3 samples"):
        net(SparseTensor(features[:3], torch.tensor([[k, 0, 0, 0] for k in range(3)], dtype=torch.int32)), NAMES[:2])
    with pytest.raises(ValueError, match=r"call for_condition\(name\) first"):
        fold_batchnorm(net.backbone)
    with pytest.raises(ValueError, match="at least one condition"):
        build_prompt_driven("narrow", ())


def test_bottleneck_nets_ignore_their_condition_as_published(scene):
    cells, features = scene
    torch.manual_seed(0)
    small = {"out_channels": 8, "base": 8, "channels": (8, 8, 16, 16, 16, 8, 8, 8), "blocks": (1,) * 8}
    net = with_lively_norms(build_prompt_driven("spunet50", NAMES, **small))
    with torch.no_grad():
        first = net(SparseTensor(features, cells), NAMES[0])
        assert torch.equal(first, net(SparseTensor(features, cells), NAMES[1]))
        folded = fold_batchnorm(net.for_condition(NAMES[1]))(SparseTensor(features, cells))
    assert first.shape[1] == 32
    assert torch.allclose(folded, first, rtol=1e-3, atol=1e-4 * first.abs().max().item())


def test_an_official_file_with_conditions_is_recognised_and_encodes(tmp_path, scene):
    torch.manual_seed(0)
    net = lively(build_prompt_driven("spunet14a", CONDITIONS[4]))
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    torch.save({"state_dict": {**state, "clip_encoder.ln_final.weight": torch.ones(3)}}, tmp_path / "net.ckpt")
    loaded = load_checkpoint(tmp_path / "net.ckpt")
    assert (loaded.config.name, loaded.config.conditions) == ("spunet14a+ppt", CONDITIONS[4])
    encoder = SceneEncoder(loaded, dtype="float32", condition="Matterport3D")
    assert encoder.condition == "Matterport3D"
    assert SceneEncoder(loaded, dtype="float32").condition == "ScanNet"
    cells, features = scene
    with torch.no_grad():
        wanted = net(SparseTensor(features, cells), "Matterport3D")
        found = torch.from_numpy(encoder.encode_cells(cells.numpy(), features.numpy()))
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())
    with pytest.raises(ValueError, match="condition 'S3DIS' is unknown: this net has ScanNet"):
        SceneEncoder(loaded, condition="S3DIS")


def test_our_file_keeps_the_conditions_and_lacking_entries_are_named(tmp_path, net):
    about = {"text_encoder": "minilm", "voxel_size_m": 0.04, "input_channels": ["color"], "logit_scale": 20.0}
    save_checkpoint(tmp_path / "net.safetensors", net, about)
    loaded = load_checkpoint(tmp_path / "net.safetensors")
    assert loaded.config.conditions == NAMES
    state = {f"net.{key}": value for key, value in net.state_dict().items() if "bns.2.weight" not in key}
    torch.save(state, tmp_path / "lacking.ckpt")
    with pytest.raises(CheckpointError, match=r"missing: backbone\.conv_input\.bn\.bns\.2\.weight"):
        load_checkpoint(tmp_path / "lacking.ckpt")


def test_map_files_and_decoders_know_under_which_condition_their_features_were_made(tmp_path, net):
    about = {"text_encoder": "minilm", "voxel_size_m": 0.04, "input_channels": ["color"], "logit_scale": 20.0}
    save_checkpoint(tmp_path / "net.safetensors", net, about)
    first, second = (SceneEncoder.from_checkpoint(tmp_path / "net.safetensors", condition=name) for name in NAMES[:2])
    snapshot = room_snapshot(20)
    save_map(snapshot, tmp_path / "room.m3dmap", *pack_features(first.encode(snapshot)))
    kept = unpack_features(*load_map(tmp_path / "room.m3dmap", with_extras=True))
    assert first.is_source_of(kept)
    assert not second.is_source_of(kept)
    decoder = MaskDecoder(MaskDecoderConfig(text_width=16, hidden=16, feedforward=32, heads=4))
    save_decoder(tmp_path / "decoder.safetensors", decoder, first.head, {})
    loaded = load_decoder(tmp_path / "decoder.safetensors")
    loaded.check_encoder(first.head, "decoder.safetensors")
    with pytest.raises(CheckpointError, match=f"condition '{NAMES[0]}' of this encoder, which has '{NAMES[1]}' now"):
        loaded.check_encoder(second.head, "decoder.safetensors")


def test_a_plain_net_has_no_condition_to_choose(tmp_path):
    about = {"text_encoder": "minilm", "voxel_size_m": 0.04, "input_channels": ["color"], "logit_scale": 20.0}
    save_checkpoint(tmp_path / "net.safetensors", build_sparse_unet("narrow"), about)
    with pytest.raises(ValueError, match="narrow is a net without conditions"):
        SceneEncoder.from_checkpoint(tmp_path / "net.safetensors", condition="ScanNet")
