"""Caption embeddings computed once per dataset and kept beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.models.text.base import TextEncoder


class TextTable:
    """Unit-norm embeddings of a fixed set of texts.

    Args:
        texts: All texts that will be asked for.
        encoder: Name of the text encoder.
        cache: File that keeps the embeddings; computed again when the texts or the encoder change.
        text_cache: Folder of text vectors.
    """

    def __init__(
        self, texts: Iterable[str], encoder: str, cache: Path | None = None, text_cache: str | os.PathLike[str] | None = None
    ) -> None:
        ordered = sorted(set(texts))
        key = hashlib.sha256("\n".join([encoder, *ordered]).encode()).hexdigest()
        found = self._read(cache, key)
        if found is None:
            model = get_text_encoder(encoder, cache_dir=text_cache)
            parts = [
                np.asarray(model.encode(ordered[i : i + 256])) for i in track(range(0, len(ordered), 256), description="captions")
            ]
            found = np.concatenate(parts).astype(np.float16)
            if cache is not None:
                temporary = cache.with_suffix(".tmp.npz")
                np.savez(temporary, key=np.array(key), embeddings=found)
                os.replace(temporary, cache)
        self.embeddings = torch.from_numpy(found.astype(np.float32))  # (T, D)
        self._row = {text: i for i, text in enumerate(ordered)}

    @staticmethod
    def _read(cache: Path | None, key: str) -> np.ndarray | None:
        if cache is None or not cache.exists():
            return None
        with np.load(cache, allow_pickle=False) as data:
            return data["embeddings"] if str(data["key"]) == key else None

    def __call__(self, texts: list[str]) -> Tensor:
        """Embeddings (len(texts), D) float32."""
        return torch.nn.functional.normalize(self.embeddings[[self._row[t] for t in texts]], dim=1)


class OnlineTexts:
    """Unit-norm embeddings of texts as they come, for more captions than a table should hold.

    Args:
        encoder: The text encoder; it remembers the last texts.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    def __call__(self, texts: list[str]) -> Tensor:
        """Embeddings (len(texts), D) float32."""
        return torch.from_numpy(np.asarray(self._encoder.encode(texts), np.float32))
