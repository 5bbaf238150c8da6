"""Reading and writing coloured point clouds as PLY: ascii and binary, little and big endian."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mosaic3d_core.errors import Mosaic3DError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "ascii", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_HEADER_BYTES = 100_000
_COLOR_NAMES = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))


@dataclass(frozen=True, eq=False)
class PointCloud:
    """A coloured point cloud.

    Attributes:
        points: Positions in the file's unit, taken as metres. Shape (N, 3), float32.
        colors: Colours 0 to 255. Shape (N, 3), float32.
        normals: Normals as stored, or None. Shape (N, 3), float32.
    """

    points: np.ndarray
    colors: np.ndarray
    normals: np.ndarray | None = None


@dataclass(frozen=True)
class _Header:
    order: str
    elements: list[tuple[str, int, list[tuple[str, str]]]]
    size: int


def read_ply(path: str | os.PathLike[str]) -> PointCloud:
    """Read the vertices of a PLY file with colours.

    Args:
        path: File; ascii, or binary of either byte order. Colours may be uchar (0 to 255), ushort (0 to
            65535) or float (0 to 1).

    Returns:
        The cloud. Points with a coordinate that is not finite are left out.

    Raises:
        Mosaic3DError: If it is not a PLY file, is truncated, or lacks positions or colours.
        OSError: If it cannot be read.
    """
    path = Path(path)
    data = path.read_bytes()
    header = _parse_header(data, path)
    vertex = _read_vertices(data, header, path)
    names = vertex.dtype.names or ()
    if not {"x", "y", "z"} <= set(names):
        raise Mosaic3DError(f"{path} has no x, y, z per vertex (it has {', '.join(names) or 'nothing'})")
    points = np.stack([vertex[k].astype(np.float32) for k in "xyz"], axis=1)
    colors = _colors(vertex, path)
    normals = None
    if {"nx", "ny", "nz"} <= set(names):
        normals = np.stack([vertex[k].astype(np.float32) for k in ("nx", "ny", "nz")], axis=1)
    finite = np.isfinite(points).all(axis=1) & np.isfinite(colors).all(axis=1)
    if normals is not None:
        normals = np.nan_to_num(normals, nan=0.0, posinf=0.0, neginf=0.0)[finite]
    return PointCloud(points[finite], colors[finite], normals)


def write_labelled_ply(
    path: str | os.PathLike[str],
    points: np.ndarray,
    colors: np.ndarray,
    labels: np.ndarray,
    instances: np.ndarray,
    scores: np.ndarray,
    comments: tuple[str, ...] = (),
) -> None:
    """Write a binary little-endian PLY: x y z red green blue label(ushort) instance(uint) score(float).

    Args:
        path: Target; replaced as a whole, a reader never sees half a file.
        points: Positions, metres. Shape (N, 3).
        colors: Colours 0 to 255. Shape (N, 3).
        labels: Label numbers, 65535 for none. Shape (N,).
        instances: Instance ids, 0 for none. Shape (N,).
        scores: Scores. Shape (N,).
        comments: Lines for the header, for example the words behind the label numbers.

    Raises:
        ValueError: If the lengths disagree.
        OSError: If the file cannot be written.
    """
    count = len(points)
    if not all(len(a) == count for a in (colors, labels, instances, scores)):
        raise ValueError(f"all arrays must have {count} rows, as many as points")
    kinds = [*((k, "<f4") for k in "xyz"), *((k, "u1") for k in ("red", "green", "blue")),
             ("label", "<u2"), ("instance", "<u4"), ("score", "<f4")]  # fmt: skip
    rows = np.zeros(count, np.dtype(kinds))
    for k, name in enumerate("xyz"):
        rows[name] = np.asarray(points)[:, k]
    for k, name in enumerate(("red", "green", "blue")):
        rows[name] = np.clip(np.round(np.asarray(colors)[:, k]), 0, 255)
    rows["label"], rows["instance"], rows["score"] = labels, instances, scores
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += ["comment " + " ".join(comment.split()) for comment in comments]
    lines.append(f"element vertex {count}")
    spelled = {"<f4": "float", "u1": "uchar", "<u2": "ushort", "<u4": "uint"}
    lines += [f"property {spelled[kind]} {name}" for name, kind in kinds]
    header = "\n".join([*lines, "end_header"]) + "\n"
    _write_whole(Path(path), header.encode("utf-8") + rows.tobytes())


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.close()
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _parse_header(data: bytes, path: Path) -> _Header:
    end = data.find(b"end_header", 0, _MAX_HEADER_BYTES)
    if not data.startswith(b"ply") or end < 0:
        raise Mosaic3DError(f"{path} is not a PLY file (no ply ... end_header at its start)")
    stop = data.find(b"\n", end) + 1
    if stop == 0:
        raise Mosaic3DError(f"{path} ends in the middle of its PLY header")
    order = ""
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for line in data[:end].decode("utf-8", "replace").splitlines()[1:]:
        try:
            order = _parse_header_line(line.split(), elements) or order
        except (KeyError, IndexError, ValueError) as error:
            shown = line.strip()[:80]
            raise Mosaic3DError(f"{path} has a PLY header line that makes no sense: {shown!r}") from error
    if not order:
        raise Mosaic3DError(f"{path} has no format line in its PLY header")
    return _Header(order, elements, stop)


def _parse_header_line(words: list[str], elements: list[tuple[str, int, list[tuple[str, str]]]]) -> str:
    """Add what the line declares to ``elements``; returns the byte order if it is the format line."""
    if not words or words[0] in ("comment", "obj_info"):
        return ""
    if words[0] == "format":
        return _ORDERS[words[1]]
    if words[0] == "element":
        if int(words[2]) < 0:
            raise ValueError(words[2])
        elements.append((words[1], int(words[2]), []))
    elif words[0] == "property":
        elements[-1][2].append((words[-1], "list" if words[1] == "list" else _TYPES[words[1]]))
    else:
        raise KeyError(words[0])
    return ""


def _read_vertices(data: bytes, header: _Header, path: Path) -> np.ndarray:
    position = next((k for k, element in enumerate(header.elements) if element[0] == "vertex"), None)
    if position is None:
        raise Mosaic3DError(f"{path} has no vertices (elements: {[e[0] for e in header.elements]})")
    _, count, properties = header.elements[position]
    if any(kind == "list" for _, kind in properties):
        raise Mosaic3DError(f"{path} has list properties on its vertices, which a point cloud does not have")
    names = [name for name, _ in properties]
    if len(set(names)) < len(names):
        raise Mosaic3DError(f"{path} declares a vertex property twice ({', '.join(names)})")
    before = header.elements[:position]
    if header.order == "ascii":
        return _read_ascii(data[header.size :], sum(e[1] for e in before), count, properties, path)
    offset = header.size
    for name, number, kinds in before:
        if any(kind == "list" for _, kind in kinds):
            raise Mosaic3DError(f"{path} stores the list element {name!r} before its vertices; write vertices first")
        offset += number * sum(np.dtype(kind).itemsize for _, kind in kinds)
    kind = np.dtype([(name, header.order + code) for name, code in properties])
    if len(data) < offset + count * kind.itemsize:
        have = max(len(data) - offset, 0) // max(kind.itemsize, 1)
        raise Mosaic3DError(f"{path} is truncated: its header announces {count} points, it holds {have}")
    return np.frombuffer(data, kind, count, offset)


def _read_ascii(body: bytes, skip: int, count: int, properties: list[tuple[str, str]], path: Path) -> np.ndarray:
    lines = body.splitlines()[skip : skip + count]
    if len(lines) < count:
        raise Mosaic3DError(f"{path} is truncated: its header announces {count} points, it holds {len(lines)}")
    kind = np.dtype(properties)
    if count == 0:
        return np.zeros(0, kind)
    try:
        table = np.loadtxt(io.BytesIO(b"\n".join(lines)), np.float64, ndmin=2, comments=None)
    except ValueError as error:
        raise Mosaic3DError(f"{path} has a point line that is not numbers: {error}") from error
    if table.shape != (count, len(properties)):
        raise Mosaic3DError(
            f"{path} has {table.shape[1]} numbers per point in {table.shape[0]} lines, its header announces "
            f"{len(properties)} in {count}"
        )
    rows = np.zeros(count, kind)
    for column, (name, _) in enumerate(properties):
        rows[name] = table[:, column]
    return rows


def _colors(vertex: np.ndarray, path: Path) -> np.ndarray:
    names = vertex.dtype.names or ()
    chosen = next((group for group in _COLOR_NAMES if set(group) <= set(names)), None)
    if chosen is None:
        raise Mosaic3DError(f"{path} has no colours (red, green, blue per vertex); the encoder needs them")
    colors = np.stack([vertex[k] for k in chosen], axis=1)
    if colors.dtype.kind == "f":
        return (colors * 255.0).astype(np.float32)
    return colors.astype(np.float32) * (255.0 / np.iinfo(colors.dtype).max)
