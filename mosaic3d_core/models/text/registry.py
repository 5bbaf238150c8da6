"""Text encoders by name."""

from __future__ import annotations

import os

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.text.base import split_model_path
from mosaic3d_core.models.text.cache import CachedTextEncoder
from mosaic3d_core.models.text.minilm import MiniLMEncoder
from mosaic3d_core.models.text.recap_clip import NAME as RECAP_CLIP
from mosaic3d_core.models.text.recap_clip import RecapClipEncoder


def get_text_encoder(
    name: str = "minilm", cache_dir: str | os.PathLike[str] | None = None, capacity: int = 4096
) -> CachedTextEncoder:
    """A text encoder by name, cached. Its model is loaded with the first text that is not in the cache.

    Args:
        name: "minilm", "open_clip:NAME" or "open_clip:NAME:PATH" (see :class:`~.open_clip.OpenClipEncoder`). With the name of
            Recap-CLIP, PATH may be a published checkpoint, whose text tower then serves (:class:`~.recap_clip.RecapClipEncoder`).
        cache_dir: Folder that keeps vectors across processes, or None.
        capacity: Most texts kept in memory.

    Returns:
        The encoder.

    Raises:
        CheckpointError: If the name is unknown.
    """
    kind, _, rest = name.partition(":")
    if kind == "minilm" and not rest:
        return CachedTextEncoder("minilm", MiniLMEncoder, MiniLMEncoder.dim, capacity, cache_dir)
    if kind == "open_clip" and rest:

        def make() -> CachedTextEncoder | object:
            model, path = split_model_path(rest)
            if path is not None and f"open_clip:{model}" == RECAP_CLIP and not os.path.isdir(path):
                return RecapClipEncoder(path)
            from mosaic3d_core.models.text.open_clip import OpenClipEncoder

            return OpenClipEncoder(rest)

        return CachedTextEncoder(name, make, None, capacity, cache_dir)  # type: ignore[arg-type]
    raise CheckpointError(f'unknown text encoder "{name}"; choose minilm, open_clip:NAME or open_clip:NAME:PATH')
