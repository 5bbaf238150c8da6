"""Keeping the instances of an encoded map inside its file, so that things have the ids that they had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mosaic3d_core.errors import MapFileError
from mosaic3d_core.query.instance_map import PRESENT, UNSEEN, MapInstance

if TYPE_CHECKING:
    from mosaic3d_core.models.scene_encoder import FeatureMap
    from mosaic3d_core.query.instance_view import InstanceView

_OWNER = "instances.of_cell"
_FEATURE = "instances.feature"
_STATES = (PRESENT, UNSEEN)
_LARGEST_ID = 2**31  # far from the end of what a message can hold
# One number per instance, by the name of its array.
_COLUMNS: dict[str, type] = {
    "id": np.int64,
    "quality": np.float64,
    "views": np.int64,
    "first_seen_ns": np.int64,
    "last_seen_ns": np.int64,
    "state": np.int64,
}


def pack_instances(view: InstanceView) -> dict[str, np.ndarray]:
    """Arrays for ``save_map(snapshot, path, metadata, extras)``, beside those of ``pack_features``.

    Args:
        view: The instances of the encoded map.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, dtype in _COLUMNS.items():
        values = (_STATES.index(one.state) if name == "state" else getattr(one, name) for one in view.instances)
        arrays[_name(name)] = np.fromiter(values, dtype, len(view))
    features = [one.feature for one in view.instances]
    return arrays | {
        _OWNER: view.owner.astype(np.int32),
        _FEATURE: np.stack(features) if features else np.zeros((0, 0), np.float32),
    }


def unpack_instances(feature_map: FeatureMap, extras: Mapping[str, np.ndarray]) -> tuple[MapInstance, ...] | None:
    """The instances of a map file, or None if it was saved without.

    Args:
        feature_map: The encoded map of the file.
        extras: Extra arrays of the file.

    Raises:
        MapFileError: If the instances are damaged or belong to another map.
    """
    if _OWNER not in extras:
        return None
    try:
        owner, feature = extras[_OWNER], extras[_FEATURE]
        columns = {name: extras[_name(name)] for name in _COLUMNS}
    except KeyError as error:
        raise MapFileError(f"the instances in the map file lack {error}; save the map again") from error
    count = len(feature)
    width = feature_map.features.shape[1] if count else 0
    sane = owner.shape == (len(feature_map.cells),) and feature.shape == (count, width)
    sane = sane and np.issubdtype(feature.dtype, np.floating)
    sane = sane and all(one.shape == (count,) and np.can_cast(one.dtype, _COLUMNS[name]) for name, one in columns.items())
    if not sane or not _make_sense(owner, feature, columns):
        raise MapFileError("the instances in the map file do not belong to its map; save the map again")
    found = []
    for number in range(count):
        about = {name: column[number].item() for name, column in columns.items()}
        about["state"] = _STATES[about["state"]]
        found.append(MapInstance(cells=np.flatnonzero(owner == number), feature=feature[number].astype(np.float32), **about))
    return tuple(found)


def _make_sense(owner: np.ndarray, feature: np.ndarray, columns: Mapping[str, np.ndarray]) -> bool:
    count, ids = len(feature), columns["id"]
    if not np.can_cast(owner.dtype, np.int64) or not -1 <= owner.min(initial=-1) <= owner.max(initial=-1) < count:
        return False
    ranges = {"id": (1, _LARGEST_ID), "quality": (0, 1), "views": (1, np.inf), "state": (0, len(_STATES) - 1)}
    inside = all(((low <= columns[name]) & (columns[name] <= high)).all() for name, (low, high) in ranges.items())
    everywhere = len(np.unique(owner[owner >= 0])) == count  # no instance without voxels
    return bool(inside and everywhere and len(np.unique(ids)) == count and np.isfinite(feature).all())


def _name(column: str) -> str:
    return f"instances.{column}"
