"""From a map snapshot to a feature map."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from clouds import room_snapshot, with_lively_norms

from mosaic3d_core.errors import CheckpointError, MissingDependencyError
from mosaic3d_core.models import scene_encoder
from mosaic3d_core.models.building import build_sparse_unet
from mosaic3d_core.models.checkpoint import save_checkpoint
from mosaic3d_core.models.precision import choose_device, choose_dtype
from mosaic3d_core.models.scene_encoder import SceneEncoder
from mosaic3d_core.sparse import SparseTensor
from mosaic3d_core.sparse.matrix_product import has_onednn
from mosaic3d_core.sparse.processor import Processor

CHANNELS = ["color", "occupancy", "verticality", "height"]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return with_lively_norms(build_sparse_unet("narrow", in_channels=6))


@pytest.fixture(scope="module")
def checkpoint(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "net.safetensors"
    metadata = {"text_encoder": "minilm", "voxel_size_m": 0.04, "input_channels": CHANNELS, "logit_scale": 12.5}
    save_checkpoint(path, net, metadata)
    return path


def test_features_are_those_of_the_net_and_cosines_those_of_text_space(net, checkpoint):
    snapshot = room_snapshot()
    encoder = SceneEncoder.from_checkpoint(checkpoint, dtype="float32")
    result = encoder.encode(snapshot)
    inputs = scene_encoder.build_encoder_input(snapshot, 0.04, tuple(CHANNELS))
    cells = torch.zeros(len(inputs.indices), 4, dtype=torch.int32)
    cells[:, 1:] = torch.from_numpy(inputs.indices)
    with torch.no_grad():
        full = net(SparseTensor(torch.from_numpy(inputs.features), cells), head=True).numpy()
    text = np.random.default_rng(0).normal(size=(5, 384)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    wanted = full @ text.T / np.linalg.norm(full, axis=1, keepdims=True)
    np.testing.assert_allclose(result.cosine(text), wanted, atol=1e-3)
    assert result.features.shape == (len(inputs.indices), 48)
    assert np.array_equal(result.voxel_of_point, inputs.voxel_of_point)
    assert (result.generation, result.text_encoder_name, result.logit_scale) == (7, "minilm", 12.5)
    assert result.snapshot is snapshot
    assert result.encode_ms > 0


def test_bfloat16_maps_point_the_same_way(checkpoint):
    exact, rough = (SceneEncoder.from_checkpoint(checkpoint, dtype=d).encode(room_snapshot()) for d in ("float32", "bfloat16"))
    assert rough.features.dtype == np.float32
    full = [m.features @ m.head.weight.T / m.norms[:, None] for m in (exact, rough)]
    assert (full[0] * full[1]).sum(1).min() > 0.99


def test_an_empty_map_has_an_empty_feature_map(checkpoint):
    encoder = SceneEncoder.from_checkpoint(checkpoint)
    snapshot = room_snapshot()
    empty = type(snapshot)(
        generation=1,
        stamp_ns=0,
        voxel_size_m=0.02,
        indices=np.empty((0, 3), np.int32),
        centroids=np.empty((0, 3), np.float32),
        colors=np.empty((0, 3), np.float32),
        normals=np.empty((0, 3), np.float32),
        weights=np.empty(0, np.float32),
        last_seen_ns=np.empty(0, np.int64),
    )
    result = encoder.encode(empty)
    assert result.features.shape == (0, 48)
    assert result.cosine(np.eye(2, 384, dtype=np.float32)).shape == (0, 2)


def test_several_threads_get_what_one_gets(checkpoint):
    encoder = SceneEncoder.from_checkpoint(checkpoint)
    encoder.warm_up()
    snapshot = room_snapshot(24)
    alone = encoder.encode(snapshot).features
    with ThreadPoolExecutor(3) as pool:
        for result in pool.map(encoder.encode, [snapshot] * 6):
            np.testing.assert_allclose(result.features, alone, rtol=1e-5, atol=1e-5)


def test_without_the_shipped_checkpoint_the_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(scene_encoder, "DEFAULT_CHECKPOINT", tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="the checkpoint that ships with the package is missing"):
        SceneEncoder.from_checkpoint()


def test_the_dtype_follows_what_the_processor_can_do_and_the_wish(checkpoint, monkeypatch):
    """Not how fast it was a moment ago: beside other programs a node would stay at the slower dtype for its whole life."""
    cpu = torch.device("cpu")
    able = {"avx512f", "avx512_bf16"} if has_onednn() else set()
    for flags, dtype in ((able, torch.bfloat16 if able else torch.float32), ({"avx512f"}, torch.float32), (set(), torch.float32)):
        one = Processor("AuthenticAMD", frozenset(flags))
        monkeypatch.setattr("mosaic3d_core.models.precision.this_processor", lambda one=one: one)
        assert choose_dtype(cpu) == choose_dtype(cpu, "auto") == dtype
        assert SceneEncoder.from_checkpoint(checkpoint).dtype == dtype
    assert choose_dtype(cpu, "float32") == torch.float32
    with pytest.raises(ValueError, match='unknown dtype "half"; choose auto, float32'):
        choose_dtype(cpu, "half")
    with pytest.raises(ValueError, match="float16 is not supported on the CPU"):
        choose_dtype(cpu, torch.float16)


def test_devices_are_chosen_by_name():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match='unknown device "gpu"'):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch finds no CUDA GPU; choose cpu"):
            choose_device("cuda")


def test_on_cuda_the_map_is_that_of_the_cpu(checkpoint):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")
    wanted, found = (
        SceneEncoder.from_checkpoint(checkpoint, device=d, dtype="float32").encode(room_snapshot()) for d in ("cpu", "cuda")
    )
    np.testing.assert_allclose(found.features, wanted.features, rtol=1e-2, atol=1e-2)


def test_backends_are_chosen_by_name_and_never_silently_replaced(checkpoint):
    assert SceneEncoder.from_checkpoint(checkpoint).backend == "torch"
    with pytest.raises(ValueError, match='unknown backend "mink"; choose auto, torch, spconv'):
        SceneEncoder.from_checkpoint(checkpoint, backend="mink")
    with pytest.raises(MissingDependencyError, match=r'runs on CUDA only.*use backend "torch" on the CPU'):
        SceneEncoder.from_checkpoint(checkpoint, backend="spconv")
