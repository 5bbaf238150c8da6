"""Checkpoints of a training that are whole, or the ones before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mosaic3d_core.data.caption_files import write_atomically
from mosaic3d_core.errors import Mosaic3DError


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, then puts it in its place.

    Lightning's own way writes to the system's folder for temporary files and copies from there where that lies on another file
    system: a kill in between, or a full disk, would leave half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save.

        Raises:
            Mosaic3DError: If it cannot be written; what was there before stays.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, lambda temporary: torch.save(checkpoint, temporary))
        except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError for a full disk
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            kept = "the one before is kept: make room and run again with resume=true" if target.exists() else "make room"
            raise Mosaic3DError(f"cannot write checkpoint {target} ({reason}): {kept}") from error
