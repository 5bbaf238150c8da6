"""Encoders, text encoders and checkpoints. Names load on first use, so that importing a submodule stays cheap."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mosaic3d_core.models.building import build_sparse_unet
    from mosaic3d_core.models.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
    from mosaic3d_core.models.encoder_input import build_encoder_input
    from mosaic3d_core.models.folded_head import FoldedHead
    from mosaic3d_core.models.scene_encoder import FeatureMap, SceneEncoder

_HOME = {
    "FeatureMap": "scene_encoder",
    "FoldedHead": "folded_head",
    "LoadedCheckpoint": "checkpoint",
    "SceneEncoder": "scene_encoder",
    "build_encoder_input": "encoder_input",
    "build_sparse_unet": "building",
    "load_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
}

__all__ = [
    "FeatureMap",
    "FoldedHead",
    "LoadedCheckpoint",
    "SceneEncoder",
    "build_encoder_input",
    "build_sparse_unet",
    "load_checkpoint",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
