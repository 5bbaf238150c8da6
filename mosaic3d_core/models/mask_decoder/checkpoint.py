"""Reading and writing mask decoders: safetensors with JSON metadata, nothing that could be executed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.mask_decoder.config import MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.decoder import MaskDecoder
from mosaic3d_core.models.tensor_files import read_net, write_net

_WHAT, _VERSION = "mask decoder", "1"


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
        own = str(self.metadata.get("encoder"))
        if own != head.fingerprint():
            raise CheckpointError(f"mask decoder {name} was trained with {_difference(own, head)}")


def _difference(own: str, head: FoldedHead) -> str:
    digest, _, condition = own.partition("@")
    if digest != head.fingerprint().partition("@")[0]:
        return "another encoder: use the decoder that belongs to this one, or none"
    now = "none" if head.condition is None else f"'{head.condition}'"
    return f"condition '{condition or 'none'}' of this encoder, which has {now} now: choose that condition, or another decoder"


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
    write_net(path, _WHAT, _VERSION, model, model.config.to_dict(), {**metadata, "encoder": head.fingerprint()})


def load_decoder(path: str | os.PathLike[str]) -> LoadedDecoder:
    """Read a decoder.

    Raises:
        CheckpointError: If the file is missing, damaged or something else.
    """
    return LoadedDecoder(*read_net(path, _WHAT, _VERSION, lambda values: MaskDecoder(MaskDecoderConfig.from_dict(values))))
