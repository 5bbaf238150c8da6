"""Checkpoints come back as they were saved, official files are recognised, and bad files are refused with a reason."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.building import build_sparse_unet
from mosaic3d_core.models.checkpoint import load_checkpoint, save_checkpoint

METADATA = {
    "text_encoder": "minilm",
    "voxel_size_m": 0.04,
    "input_channels": ["color", "height"],
    "logit_scale": 20.0,
    "seed": 3,
}


def small(**changes):
    settings = {"in_channels": 4, "out_channels": 16, "base": 8, "channels": (8,) * 8, **changes}
    return build_sparse_unet("narrow", **settings)


@pytest.fixture(scope="module")
def official():
    """The state dict of a plain spunet14a under its official names."""
    return {f"net.{name}": value for name, value in build_sparse_unet("spunet14a").state_dict().items()}


def test_a_saved_net_comes_back_whole(tmp_path):
    net = small()
    save_checkpoint(tmp_path / "a" / "net.safetensors", net, METADATA)
    loaded = load_checkpoint(tmp_path / "a" / "net.safetensors")
    assert loaded.config == net.config
    assert loaded.metadata == METADATA
    assert not loaded.model.training
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    assert os.listdir(tmp_path / "a") == ["net.safetensors"]


def test_official_files_are_recognised_by_their_names_and_shapes(tmp_path, official):
    extra = {"caption_loss.logit_scale": torch.tensor(5.0), "clip_encoder.ln_final.weight": torch.ones(3)}
    torch.save({"state_dict": {**official, **extra}}, tmp_path / "net.ckpt")
    loaded = load_checkpoint(tmp_path / "net.ckpt")
    assert loaded.config.name == "spunet14a"
    assert loaded.metadata["text_encoder"].startswith("open_clip:hf-hub:UCSC-VLAA")
    assert loaded.metadata["voxel_size_m"] == 0.02
    assert loaded.metadata["logit_scale"] == pytest.approx(148.41, abs=0.01)
    assert torch.equal(loaded.model.final.weight, official["net.final.weight"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"checkpoint .*none.ckpt does not exist; give the path"):
        load_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("kept", [5, 60, 400, 20_000])
@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
def test_a_truncated_file_is_refused(tmp_path, kind, kept):
    file = tmp_path / f"net.{kind}"
    if kind == "ckpt":
        torch.save({"state_dict": small().state_dict()}, file)
    else:
        save_checkpoint(file, small(), METADATA)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="cut short: copy it again"):
        load_checkpoint(file)


def test_a_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "net.ckpt"
    file.write_text("this is not a checkpoint at all, but a text\n" * 10)
    with pytest.raises(CheckpointError, match=r"net\.ckpt"):
        load_checkpoint(file)


class _Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickled_objects_are_refused_and_never_run(tmp_path, writer):
    trap = tmp_path / "sprung"
    content = {"state_dict": {"a": _Trap(str(trap))}}
    file = tmp_path / "net.ckpt"
    if writer == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=r"holds pickled objects other than tensors and was refused|cannot be read"):
        load_checkpoint(file)
    assert not trap.exists()


def test_missing_extra_and_misshapen_entries_are_named(tmp_path, official):
    state = dict(official)
    del state["net.enc.2.block0.bn1.weight"]
    state["net.enc.9.surprise"] = torch.ones(1)
    state["net.down.1.0.weight"] = torch.ones(64, 2, 2, 2, 31)
    torch.save({"state_dict": state}, tmp_path / "net.ckpt")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path / "net.ckpt")
    message = str(error.value)
    assert 'does not fit the architecture "spunet14a"' in message
    assert "1 missing: enc.2.block0.bn1.weight" in message
    assert "1 unexpected: enc.9.surprise" in message
    assert "1 misshapen: down.1.0.weight (64, 2, 2, 2, 31) instead of (64, 2, 2, 2, 32)" in message


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"net.layer1.weight": torch.ones(1)}, r"is not a SparseUNet: it lacks conv_input.0.weight; it has layer1.weight"),
        ({"lr": 0.1}, "has no state_dict of tensors"),
    ],
)
def test_other_architectures_are_refused(tmp_path, state, message):
    torch.save({"state_dict": state}, tmp_path / "net.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "net.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_channels": ["color"]}, "make 3 features, but its first layer takes 4"),
        ({"input_channels": ["colour", "height"]}, "unknown input channels"),
        ({"voxel_size_m": -1.0}, "must be positive"),
        ({"seed": object()}, "is not usable"),
    ],
)
def test_impossible_metadata_is_refused_when_saving(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / "net.safetensors", small(), {**METADATA, **change})
    assert not any(tmp_path.iterdir())


def test_lacking_metadata_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="lacks text_encoder, logit_scale"):
        save_checkpoint(tmp_path / "n.safetensors", small(), {"voxel_size_m": 0.04, "input_channels": ["color", "height"]})


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*file/net"):
        save_checkpoint(tmp_path / "file" / "net.safetensors", small(), METADATA)
