"""The text tower of Recap-CLIP as it lies in the published checkpoints: texts are encoded without open_clip or a network.

A published file holds the whole frozen CLIP model under ``clip_encoder.``. Of it this reads the text side only, memory-mapped.
The tower is the one of the model's public configuration: 24 pre-norm blocks without a causal mask over 128 positions, the last of
which is the sentence; WordPiece tokens of bert-base-uncased (the vocabulary that the MiniLM package carries) without separator,
padding attended like any token.
"""

from __future__ import annotations

import html
import pickle
import threading
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mosaic3d_core.errors import CheckpointError, MissingDependencyError
from mosaic3d_core.models.text.minilm import installed_model
from mosaic3d_core.sparse.matrix_product import multiply

NAME = "open_clip:hf-hub:UCSC-VLAA/ViT-L-16-HTxt-Recap-CLIP"
PREFIX = "clip_encoder."
_VOCABULARY = 32_000
_HEAD_WIDTH = 64
_SEPARATOR = 102
_BATCH = 16


def holds_text_tower(state: Mapping[str, Tensor], prefix: str = PREFIX) -> bool:
    """Whether a state dict holds a text tower that this module runs."""
    table = state.get(f"{prefix}token_embedding.weight")
    return table is not None and table.ndim == 2 and len(table) == _VOCABULARY and f"{prefix}text_projection" in state


class RecapClipEncoder:
    """Text encoder from the tensors of a published checkpoint or of the Recap-CLIP model itself. Thread-safe.

    Args:
        path: A published ``.ckpt``, or the weights of Recap-CLIP (``.bin`` or ``.safetensors``).

    Raises:
        CheckpointError: If the file cannot be read or holds no such text tower.
        MissingDependencyError: If the package with the vocabulary is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = f"{NAME}:{path}"
        state = _read(Path(path))
        prefix = PREFIX if holds_text_tower(state) else ""
        if not holds_text_tower(state, prefix):
            raise CheckpointError(
                f"{path} holds no text tower of Recap-CLIP ({PREFIX}token_embedding.weight with {_VOCABULARY:,} rows): give a "
                f"published checkpoint, the weights of the model, or install open_clip and name {NAME}"
            )
        self._tower = _TextTower(state, prefix, str(path))
        self._tokenizer = _load_tokenizer(self._tower.positions)
        self._lock = threading.Lock()
        self.dim = self._tower.dim

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to unit vectors (Q, D) float32; no texts give (0, D)."""
        vectors = np.empty((len(texts), self.dim), np.float32)
        with self._lock:
            for start in range(0, len(texts), _BATCH):
                part = list(texts[start : start + _BATCH])
                with torch.inference_mode():
                    found = self._tower(self._tokens(part))
                    vectors[start : start + len(part)] = functional.normalize(found, dim=1).numpy()
        return vectors

    def _tokens(self, texts: list[str]) -> Tensor:
        tokens = torch.zeros(len(texts), self._tower.positions, dtype=torch.long)
        for row, text in enumerate(texts):
            clean = " ".join(html.unescape(html.unescape(text)).split())
            ids = torch.tensor(self._tokenizer.encode(clean).ids)
            tokens[row, : len(ids)] = torch.where(ids == _SEPARATOR, 0, ids)
        return tokens


class _TextTower:
    def __init__(self, state: Mapping[str, Tensor], prefix: str, file: str) -> None:
        self._state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
        self._file = file
        width = self._get("token_embedding.weight").shape[1]
        if width % _HEAD_WIDTH:
            raise CheckpointError(f"the text tower of {file} has width {width}, expected a multiple of {_HEAD_WIDTH}")
        self._heads = width // _HEAD_WIDTH
        self.positions = len(self._get("positional_embedding"))
        self.dim = int(self._get("text_projection").shape[1])
        blocks = {name.split(".")[2] for name in self._state if name.startswith("transformer.resblocks.")}
        self._blocks = sorted(blocks, key=int)

    def _get(self, name: str) -> Tensor:
        if name not in self._state:
            raise CheckpointError(f"the text tower of {self._file} lacks {name}: the file is not a whole Recap-CLIP")
        return self._state[name].float()

    def _linear(self, x: Tensor, weight: str, bias: str) -> Tensor:
        flat = multiply(x.flatten(0, -2), self._get(weight).t()) + self._get(bias)
        return flat.unflatten(0, x.shape[:-1])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self._get(f"{name}.weight"), self._get(f"{name}.bias"))

    def _attend(self, x: Tensor, block: str) -> Tensor:
        joint = self._linear(x, f"{block}.attn.in_proj_weight", f"{block}.attn.in_proj_bias")
        query, key, value = (part.unflatten(-1, (self._heads, -1)).transpose(1, 2) for part in joint.chunk(3, dim=-1))
        found = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return self._linear(found, f"{block}.attn.out_proj.weight", f"{block}.attn.out_proj.bias")

    def __call__(self, tokens: Tensor) -> Tensor:
        """Tokens (Q, L) to vectors (Q, D) in the space shared with images."""
        x = self._get("token_embedding.weight")[tokens] + self._get("positional_embedding")
        for number in self._blocks:
            block = f"transformer.resblocks.{number}"
            x = x + self._attend(self._norm(x, f"{block}.ln_1"), block)
            hidden = self._linear(self._norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc.weight", f"{block}.mlp.c_fc.bias")
            x = x + self._linear(functional.gelu(hidden), f"{block}.mlp.c_proj.weight", f"{block}.mlp.c_proj.bias")
        return self._norm(x, "ln_final")[:, -1] @ self._get("text_projection")


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(
            f"the file {path} of the text encoder does not exist: set the text encoder to {NAME}:FILE with a published "
            f"checkpoint, or install open_clip and set it to {NAME}"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds pickled objects other than tensors and was refused") from error
    except Exception as error:  # torch, zipfile and safetensors raise a dozen kinds for a damaged file
        raise CheckpointError(f"{path} cannot be read ({error}); it may be cut short: copy it again") from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _load_tokenizer(positions: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError("the text tower of a checkpoint needs tokenizers: pip install tokenizers") from error
    tokenizer = Tokenizer.from_file(str(installed_model() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(positions)
    return tokenizer
