"""Weights of Segment3D (arXiv 2312.17232) as a start for the mask decoder.

The published code renames modules and loads what then fits by name; attention and feed-forward layers, which Segment3D keeps in
lists of lists, stay random there. Here the lists are unpacked, so these layers are taken over as well. What reads voxel features
(`decoder_proj`, `linear`) has another width and stays random.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.mask_decoder.decoder import MaskDecoder

_RENAMED = {
    "query_projection": "query_proj",
    "mask_embed_head": "mask_head",
    "class_embed_head": "class_head",
    "ffn_attention": "ffn",
    "lin_squeeze": "linear",
    "mask_features_head": "decoder_proj",
}
_LISTS = ("cross_attention", "self_attention", "ffn", "linear")
#: Segment3D decodes from coarse to fine on several levels; the finest is what this decoder works on.
_NESTED = re.compile(r"^(\w+)\.(\d+)\.(\d+)\.(.+)$")


@dataclass(frozen=True)
class TakenOver:
    """What became of the weights.

    Attributes:
        taken: Names that were taken over.
        random: Names of the decoder that stay as they were.
    """

    taken: tuple[str, ...]
    random: tuple[str, ...]


def read_segment3d(path: Path) -> dict[str, Tensor]:
    """Tensors of a Segment3D checkpoint under the names of the mask decoder. Nothing in the file is executed.

    Raises:
        CheckpointError: If the file is missing or damaged, holds pickled objects, or is something else.
    """
    if not path.is_file():
        raise CheckpointError(f"Segment3D checkpoint {path} does not exist: give the path of segment3d.ckpt")
    with path.open("rb") as stream:
        start = stream.read(2)
    if start != b"PK" and start[:1] != b"\x80":
        raise CheckpointError(f"{path} cannot be read (it is no file of torch.save): copy it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds pickled objects other than tensors and was refused, as loading could run code; where you trust it, "
            'save its tensors alone: torch.save({"state_dict": torch.load(FILE, weights_only=False)["state_dict"]}, OUT)'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read ({(str(error).splitlines() or [''])[0]}): copy it again") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(str(name).startswith("model.query_projection") for name in state):
        raise CheckpointError(f"{path} is no Segment3D checkpoint: it has no model.query_projection")
    finest = _finest_level(state)
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        renamed = _decoder_name(str(name), finest)
        if renamed is not None and isinstance(value, Tensor):
            found[renamed] = value.squeeze(-1) if renamed.startswith("query_proj") and value.ndim == 3 else value
    return found


def _finest_level(state: dict[str, Tensor]) -> int:
    levels = [int(m[3]) for name in state if (m := _NESTED.match(str(name).removeprefix("model."))) and m[1] == "cross_attention"]
    return max(levels, default=0)


def _decoder_name(name: str, finest: int) -> str | None:
    """The decoder's name for a weight of Segment3D; None for what it has no use for."""
    if not name.startswith("model.") or name.startswith("model.backbone."):
        return None
    head, _, rest = name.removeprefix("model.").partition(".")
    name = f"{_RENAMED.get(head, head)}.{rest}"
    nested = _NESTED.match(name)
    if nested and nested[1] in _LISTS:
        shared, level = int(nested[2]), int(nested[3])
        return f"{nested[1]}.0.{nested[4]}" if (shared, level) == (0, finest) else None
    return name


def take_over(decoder: MaskDecoder, weights: dict[str, Tensor]) -> TakenOver:
    """Copy weights of equal name and shape into a decoder.

    Raises:
        CheckpointError: If none fits.
    """
    own = decoder.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise CheckpointError("no weight of this checkpoint fits the mask decoder: Segment3D's has a hidden width of 128")
    decoder.load_state_dict({**own, **fitting})
    return TakenOver(tuple(sorted(fitting)), tuple(sorted(set(own) - set(fitting))))
