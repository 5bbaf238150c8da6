"""Small nets as files: safetensors with their architecture and metadata as JSON, nothing that could be executed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from mosaic3d_core.data.caption_files import write_atomically
from mosaic3d_core.errors import CheckpointError

Net = TypeVar("Net", bound=nn.Module)


def write_net(
    path: str | os.PathLike[str],
    what: str,
    version: str,
    net: nn.Module,
    architecture: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    """Write a net as one file, whole or not at all.

    Args:
        path: File to write; an existing one is replaced at the end.
        what: What it is, for people, such as "mask decoder"; the format of the file is named after it.
        version: Version of the format.
        net: The net.
        architecture: Plain values that its like is built from.
        metadata: Plain values.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    from safetensors.torch import save_file

    target = Path(path)
    header = {
        "format": _format(what),
        "version": version,
        "architecture": json.dumps(dict(architecture)),
        "metadata": json.dumps(dict(metadata)),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, lambda temporary: save_file(tensors, str(temporary), metadata=header))
    except OSError as error:
        raise CheckpointError(f"cannot write {what} {target}: {error.strerror or error}") from error


def read_net(
    path: str | os.PathLike[str], what: str, version: str, build: Callable[[dict[str, Any]], Net]
) -> tuple[Net, dict[str, Any]]:
    """Read a net that :func:`write_net` wrote.

    Args:
        path: The file.
        what: What it has to be, as it was written.
        version: Version of the format.
        build: Makes the net of its architecture.

    Returns:
        The net on the CPU in evaluation mode, and the metadata.

    Raises:
        CheckpointError: If the file is missing, damaged or something else.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"{what} {file} does not exist; give the path of a .safetensors file")
    try:
        with safe_open(str(file), framework="pt", device="cpu") as opened:
            header = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{what} {file} is not a whole safetensors file ({error}): copy it again") from error
    if header.get("format") != _format(what) or header.get("version") != version:
        raise CheckpointError(f"{file} is no {what} of this version ({header.get('format', 'no format')})")
    try:
        net = build(json.loads(header["architecture"]))
        metadata = json.loads(header["metadata"])
        net.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{what} {file} is damaged: {str(error).splitlines()[0]}") from error
    return net.eval(), metadata


def _format(what: str) -> str:
    return "mosaic3d-" + what.replace(" ", "-")
