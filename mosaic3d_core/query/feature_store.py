"""Keeping an encoded map inside a map file, so that it can be queried again without the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mosaic3d_core.errors import MapFileError

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot
    from mosaic3d_core.models.scene_encoder import FeatureMap

_KEY = "features"
_ARRAYS = ("features", "voxel_of_point", "cells", "head_weight")


def pack_features(feature_map: FeatureMap) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and arrays for ``save_map(snapshot, path, metadata, extras)``.

    Features are kept in half precision; scores change by about a thousandth.

    Args:
        feature_map: The encoded map.

    Returns:
        Metadata (JSON values) and extra arrays.
    """
    extras: dict[str, np.ndarray] = {
        "features": feature_map.features.astype(np.float16),
        "voxel_of_point": feature_map.voxel_of_point.astype(np.int32),
        "cells": feature_map.cells,
        "head_weight": feature_map.head.weight,
    }
    if feature_map.head.bias is not None:
        extras["head_bias"] = feature_map.head.bias
    metadata = {
        "text_encoder": feature_map.text_encoder_name,
        "logit_scale": float(feature_map.logit_scale),
        "cell_size_m": float(feature_map.cell_size_m),
        "encode_ms": float(feature_map.encode_ms),
        "condition": feature_map.head.condition,
    }
    return {_KEY: metadata}, extras


def unpack_features(snapshot: MapSnapshot, metadata: Mapping[str, Any], extras: Mapping[str, np.ndarray]) -> FeatureMap | None:
    """The encoded map of a map file, or None if it was saved without features.

    Args:
        snapshot: The map.
        metadata: Metadata of the file.
        extras: Extra arrays of the file.

    Raises:
        MapFileError: If the features are damaged or belong to another map.
    """
    if _KEY not in metadata:
        return None
    from mosaic3d_core.models.folded_head import FoldedHead
    from mosaic3d_core.models.scene_encoder import FeatureMap

    try:
        about = dict(metadata[_KEY])
        features, voxel_of_point, cells, weight = (extras[name] for name in _ARRAYS)
        condition = about.get("condition")
        head = FoldedHead(weight, extras.get("head_bias"), None if condition is None else str(condition))
        name, scale = str(about["text_encoder"]), float(about["logit_scale"])
        encode_ms, cell_size_m = float(about["encode_ms"]), float(about["cell_size_m"])
    except (KeyError, TypeError, ValueError) as error:
        raise MapFileError(f"the features in the map file are damaged ({error}); fuse the map again") from error
    sane = features.ndim == 2 and features.shape[1] == head.feature_dim and voxel_of_point.shape == (len(snapshot),)
    sane = sane and cells.shape == (len(features), 3) and cell_size_m > 0
    if not sane or (len(snapshot) and not 0 <= voxel_of_point.min() <= voxel_of_point.max() < len(features)):
        raise MapFileError("the features in the map file do not belong to its map; fuse the map again")
    features = np.ascontiguousarray(features, np.float32)
    return FeatureMap(
        snapshot,
        features,
        head.norms(features),
        voxel_of_point.astype(np.int64),
        np.ascontiguousarray(cells, np.int32),
        cell_size_m,
        head,
        name,
        scale,
        encode_ms,
    )
