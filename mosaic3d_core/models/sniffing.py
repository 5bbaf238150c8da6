"""Recognising an architecture from the names and shapes of a state dict, and naming what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.building import CONDITIONS
from mosaic3d_core.models.config import VARIANTS, SparseUNetConfig

_SHOWN = 4


def sniff_config(state: Mapping[str, Tensor], file: str) -> SparseUNetConfig:
    """Architecture of an official net, read from its weights.

    Args:
        state: Names and tensors, without the ``net.`` prefix.
        file: Name of the file for messages.

    Raises:
        CheckpointError: If it is a net of another family.
    """
    conditions: tuple[str, ...] = ()
    if "embedding_table.weight" in state:
        count = len(state["embedding_table.weight"])
        conditions = CONDITIONS.get(count, tuple(f"condition{k}" for k in range(count)))
        state = {name[len("backbone.") :]: value for name, value in state.items() if name.startswith("backbone.")}
    stem_name = "conv_input.conv.weight" if "conv_input.conv.weight" in state else "conv_input.0.weight"
    try:
        stem, head = state[stem_name], state["final.weight"]
        encoder = [state[f"enc.{stage}.block0.conv2.weight"].shape[0] for stage in range(4)]
        decoder = [state[f"dec.{stage}.block0.conv2.weight"].shape[0] for stage in (3, 2, 1, 0)]
    except KeyError as error:
        raise CheckpointError(
            f"checkpoint {file} is not a SparseUNet: it lacks {error.args[0]}; it has {_some(state)}"
        ) from error
    blocks = [_count_blocks(state, f"enc.{stage}.") for stage in range(4)]
    blocks += [_count_blocks(state, f"dec.{stage}.") for stage in (3, 2, 1, 0)]
    shape: dict[str, Any] = {
        "in_channels": stem.shape[-1],
        "out_channels": head.shape[0],
        "base": stem.shape[0],
        "channels": tuple(encoder + decoder),
        "blocks": tuple(blocks),
        "block": "bottleneck" if any(".conv3." in name for name in state) else "basic",
        "head_bias": "final.bias" in state,
        "conditions": conditions,
    }
    for name, known in VARIANTS.items():
        if all(getattr(known, field) == shape[field] for field in ("channels", "blocks", "block")):
            return SparseUNetConfig(name + ("+ppt" if conditions else ""), **shape)
    return SparseUNetConfig("custom", **shape)


def check_state(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str, file: str) -> None:
    """Compare a state dict with that of the net it is for.

    Raises:
        CheckpointError: Naming the first few missing, unexpected and misshapen entries.
    """
    missing = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in wanted]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    found = [
        f"{len(entries)} {what}: {_some(entries)}"
        for what, entries in (("missing", missing), ("unexpected", extra), ("misshapen", misshapen))
        if entries
    ]
    if found:
        raise CheckpointError(f'checkpoint {file} does not fit the architecture "{name}": {"; ".join(found)}')


def _count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.split(".")[2] for name in state if name.startswith(prefix)})


def _some(entries: Iterable[str]) -> str:
    entries = list(entries)
    rest = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return ", ".join(entries[:_SHOWN]) + rest if entries else "nothing"
