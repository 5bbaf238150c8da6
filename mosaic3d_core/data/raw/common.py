"""What the converters of raw data sets share: reading meshes, tables and segment files, and writing a scene folder.

ScanNet, ScanNet++ and Matterport3D hand out labels in the same way: a JSON file gives every vertex of the mesh a segment
(`segIndices`), another one lists objects as sets of segments with a raw label (`segGroups`), and a table says what raw labels
mean.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.caption_files import SceneFolderError, write_atomically
from mosaic3d_core.visualization.ply import PointCloud, read_ply

#: Arrays of one value per point by file name without ".npy".
Labels = Mapping[str, NDArray[Any]]
#: NYU40 ids of ScanNet's 20 classes, in their order.
NYU40_OF_SCANNET20 = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        written: Scenes written.
        there: Scenes that were complete already.
        skipped: Why scenes were left out.
        unknown: Objects by raw label that is none of the classes.
    """

    written: int = 0
    there: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, eq=False)
class Group:
    """One object of a segmentation.

    Attributes:
        instance: Its id.
        label: Its raw label.
        segments: Ids of its segments. Shape (S,), int64.
    """

    instance: int
    label: str
    segments: NDArray[np.int64]


def is_complete(scene: Path) -> bool:
    """Whether a scene folder has been written to its end."""
    return (scene / "coord.npy").exists()


def read_cloud(path: Path) -> PointCloud:
    """Read the vertices of a mesh.

    Raises:
        SceneFolderError: If it is missing, cannot be opened or has no vertices.
        Mosaic3DError: If it is no PLY file with colours.
    """
    try:
        cloud = read_ply(path)
    except FileNotFoundError as error:
        raise SceneFolderError(f"{path} is missing") from error
    except OSError as error:
        raise SceneFolderError(f"{path} cannot be read: {error.strerror}") from error
    if len(cloud.points) == 0:
        raise SceneFolderError(f"{path} has no vertices")
    return cloud


def read_text(path: Path, hint: str = "") -> str:
    """A text file; SceneFolderError with `hint` if it is missing, or if it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SceneFolderError(f"{path} is missing{hint and f': {hint}'}") from error
    except UnicodeDecodeError as error:
        raise SceneFolderError(f"{path} is not a UTF-8 text file: fetch it again") from error
    except OSError as error:
        raise SceneFolderError(f"{path} cannot be read: {error.strerror}") from error


def read_json_list(path: Path, key: str) -> list[Any]:
    """The list under `key` of a JSON object; SceneFolderError naming the file, the key and what was expected."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise SceneFolderError(f"{path} is not JSON ({error}): fetch it again") from error
    if not isinstance(content, dict) or key not in content:
        raise SceneFolderError(f"{path} has no '{key}'")
    if not isinstance(content[key], list):
        raise SceneFolderError(f"{path}: '{key}' is a {type(content[key]).__name__}, expected a list")
    return content[key]


def entry(item: Any, key: str, where: str) -> Any:
    """The value under `key` of a JSON object; SceneFolderError that begins with `where` if there is none."""
    if not isinstance(item, dict) or key not in item:
        raise SceneFolderError(f"{where} has no '{key}'")
    return item[key]


def numbers(value: Any, where: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Finite numbers in the given shape from a list, nested or not; SceneFolderError that begins with `where`."""
    try:
        found = np.asarray(value, np.float64).reshape(shape)
    except (TypeError, ValueError) as error:
        raise SceneFolderError(f"{where} must be {int(np.prod(shape))} numbers") from error
    if not np.isfinite(found).all():
        raise SceneFolderError(f"{where} has numbers that are not finite")
    return found


def read_segments(path: Path, points: int) -> NDArray[np.int64]:
    """Segment of each vertex from `segIndices`.

    Args:
        path: Segment file.
        points: Vertices of the mesh.

    Returns:
        Segment ids. Shape (points,), int64.

    Raises:
        SceneFolderError: If the file is missing or damaged, or has not one segment per vertex.
    """
    found = _integers(read_json_list(path, "segIndices"), f"{path}: 'segIndices'")
    if found.shape != (points,):
        raise SceneFolderError(f"{path} has {len(found)} segment indices, but the mesh has {points} vertices")
    return found


def read_groups(path: Path, instance_key: str | None = "objectId") -> list[Group]:
    """Objects from `segGroups`, each with `label` and `segments`.

    Args:
        path: Aggregation file.
        instance_key: Key of the id of an object; None numbers the objects from 0.

    Raises:
        SceneFolderError: If the file is missing or damaged, naming the object and the key.
    """
    groups = []
    for k, item in enumerate(read_json_list(path, "segGroups")):
        where = f"{path}: object {k} of 'segGroups'"
        segments = _integers(entry(item, "segments", where), f"{where}: 'segments'")
        instance = k if instance_key is None else entry(item, instance_key, where)
        if not isinstance(instance, int):
            raise SceneFolderError(f"{where}: '{instance_key}' is {instance!r}, expected an integer")
        groups.append(Group(instance, str(entry(item, "label", where)).strip(), segments))
    return groups


def owner_of_points(
    segments: NDArray[np.int64], groups: Sequence[Group], rank: Callable[[Group, int], Any] | None = None
) -> NDArray[np.int64]:
    """Which object each point belongs to.

    Args:
        segments: Segment of each point. Shape (N,), int64.
        groups: The objects; they may share segments.
        rank: Of an object and its number of points; of several objects at a point the one of highest rank owns it. None: the
            last one of the list.

    Returns:
        Position in `groups`, -1 for none. Shape (N,), int64.
    """
    ids, of_point, sizes = np.unique(segments, return_inverse=True, return_counts=True)
    owner = np.full(len(ids), -1, np.int64)
    members = [np.flatnonzero(np.isin(ids, group.segments)) for group in groups]
    order = list(range(len(groups)))
    if rank is not None:
        ranks = [rank(group, int(sizes[member].sum())) for group, member in zip(groups, members)]
        order.sort(key=lambda k: ranks[k])
    for k in order:
        owner[members[k]] = k
    return owner[of_point]


def of_owner(owner: NDArray[np.int64], values: Sequence[int]) -> NDArray[np.int64]:
    """The value of each point's owner, -1 where there is none. Shapes (N,) and (number of owners,)."""
    return np.append(np.asarray(values, np.int64), -1)[owner]


def read_table(path: Path, columns: Sequence[str], delimiter: str, hint: str) -> list[dict[str, str]]:
    """Rows of a table with a header; empty cells are empty strings.

    Args:
        path: The table.
        columns: Columns that it must have.
        delimiter: Between the cells.
        hint: Where to get the table, for the message when it is missing.

    Raises:
        SceneFolderError: If it is missing or lacks a column.
    """
    rows = csv.DictReader(read_text(path, hint).splitlines(), delimiter=delimiter)
    missing = set(columns) - set(rows.fieldnames or ())
    if missing:
        raise SceneFolderError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    return [{column: (row[column] or "").strip() for column in columns} for row in rows]


def write_scene(out: Path, cloud: PointCloud, labels: Labels) -> None:
    """Write a scene folder; `coord.npy` comes last, so a folder with it is complete.

    Args:
        out: Folder to write, made where it is missing.
        cloud: Points in metres with z up, colours 0 to 255 and, where known, normals.
        labels: Arrays of one value per point by file name without ".npy".

    Raises:
        OSError: If it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {"color": np.clip(np.rint(cloud.colors), 0, 255).astype(np.uint8)}
    if cloud.normals is not None:
        arrays["normal"] = cloud.normals.astype(np.float16)
    arrays |= {**labels, "coord": cloud.points.astype(np.float32)}
    for key, value in arrays.items():
        write_atomically(out / f"{key}.npy", lambda path, value=value: np.save(path, value, allow_pickle=False))  # type: ignore[misc]


def _integers(value: Any, where: str) -> NDArray[np.int64]:
    try:
        found = np.asarray(value)
    except ValueError:  # lists of different lengths
        found = np.asarray(None)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise SceneFolderError(f"{where} must be a list of integers")
    return found.astype(np.int64)
