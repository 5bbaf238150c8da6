"""Reading and writing encoder checkpoints. Nothing that a file holds is ever executed.

Our own format is safetensors with JSON metadata. Official ``.ckpt`` files are read with
``weights_only=True``; their architecture is recognised from names and shapes.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.building import net_of
from mosaic3d_core.models.config import SparseUNetConfig
from mosaic3d_core.models.encoder_input import channel_count
from mosaic3d_core.models.prompt_driven import PromptDrivenUNet
from mosaic3d_core.models.published import PUBLISHED, download
from mosaic3d_core.models.sniffing import check_state, sniff_config
from mosaic3d_core.models.sparse_unet import SparseUNet
from mosaic3d_core.models.text.base import base_name
from mosaic3d_core.models.text.recap_clip import NAME as RECAP_CLIP
from mosaic3d_core.models.text.recap_clip import holds_text_tower

_FORMAT = "mosaic3d"
_VERSION = "1"

OFFICIAL_METADATA: dict[str, Any] = {
    "text_encoder": RECAP_CLIP,
    "voxel_size_m": 0.02,
    "input_channels": ["color"],
    "logit_scale": 100.0,
}


@dataclass(frozen=True)
class LoadedCheckpoint:
    """An encoder with what belongs to it.

    Attributes:
        model: The net on the CPU in evaluation mode, float32; prompt-driven when ``config.conditions`` names any.
        config: Its architecture.
        metadata: "text_encoder" (name, with the path of a file that holds it), "voxel_size_m", "input_channels",
            "logit_scale", and what else was saved.
    """

    model: SparseUNet | PromptDrivenUNet
    config: SparseUNetConfig
    metadata: dict[str, Any]


def save_checkpoint(path: str | os.PathLike[str], model: SparseUNet | PromptDrivenUNet, metadata: Mapping[str, Any]) -> None:
    """Write a net and its metadata as one safetensors file, whole or not at all.

    Args:
        path: File to write; an existing one is replaced at the end.
        model: The net.
        metadata: Plain values. Needs "text_encoder", "voxel_size_m", "input_channels" and "logit_scale".

    Raises:
        CheckpointError: If the metadata is incomplete or impossible, or the file cannot be written.
    """
    from safetensors.torch import save_file

    target = Path(path)
    values = _check_metadata(dict(metadata), model.config, str(target))
    values["text_encoder"] = base_name(str(values["text_encoder"]))  # a path of this machine means nothing on another
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "architecture": json.dumps(model.config.to_dict()),
        "metadata": json.dumps(values),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
        try:
            save_file(tensors, temporary, metadata=header)
            os.chmod(temporary, 0o644)  # mkstemp makes files private; a checkpoint is an ordinary file
            os.replace(temporary, target)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint {target}: {error.strerror or error}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> LoadedCheckpoint:
    """Read a checkpoint: our safetensors, an official ``.ckpt``, or a published encoder by name.

    Args:
        path: The file, or a key of ``published.PUBLISHED`` such as "spunet34c" (fetched when it is not in the cache).

    Returns:
        The net with its architecture and metadata.

    Raises:
        CheckpointError: If the file is missing, truncated, of another architecture, or holds pickled objects.
    """
    file = Path(path)
    if not file.is_file():
        if str(path) not in PUBLISHED:
            raise CheckpointError(
                f"checkpoint {file} does not exist; give the path of a .safetensors or .ckpt file, "
                f"or a published name ({', '.join(PUBLISHED)})"
            )
        file = download(str(path))
    try:
        with file.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {file}: {error.strerror or error}") from error
    # safetensors: 8 bytes of length, then "{". The length may start with any byte, so the brace decides.
    header: dict[str, str] = {}
    text_encoder = RECAP_CLIP
    if head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        state, has_text_tower = _read_torch(file)
        if has_text_tower:
            text_encoder = f"{RECAP_CLIP}:{file.resolve()}"
    else:
        state, header = _read_safetensors(file)
    if header.get("format") == _FORMAT:
        config, metadata = _parse_header(header, file)
    else:
        config, metadata = sniff_config(state, str(file)), dict(OFFICIAL_METADATA)
        metadata["text_encoder"] = text_encoder
        metadata["logit_scale"] = _official_scale(state)
        state = {name: state[name] for name in state if name != "caption_loss.logit_scale"}
    with torch.device("meta"):
        model = net_of(config)
    check_state(state, model.state_dict(), config.name, str(file))
    model.load_state_dict(state, assign=True)
    return LoadedCheckpoint(model.float().eval(), config, _check_metadata(metadata, config, str(file)))


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt", device="cpu") as opened:
            header = opened.metadata() or {}
            return {name: opened.get_tensor(name) for name in opened.keys()}, header  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {file} is not a whole safetensors file ({error}); it may be cut short: copy it again"
        ) from error


def _read_torch(file: Path) -> tuple[dict[str, Tensor], bool]:
    """Tensors of the net, and whether the file holds the text tower as well."""
    try:
        # memory-mapped: the text encoder that fills nine tenths of a published file is never read
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {file} holds pickled objects other than tensors and was refused, as loading could run "
            "code; save its state_dict alone, or convert it to safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"checkpoint {file} cannot be read ({first}); it may be cut short: copy it again") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"checkpoint {file} has no state_dict of tensors; is it a checkpoint of an encoder?")
    scale = {name: value for name, value in content.items() if name == "caption_loss.logit_scale"}
    prefixed = {name[4:]: value for name, value in content.items() if name.startswith("net.")}
    return {**(prefixed or dict(content)), **scale}, holds_text_tower(content)


def _official_scale(state: Mapping[str, Tensor]) -> float:
    """The learnt scale is stored as a logarithm and is not bounded, so it is not clamped here."""
    scale = state.get("caption_loss.logit_scale")
    return float(OFFICIAL_METADATA["logit_scale"]) if scale is None else math.exp(float(scale))


def _parse_header(header: Mapping[str, str], file: Path) -> tuple[SparseUNetConfig, dict[str, Any]]:
    if header.get("version") != _VERSION:
        raise CheckpointError(f"checkpoint {file} has format {header.get('version')}, not {_VERSION}; update this program")
    try:
        config = SparseUNetConfig.from_dict(json.loads(header["architecture"]))
        metadata = json.loads(header["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {file} has a damaged header: {error}") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"checkpoint {file} has a damaged header: metadata is not a table of values")
    return config, metadata


def _check_metadata(values: dict[str, Any], config: SparseUNetConfig, name: str) -> dict[str, Any]:
    missing = [key for key in OFFICIAL_METADATA if key not in values]
    if missing:
        raise CheckpointError(f"the metadata of checkpoint {name} lacks {', '.join(missing)}")
    try:
        json.dumps(values)
        channels = channel_count(tuple(values["input_channels"]))
        sizes = [float(values["voxel_size_m"]), float(values["logit_scale"])]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the metadata of checkpoint {name} is not usable: {error}") from error
    if channels != config.in_channels:
        raise CheckpointError(
            f"the input channels {values['input_channels']} of checkpoint {name} make {channels} features, "
            f"but its first layer takes {config.in_channels}"
        )
    if not all(math.isfinite(size) and size > 0.0 for size in sizes):
        raise CheckpointError(f"voxel_size_m and logit_scale of checkpoint {name} must be positive, got {sizes}")
    return values
