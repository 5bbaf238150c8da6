"""Map files: one NumPy archive with a version, arrays only (nothing is executed when it is read)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import MapFileError
from mosaic3d_core.mapping.snapshot import MapSnapshot

FORMAT_VERSION = 1
_ARRAYS: dict[str, tuple[type, int]] = {
    "indices": (np.int32, 3),
    "centroids": (np.float32, 3),
    "colors": (np.float32, 3),
    "normals": (np.float32, 3),
    "weights": (np.float32, 0),
    "last_seen_ns": (np.int64, 0),
}
_EXTRA = "extra."


def save_map(
    snapshot: MapSnapshot,
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    extras: Mapping[str, NDArray] | None = None,
) -> None:
    """Write a map; the old file stays until the new one is complete.

    Args:
        snapshot: What to write.
        path: File to write, by convention `*.m3dmap`.
        metadata: JSON values kept with the map.
        extras: More named arrays (features, ...).

    Raises:
        MapFileError: When the file cannot be written.
    """
    target = Path(path)
    header = {
        "format": "mosaic3d-map",
        "version": FORMAT_VERSION,
        "generation": snapshot.generation,
        "stamp_ns": snapshot.stamp_ns,
        "voxel_size_m": snapshot.voxel_size_m,
        "up": [float(v) for v in snapshot.up],
        "metadata": dict(metadata or {}),
    }
    arrays = {name: getattr(snapshot, name) for name in _ARRAYS}
    arrays |= {_EXTRA + name: value for name, value in (extras or {}).items()}
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=target.name, suffix=".tmp", delete=False) as handle:
            temporary = Path(handle.name)
            np.savez_compressed(handle, header=np.array(json.dumps(header)), **arrays)
        os.chmod(temporary, 0o644)  # temporary files are private; a map is an ordinary file
        os.replace(temporary, target)
    except OSError as error:
        raise MapFileError(
            f"cannot write map {target}: {error.strerror or error}: choose a folder that exists and is writable"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def load_map(path: str | os.PathLike[str], with_extras: bool = False) -> Any:
    """Read a map file.

    Args:
        path: File written by `save_map`.
        with_extras: Also return the metadata and the extra arrays.

    Returns:
        The snapshot, or (snapshot, metadata, extras) with `with_extras`.

    Raises:
        MapFileError: When the file is missing, truncated, not a map or from a newer version.
    """
    target = Path(path)
    if not target.is_file():
        raise MapFileError(f"map file {target} does not exist: make one with 'mosaic3d map SEQUENCE --out {target.name}'")
    try:
        with np.load(target, allow_pickle=False) as data:
            found = {name: data[name] for name in data.files}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged archive
        raise MapFileError(
            f"{target} is truncated or not a map file ({type(error).__name__}: {error}): fuse or copy it again"
        ) from error
    try:
        header = json.loads(str(found.pop("header")))
        if header["format"] != "mosaic3d-map":
            raise KeyError("format")
        version = int(header["version"])
    except (KeyError, ValueError, TypeError) as error:
        raise MapFileError(f"{target} is not a mosaic3d map: it has no valid header") from error
    if version > FORMAT_VERSION:
        raise MapFileError(f"{target} has map version {version}, this program reads up to {FORMAT_VERSION}: update mosaic3d")
    snapshot = _snapshot(target, header, found)
    if not with_extras:
        return snapshot
    extras = {name[len(_EXTRA) :]: value for name, value in found.items() if name.startswith(_EXTRA)}
    return snapshot, header.get("metadata", {}), extras


def _snapshot(path: Path, header: dict[str, Any], found: dict[str, NDArray]) -> MapSnapshot:
    arrays: dict[str, NDArray] = {}
    count = len(found["indices"]) if "indices" in found and found["indices"].ndim else -1
    for name, (dtype, columns) in _ARRAYS.items():
        value = found.get(name)
        shape = (count, columns) if columns else (count,)
        if value is None or value.shape != shape:
            got = "nothing" if value is None else str(value.shape)
            raise MapFileError(f"{path}: array '{name}' should have shape {shape}, found {got}: fuse the map again")
        arrays[name] = value.astype(dtype)
    try:
        return MapSnapshot(
            int(header["generation"]),
            int(header["stamp_ns"]),
            float(header["voxel_size_m"]),
            up=np.array(header["up"], np.float64),
            **arrays,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MapFileError(f"{path}: the header lacks {error}: fuse the map again") from error
