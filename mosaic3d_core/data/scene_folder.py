"""A labelled, captioned point cloud on disk, one folder per scene.

Files: `coord.npy` (N, 3) float32 metres, `color.npy` (N, 3) uint8, `normal.npy` (N, 3) float16 (optional), `segment.npy` (N,)
int16 class ids (-1 none), `instance.npy` (N,) int32 (0 none), and per caption source `captions.<source>.npz` (`packed`
strings, `lengths` captions per mask) with `point_indices.<source>.npz` (`packed` point indices, `lengths` points per mask):
the flat, gathered form of the Mosaic3D layout, one mask with several captions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.ragged import pack_ragged, unpack_ragged
from mosaic3d_core.errors import Mosaic3DError


class SceneFolderError(Mosaic3DError):
    """A scene folder that cannot be read: which file, what was expected."""


@dataclass(frozen=True)
class CaptionedScene:
    """One scene in memory.

    Attributes:
        name: Folder name.
        coord: Points (N, 3) float32, metres, z up.
        color: (N, 3) uint8 RGB.
        normal: (N, 3) float32 unit normals, 0 where unknown.
        segment: (N,) int16 class ids, -1 none.
        instance: (N,) int32 instance ids, 0 none.
        masks: Point indices of each mask.
        captions: Captions of each mask.
    """

    name: str
    coord: NDArray[np.float32]
    color: NDArray[np.uint8]
    normal: NDArray[np.float32]
    segment: NDArray[np.int16]
    instance: NDArray[np.int32]
    masks: list[NDArray[np.int64]]
    captions: list[tuple[str, ...]]


def _atomic(path: Path, write: Callable[[Path], None]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)  # mkstemp makes files private
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_scene_folder(folder: Path, scene: CaptionedScene, source: str) -> None:
    """Write a scene; `coord.npy` is written last, so a folder with it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    packed, lengths = pack_ragged(scene.masks)
    texts = np.array([c for group in scene.captions for c in group], dtype=np.str_)
    counts = np.array([len(group) for group in scene.captions], np.int64)
    _atomic(
        folder / f"point_indices.{source}.npz", lambda p: np.savez_compressed(p, packed=packed.astype(np.int32), lengths=lengths)
    )
    _atomic(folder / f"captions.{source}.npz", lambda p: np.savez_compressed(p, packed=texts, lengths=counts))
    arrays: dict[str, NDArray] = {
        "color": scene.color.astype(np.uint8),
        "normal": scene.normal.astype(np.float16),
        "segment": scene.segment.astype(np.int16),
        "instance": scene.instance.astype(np.int32),
        "coord": scene.coord.astype(np.float32),
    }
    for key, value in arrays.items():
        _atomic(folder / f"{key}.npy", lambda p, value=value: np.save(p, value, allow_pickle=False))  # type: ignore[misc]


def _array(folder: Path, name: str, columns: int | None, count: int | None) -> NDArray:
    path = folder / name
    try:
        value = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise SceneFolderError(
            f"{path} is missing: a scene folder needs coord, color, segment and instance .npy files"
        ) from error
    except (ValueError, OSError, EOFError) as error:
        raise SceneFolderError(f"{path} cannot be read as a NumPy array ({error}): write it again") from error
    shape = (len(value),) if columns is None else (len(value), columns)
    if value.shape != shape or (count is not None and len(value) != count):
        expected = f"({count if count is not None else 'N'}{'' if columns is None else f', {columns}'})"
        raise SceneFolderError(f"{path} has shape {value.shape}, expected {expected}")
    return value


@dataclass(frozen=True)
class LabelledPoints:
    """Points with colours and class labels: what evaluation reads of a scene.

    Attributes:
        coord: (N, 3) float32 metres.
        color: (N, 3) uint8 RGB.
        normal: (N, 3) float32, or None where the scene has none.
        segment: (N,) int64 class ids.
    """

    coord: NDArray[np.float32]
    color: NDArray[np.uint8]
    normal: NDArray[np.float32] | None
    segment: NDArray[np.int64]


def read_points(folder: Path, segment: str) -> LabelledPoints:
    """Read a scene for evaluation.

    Args:
        folder: Scene folder with coord.npy, color.npy and, where known, normal.npy.
        segment: File of the class ids.

    Raises:
        SceneFolderError: Naming the file, what it holds and what was expected.
    """
    coord = _array(folder, "coord.npy", 3, None)
    n = len(coord)
    if n == 0:
        raise SceneFolderError(f"{folder / 'coord.npy'} holds no points")
    normal = _array(folder, "normal.npy", 3, n).astype(np.float32) if (folder / "normal.npy").exists() else None
    color = _array(folder, "color.npy", 3, n).astype(np.uint8)
    return LabelledPoints(coord.astype(np.float32), color, normal, _array(folder, segment, None, n).astype(np.int64))


@dataclass(frozen=True)
class LabelledInstances:
    """Class and instance of every point.

    Attributes:
        segment: (N,) int64 class ids.
        instance: (N,) int64 instance ids.
    """

    segment: NDArray[np.int64]
    instance: NDArray[np.int64]


def read_instances(folder: Path, segment: str, instance: str) -> LabelledInstances:
    """Read a scene's true instances; SceneFolderError if the files are missing or differ in length."""
    of_class = _array(folder, segment, None, None).astype(np.int64)
    return LabelledInstances(of_class, _array(folder, instance, None, len(of_class)).astype(np.int64))


def _npz(path: Path) -> dict[str, NDArray]:
    try:
        with np.load(path, allow_pickle=False) as data:
            found = {key: data[key] for key in data.files}
    except FileNotFoundError as error:
        raise SceneFolderError(f"{path} is missing: check the caption source name") from error
    except Exception as error:  # zipfile and numpy raise many kinds for a damaged archive
        raise SceneFolderError(f"{path} is damaged or not an .npz archive ({error}): write it again") from error
    for key in ("packed", "lengths"):
        if key not in found:
            raise SceneFolderError(f"{path} has no array '{key}', only {sorted(found)}")
    return found


def read_scene_folder(folder: Path, source: str) -> CaptionedScene:
    """Read a scene written by `write_scene_folder`.

    Raises:
        SceneFolderError: Naming the file, what it holds and what was expected.
    """
    coord = _array(folder, "coord.npy", 3, None)
    n = len(coord)
    normal = _array(folder, "normal.npy", 3, n) if (folder / "normal.npy").exists() else np.zeros((n, 3), np.float32)
    indices, captions = _npz(folder / f"point_indices.{source}.npz"), _npz(folder / f"captions.{source}.npz")
    if len(indices["lengths"]) != len(captions["lengths"]):
        raise SceneFolderError(
            f"{folder}: {len(indices['lengths'])} masks in point_indices.{source}.npz "
            f"but {len(captions['lengths'])} caption groups"
        )
    if len(indices["packed"]) and not (int(indices["packed"].min()) >= 0 and int(indices["packed"].max()) < n):
        raise SceneFolderError(f"{folder}: point_indices.{source}.npz points outside the {n} points of coord.npy")
    try:
        masks = unpack_ragged(indices["packed"].astype(np.int64), indices["lengths"])
        groups = unpack_ragged(captions["packed"], captions["lengths"])
    except ValueError as error:
        raise SceneFolderError(f"{folder}: source '{source}': {error}") from error
    return CaptionedScene(
        folder.name,
        coord.astype(np.float32),
        _array(folder, "color.npy", 3, n).astype(np.uint8),
        normal.astype(np.float32),
        _array(folder, "segment.npy", None, n).astype(np.int16),
        _array(folder, "instance.npy", None, n).astype(np.int32),
        masks,
        [tuple(str(t) for t in group) for group in groups],
    )
