"""Text towers of CLIP models through open_clip, by name or local file."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mosaic3d_core.errors import CheckpointError, MissingDependencyError
from mosaic3d_core.models.text.base import split_model_path

_BATCH = 64
_SCHEMES = ("hf-hub:", "local-dir:")
#: OpenAI's own names of its models.
_OPENAI = {"ViT-B/32": "ViT-B-32/openai", "ViT-B/16": "ViT-B-16/openai", "ViT-L/14@336px": "ViT-L-14-336/openai"}


class OpenClipEncoder:
    """Text side of an open_clip model. The model is loaded when it is made; safe to use from threads.

    Args:
        spec: "NAME" or "NAME:PATH". NAME is an open_clip architecture ("ViT-B-32"), one with a training tag
            ("ViT-B-32/openai", downloaded by open_clip), one of OpenAI's names ("ViT-L/14@336px") or "hf-hub:OWNER/MODEL".
            PATH is a local weights file, or for a model of the hub the folder that it was downloaded to.

    Raises:
        MissingDependencyError: If open_clip, torch and torchvision are not installed together.
        CheckpointError: If the weights cannot be had.
    """

    def __init__(self, spec: str) -> None:
        model_name, path = split_model_path(spec)
        self.name = f"open_clip:{spec}"
        if path is not None and not Path(path).exists():
            raise CheckpointError(f"the open_clip weights {path} do not exist; give the path of a downloaded file")
        model_name = _OPENAI.get(model_name, model_name)
        if path is not None and model_name.startswith("hf-hub:"):
            if not Path(path, "open_clip_config.json").is_file():
                raise CheckpointError(
                    f"{path} is not a folder with open_clip_config.json: fetch the model with "
                    f"hf download {model_name.removeprefix('hf-hub:')} --local-dir FOLDER and give that folder"
                )
            model_name, path = f"local-dir:{path}", None
        open_clip = _import_open_clip()
        architecture, _, tag = model_name.partition("/") if not model_name.startswith(_SCHEMES) else (model_name, "", "")
        if path is None and not tag and not model_name.startswith(_SCHEMES):
            raise CheckpointError(
                f'"{self.name}" names no weights; write open_clip:{architecture}/TAG, such as /openai, '
                f"or open_clip:{architecture}:PATH"
            )
        try:
            model = open_clip.create_model(architecture, pretrained=path or tag or None)
            self._tokenizer = open_clip.get_tokenizer(architecture)
        except Exception as error:  # open_clip, huggingface_hub and urllib raise a dozen kinds here
            raise CheckpointError(
                f'the open_clip model "{spec}" cannot be loaded ({error}); without a network, download its '
                f"weights elsewhere and name the file: open_clip:{architecture}:PATH"
            ) from error
        self._model = model.eval().requires_grad_(False)
        self._lock = threading.Lock()
        self.dim = int(self._forward(["a"]).shape[1])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to unit vectors (Q, D) float32; no texts give (0, D)."""
        if not len(texts):
            return np.empty((0, self.dim), np.float32)
        pieces = [self._forward(list(texts[start : start + _BATCH])) for start in range(0, len(texts), _BATCH)]
        return np.concatenate(pieces)

    def _forward(self, texts: list[str]) -> np.ndarray:
        with self._lock, torch.inference_mode():
            features = self._model.encode_text(self._tokenizer(texts)).float()
            return torch.nn.functional.normalize(features, dim=1).numpy()


def _import_open_clip() -> Any:
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch build raises RuntimeError
        raise MissingDependencyError(
            f"the text encoder needs open_clip, which does not import ({error}); install all three from one "
            "source: pip install torch torchvision open_clip_torch"
        ) from error
    return open_clip
