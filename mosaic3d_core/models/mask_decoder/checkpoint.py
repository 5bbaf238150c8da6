"""Reading and writing mask decoders: safetensors with JSON metadata, nothing that could be executed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mosaic3d_core.data.caption_files import write_atomically
from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.mask_decoder.config import MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.decoder import MaskDecoder

_FORMAT, _VERSION = "mosaic3d-mask-decoder", "1"


@dataclass(frozen=True)
class LoadedDecoder:
    """A mask decoder with what belongs to it.

    Attributes:
        model: The decoder on the CPU in evaluation mode, float32.
        metadata: "encoder" (fingerprint of the encoder's head), "text_encoder", and what else was saved.
    """

    model: MaskDecoder
    metadata: dict[str, Any]

    def check_encoder(self, head: FoldedHead, name: str) -> None:
        """Refuse an encoder that the decoder was not trained with.

        Args:
            head: Head of the encoder.
            name: What to call the decoder in the message.

        Raises:
            CheckpointError: If the width of the text space, or the encoder, is another one.
        """
        wanted = self.model.config.text_width
        if len(head.weight) != wanted:
            raise CheckpointError(
                f"mask decoder {name} reads a text space of {wanted}, but the encoder's has {len(head.weight)}: "
                "use the decoder that was trained with this encoder"
            )
        if self.metadata.get("encoder") != fingerprint(head):
            raise CheckpointError(
                f"mask decoder {name} was trained with another encoder: use the decoder that belongs to this one, or none"
            )


def fingerprint(head: FoldedHead) -> str:
    """What tells encoders apart: a digest of the head."""
    values = np.ascontiguousarray(head.weight, np.float32).tobytes()
    return hashlib.sha256(values + (b"" if head.bias is None else np.float32(head.bias).tobytes())).hexdigest()[:16]


def save_decoder(path: str | os.PathLike[str], model: MaskDecoder, head: FoldedHead, metadata: Mapping[str, Any]) -> None:
    """Write a decoder and its metadata as one file, whole or not at all.

    Args:
        path: File to write; an existing one is replaced at the end.
        model: The decoder.
        head: Head of the encoder that it was trained with.
        metadata: Plain values.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    from safetensors.torch import save_file

    target = Path(path)
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "architecture": json.dumps(model.config.to_dict()),
        "metadata": json.dumps({**metadata, "encoder": fingerprint(head)}),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, lambda temporary: save_file(tensors, str(temporary), metadata=header))
    except OSError as error:
        raise CheckpointError(f"cannot write mask decoder {target}: {error.strerror or error}") from error


def load_decoder(path: str | os.PathLike[str]) -> LoadedDecoder:
    """Read a decoder.

    Raises:
        CheckpointError: If the file is missing, damaged or something else.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"mask decoder {file} does not exist; give the path of a .safetensors file")
    try:
        with safe_open(str(file), framework="pt", device="cpu") as opened:
            header = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"mask decoder {file} is not a whole safetensors file ({error}): copy it again") from error
    if header.get("format") != _FORMAT or header.get("version") != _VERSION:
        raise CheckpointError(f"{file} is no mask decoder of this version ({header.get('format', 'no format')})")
    try:
        config = MaskDecoderConfig.from_dict(json.loads(header["architecture"]))
        metadata = json.loads(header["metadata"])
        model = MaskDecoder(config)
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"mask decoder {file} is damaged: {str(error).splitlines()[0]}") from error
    return LoadedDecoder(model.eval(), metadata)
