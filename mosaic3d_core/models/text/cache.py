"""Cache of text vectors: least recently used in memory, and optionally one file per text on disk."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mosaic3d_core.models.text.base import TextEncoder, base_name

_log = logging.getLogger(__name__)


class CachedTextEncoder:
    """A text encoder that remembers; it is made with the first text that is not in the cache. Thread-safe.

    Args:
        name: Name of the encoder; part of the key on disk.
        dim: Width of its vectors, or None to learn it from the encoder.
        make: Makes the encoder.
        capacity: Most texts kept in memory, at least 1.
        cache_dir: Folder for vectors that outlive the process, or None. It may be shared by processes.

    Raises:
        ValueError: If the capacity is less than 1.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], TextEncoder],
        dim: int | None = None,
        capacity: int = 4096,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.name = name
        self._make = make
        self._dim = dim
        self._capacity = capacity
        self._folder = None if cache_dir is None else Path(cache_dir).expanduser() / _digest(base_name(name))[:16]
        self._memory: OrderedDict[str, np.ndarray] = OrderedDict()
        self._memory_lock = threading.Lock()
        self._encoder: TextEncoder | None = None
        self._make_lock = threading.Lock()

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        if self._dim is None:
            self._dim = self._get_encoder().dim
        return self._dim

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to unit vectors (Q, D) float32; each distinct new text is encoded once. No texts give (0, D).

        Raises:
            TypeError: If ``texts`` is one string instead of a sequence of them.
        """
        if isinstance(texts, str):
            raise TypeError(f'texts must be a sequence of strings, got one string; write ["{texts[:40]}"]')
        found: dict[str, np.ndarray] = {}
        for text in dict.fromkeys(texts):
            vector = self._recall(text)
            if vector is not None:
                found[text] = vector
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            for text, vector in zip(new, self._get_encoder().encode(new), strict=True):
                found[text] = vector.copy()
                self._remember(text, found[text])
                self._write(text, found[text])
        if not found:
            return np.empty((0, self.dim), np.float32)
        # not by `dim`: with every vector in the cache the encoder need not even be installed
        return np.stack([found[text] for text in texts]).astype(np.float32)

    def contains(self, text: str) -> bool:
        """Whether a text would be answered without running the encoder."""
        return self._recall(text) is not None

    def _get_encoder(self) -> TextEncoder:
        with self._make_lock:
            if self._encoder is None:
                self._encoder = self._make()
            return self._encoder

    def _recall(self, text: str) -> np.ndarray | None:
        with self._memory_lock:
            if text in self._memory:
                self._memory.move_to_end(text)
                return self._memory[text]
        vector = self._read(text)
        if vector is not None:
            self._remember(text, vector)
        return vector

    def _remember(self, text: str, vector: np.ndarray) -> None:
        with self._memory_lock:
            self._memory[text] = vector
            self._memory.move_to_end(text)
            while len(self._memory) > self._capacity:
                self._memory.popitem(last=False)

    def _path(self, text: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{_digest(text)}.npy"

    def _read(self, text: str) -> np.ndarray | None:
        path = self._path(text)
        if path is None or not path.is_file():
            return None
        try:
            vector = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            _log.warning("ignoring the damaged text cache file %s (%s)", path, error)
            return None
        usable = vector.dtype == np.float32 and vector.ndim == 1 and self._dim in (None, len(vector))
        return vector if usable and np.isfinite(vector).all() else None

    def _write(self, text: str, vector: np.ndarray) -> None:
        path = self._path(text)
        if path is None:
            return
        temporary: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
            with os.fdopen(handle, "wb") as stream:
                np.save(stream, vector, allow_pickle=False)
            os.chmod(temporary, 0o644)  # several users may share a cache
            os.replace(temporary, path)
        except OSError as error:  # a cache that cannot be written must not stop a query
            _log.warning("cannot write the text cache %s (%s); going on without it", path.parent, error)
            self._folder = None
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
