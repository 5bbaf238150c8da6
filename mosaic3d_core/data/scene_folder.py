"""A labelled, captioned point cloud on disk, one folder per scene.

Files: `coord.npy` (N, 3) float32 metres, `color.npy` (N, 3) uint8, `normal.npy` (N, 3) float16 (optional), `segment.npy` (N,)
int16 class ids (-1 none), `instance.npy` (N,) int32 (0 none), and masks with captions per source (see `caption_files`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.caption_files import MaskCaptions, SceneFolderError, read_captions, write_atomically, write_captions


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


def write_scene_folder(folder: Path, scene: CaptionedScene, source: str) -> None:
    """Write a scene; `coord.npy` is written last, so a folder with it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    write_captions(folder, source, scene.masks, scene.captions)
    arrays: dict[str, NDArray] = {
        "color": scene.color.astype(np.uint8),
        "normal": scene.normal.astype(np.float16),
        "segment": scene.segment.astype(np.int16),
        "instance": scene.instance.astype(np.int32),
        "coord": scene.coord.astype(np.float32),
    }
    for key, value in arrays.items():
        write_atomically(folder / f"{key}.npy", lambda p, value=value: np.save(p, value, allow_pickle=False))  # type: ignore[misc]


def _array(folder: Path, name: str, columns: int | None, count: int | None) -> NDArray:
    path = folder / name
    try:
        value = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise SceneFolderError(
            f"{path} is missing: a scene folder needs coord.npy and color.npy, and for evaluation its labels"
        ) from error
    except (ValueError, OSError, EOFError) as error:
        raise SceneFolderError(f"{path} cannot be read as a NumPy array ({error}): write it again") from error
    shape = (len(value),) if columns is None else (len(value), columns)
    if value.shape != shape or (count is not None and len(value) != count):
        expected = f"({count if count is not None else 'N'}{'' if columns is None else f', {columns}'})"
        raise SceneFolderError(f"{path} has shape {value.shape}, expected {expected}")
    return value


def _labels(folder: Path, name: str, count: int, none: int) -> NDArray:
    """Labels that training does not need: most published training scenes come without."""
    return _array(folder, name, None, count) if (folder / name).exists() else np.full(count, none)


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


def read_scene_folder(folder: Path, source: str | None) -> CaptionedScene:
    """Read a scene written by `write_scene_folder`.

    Arrays are memory-mapped until they are used.

    Args:
        folder: The scene.
        source: Caption source; None reads the points alone.

    Raises:
        SceneFolderError: Naming the file, what it holds and what was expected.
    """
    coord = _array(folder, "coord.npy", 3, None)
    n = len(coord)
    normal = _array(folder, "normal.npy", 3, n) if (folder / "normal.npy").exists() else np.zeros((n, 3), np.float32)
    pairs = MaskCaptions([], [], None) if source is None else read_captions(folder, source, n)
    return CaptionedScene(
        folder.name,
        coord.astype(np.float32),
        _array(folder, "color.npy", 3, n).astype(np.uint8),
        normal.astype(np.float32),
        _labels(folder, "segment.npy", n, -1).astype(np.int16),
        _labels(folder, "instance.npy", n, 0).astype(np.int32),
        pairs.masks,
        pairs.captions,
    )
