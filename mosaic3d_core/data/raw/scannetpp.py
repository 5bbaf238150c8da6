"""ScanNet++'s raw scenes as scene folders.

A scene is `data/SCENE/scans/` with `mesh_aligned_0.05.ply` (its vertices are the points; z is up), `segments.json` (segments) and
`segments_anno.json` (objects as sets of segments with a raw label). Classes are the lines of a text file,
`metadata/semantic_benchmark/top100.txt` for the benchmark or `metadata/semantic_classes.txt` for all raw labels; a
`map_benchmark.csv` beside it renames raw labels first (`class`, `semantic_map_to`; empty keeps the label, "None" drops it).

Objects overlap. A vertex takes the smallest object whose label is a class, as in the authors' tools, and where there is none the
smallest of the others. The authors advise to sample points on the mesh, as its vertices are not evenly spread; here the vertices
themselves are the points, and it is an assumption that the published training scenes were made so too.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from mosaic3d_core.data.caption_files import SceneFolderError
from mosaic3d_core.data.raw.common import (
    Group,
    Labels,
    of_owner,
    owner_of_points,
    read_cloud,
    read_groups,
    read_segments,
    read_table,
    read_text,
    write_scene,
)

#: Class lists below the folder of the data set; the first that exists is taken.
CLASS_LISTS = ("metadata/semantic_benchmark/top100.txt", "metadata/semantic_classes.txt")
_MAPPING = "map_benchmark.csv"


def find_scenes(raw: Path) -> dict[str, Path]:
    """Folders `scans` of the scenes below `raw`, or below its `data`, by scene; sorted."""
    return dict(sorted((p.parent.name, p) for place in (raw, raw / "data") for p in place.glob("*/scans") if p.is_dir()))


def read_classes(raw: Path, labels: Path | None = None) -> dict[str, int]:
    """Class by raw label.

    Args:
        raw: Folder of the data set.
        labels: File with a class per line, a repeated one counts once; None for the first of `CLASS_LISTS` below `raw` that
            exists.

    Raises:
        SceneFolderError: If there is no list, it is empty, or the mapping beside it lacks a column.
    """
    found = [raw / name for name in CLASS_LISTS if (raw / name).is_file()]
    path = labels or (found[0] if found else raw / CLASS_LISTS[0])
    lines = read_text(
        path, "it is part of ScanNet++'s download; --labels takes another file with one class per line"
    ).splitlines()
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise SceneFolderError(f"{path} has no class: expected one per line")
    of_class = {name: k for k, name in enumerate(names)}
    classes = dict(of_class)
    if (path.parent / _MAPPING).is_file():
        for row in read_table(path.parent / _MAPPING, ("class", "semantic_map_to"), ",", ""):
            if row["semantic_map_to"]:
                classes.pop(row["class"], None)
                if row["semantic_map_to"] in of_class:
                    classes[row["class"]] = of_class[row["semantic_map_to"]]
    return classes


def convert_scene(scans: Path, classes: dict[str, int], out: Path) -> Counter[str]:
    """Write one scene as a scene folder.

    Args:
        scans: Folder `scans` of the scene; without `segments_anno.json`, as in the test split, nothing is labelled.
        classes: Class by raw label.
        out: Scene folder to write: points, colours, `segment` (-1 none) and `instance` (-1 none).

    Returns:
        Objects by raw label that is none of the classes.

    Raises:
        Mosaic3DError: If a file is missing or damaged, or does not fit the mesh.
        OSError: If it cannot be written.
    """
    cloud = read_cloud(scans / "mesh_aligned_0.05.ply")
    groups: list[Group] = []
    owner = np.full(len(cloud.points), -1, np.int64)
    if (scans / "segments_anno.json").exists():
        groups = read_groups(scans / "segments_anno.json")
        segments = read_segments(scans / "segments.json", len(owner))
        owner = owner_of_points(segments, groups, lambda group, size: (group.label in classes, -size))
    labels: Labels = {
        "segment": of_owner(owner, [classes.get(g.label, -1) for g in groups]).astype(np.int16),
        "instance": of_owner(owner, [g.instance for g in groups]).astype(np.int32),
    }
    write_scene(out, cloud, labels)
    return Counter(g.label for g in groups if g.label not in classes)
