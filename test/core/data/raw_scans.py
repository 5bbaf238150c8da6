"""Small made-up scans in the raw forms of the data sets, and the command that converts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]


def prepare(name: str, raw: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Runs `prepare_data.py NAME --raw RAW --out OUT` as a user does."""
    command = [sys.executable, "training/prepare_data.py", name, "--raw", str(raw), "--out", str(out), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def write_mesh(path: Path, points: np.ndarray, normals: bool = False) -> np.ndarray:
    """A binary PLY mesh with triangles that carry ids, as Matterport3D's; returns its colours (N, 3) uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.random.default_rng(len(points)).integers(0, 256, (len(points), 3)).astype(np.uint8)
    names = ["x", "y", "z", *(("nx", "ny", "nz") if normals else ())]
    rows = np.zeros(len(points), [*((name, "<f4") for name in names), *((name, "u1") for name in ("red", "green", "blue"))])
    for axis in range(3):
        rows["xyz"[axis]] = points[:, axis]
        rows[("red", "green", "blue")[axis]] = colors[:, axis]
    if normals:
        rows["nz"] = 1
    faces = np.zeros(2, [("count", "u1"), ("corners", "<i4", 3), ("category", "<i4")])
    faces["count"], faces["corners"] = 3, [0, 1, 2]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [*(f"property float {name}" for name in names), *(f"property uchar {name}" for name in ("red", "green", "blue"))]
    lines += ["element face 2", "property list uchar int vertex_indices", "property int category_id", "end_header", ""]
    path.write_bytes("\n".join(lines).encode() + rows.tobytes() + faces.tobytes())
    return colors


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_groups(path: Path, groups: list[tuple[str, list[int]]], first: int = 0) -> None:
    """An aggregation file of labels with their segments; ids count from `first`."""
    items = [{"id": k, "objectId": k + first, "label": label, "segments": ids} for k, (label, ids) in enumerate(groups)]
    write_json(path, {"segGroups": items})


def write_segments(path: Path, count: int, size: int = 10) -> None:
    """A segment file for `count` vertices: 100 for the first `size` of them, 101 for the next and so on."""
    write_json(path, {"segIndices": [100 + k // size for k in range(count)]})


def write_image(path: Path, pixels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:  # the colours are for people only, the pixels hold ids
        image.putpalette([int(v) for v in np.random.default_rng(0).integers(0, 256, 768)])
    image.save(path)


def load(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / f"{name}.npy", allow_pickle=False)
