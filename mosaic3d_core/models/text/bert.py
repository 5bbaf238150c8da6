"""Forward pass of a BERT text encoder (arXiv 1810.04805) from its weights.

A sentence encoder needs nothing but this, and importing a library of models for it costs seconds at every
start.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from mosaic3d_core.errors import CheckpointError


class BertEncoder:
    """Token vectors of a BERT model in evaluation mode, float32.

    Args:
        folder: Folder with config.json and model.safetensors, as published for the model.

    Raises:
        CheckpointError: If the files cannot be read or are not those of a BERT model.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            state = load_file(str(folder / "model.safetensors"))
            self.layers = int(config["num_hidden_layers"])
            self.heads = int(config["num_attention_heads"])
            self.max_tokens = int(config["max_position_embeddings"])
            self._eps = float(config["layer_norm_eps"])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise CheckpointError(f"the text model in {folder} cannot be read ({error}); install it again") from error
        if config.get("hidden_act") != "gelu" or config.get("model_type") != "bert":
            raise CheckpointError(f"the text model in {folder} is not a BERT model with GELU; install it again")
        self._state = {name: tensor.float() for name, tensor in state.items()}

    def __call__(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Encode token numbers (B, T) with a mask (B, T) of 1 for text and 0 for padding -> (B, T, C)."""
        state = self._state
        hidden = state["embeddings.word_embeddings.weight"][tokens]
        hidden = hidden + state["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        hidden = hidden + state["embeddings.token_type_embeddings.weight"][0]
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        visible = mask[:, None, None, :].bool()
        for layer in range(self.layers):
            hidden = self._layer(hidden, visible, f"encoder.layer.{layer}")
        return hidden

    def _layer(self, hidden: Tensor, visible: Tensor, at: str) -> Tensor:
        batch, length, width = hidden.shape
        query, key, value = (
            self._linear(hidden, f"{at}.attention.self.{name}").view(batch, length, self.heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        mixed = self._linear(mixed.transpose(1, 2).reshape(batch, length, width), f"{at}.attention.output.dense")
        hidden = self._norm(hidden + mixed, f"{at}.attention.output.LayerNorm")
        wide = functional.gelu(self._linear(hidden, f"{at}.intermediate.dense"))
        return self._norm(hidden + self._linear(wide, f"{at}.output.dense"), f"{at}.output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self._state[f"{name}.weight"], self._state[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._state[f"{name}.weight"], self._state[f"{name}.bias"]
        return functional.layer_norm(x, (x.shape[-1],), weight, bias, self._eps)
