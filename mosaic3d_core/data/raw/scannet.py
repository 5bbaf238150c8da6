"""ScanNet's raw scenes as scene folders.

A scan is `SCENE_vh_clean_2.ply` (the mesh's vertices are the points), `SCENE_vh_clean_2.0.010000.segs.json` (segments) and
`SCENE.aggregation.json` (objects as sets of segments with a raw label); `scannetv2-labels.combined.tsv` says what raw labels
mean. The 20 classes follow from its `nyu40id`. The 200 classes are matched by their name in its `category` column, as the
numbers behind ScanNet200's list are not part of the raw data; what matches nothing is counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mosaic3d_core.data.raw.common import (
    NYU40_OF_SCANNET20,
    Group,
    Labels,
    of_owner,
    owner_of_points,
    read_cloud,
    read_groups,
    read_segments,
    read_table,
    write_scene,
)
from mosaic3d_core.metrics.class_lists import get_class_list

LABEL_TABLE = "scannetv2-labels.combined.tsv"


@dataclass(frozen=True)
class LabelTable:
    """What raw labels mean.

    Attributes:
        of20: Class of the 20 by raw label.
        of200: Class of the 200 by raw label.
    """

    of20: dict[str, int]
    of200: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> LabelTable:
        """Read `scannetv2-labels.combined.tsv`.

        Raises:
            SceneFolderError: If it is missing or lacks a column.
        """
        names200 = {name: k for k, name in enumerate(get_class_list("scannet200").names)}
        of20: dict[str, int] = {}
        of200: dict[str, int] = {}
        hint = f"it is part of ScanNet's download ({LABEL_TABLE})"
        for row in read_table(path, ("raw_category", "category", "nyu40id"), "\t", hint):
            raw = row["raw_category"]
            if row["nyu40id"].isdigit() and int(row["nyu40id"]) in NYU40_OF_SCANNET20:
                of20[raw] = NYU40_OF_SCANNET20.index(int(row["nyu40id"]))
            for name in (row["category"], raw):
                if name in names200:
                    of200.setdefault(raw, names200[name])
        return cls(of20, of200)


def find_scans(raw: Path) -> dict[str, Path]:
    """Scan folders below `raw`, or below its `scans` and `scans_test`, by name; sorted."""
    places = [raw, raw / "scans", raw / "scans_test"]
    return dict(sorted((p.parent.name, p.parent) for place in places for p in place.glob("scene*/scene*_vh_clean_2.ply")))


def convert_scan(scan: Path, table: LabelTable, out: Path) -> Counter[str]:
    """Write one scan as a scene folder.

    Args:
        scan: Folder of the scan.
        table: Meaning of the raw labels.
        out: Scene folder to write: points, colours, `segment20`, `segment200` (-1 none) and `instance` (-1 none).

    Returns:
        Objects by raw label that is none of the 200 classes.

    Raises:
        Mosaic3DError: If a file is missing or damaged, or does not fit the mesh.
        OSError: If it cannot be written.
    """
    name = scan.name
    cloud = read_cloud(scan / f"{name}_vh_clean_2.ply")
    groups: list[Group] = []
    owner = np.full(len(cloud.points), -1, np.int64)
    aggregation = scan / f"{name}.aggregation.json"
    if aggregation.exists():  # test scans have none
        groups = read_groups(aggregation)
        owner = owner_of_points(read_segments(scan / f"{name}_vh_clean_2.0.010000.segs.json", len(owner)), groups)
    labels: Labels = {
        "segment20": of_owner(owner, [table.of20.get(g.label, -1) for g in groups]).astype(np.int16),
        "segment200": of_owner(owner, [table.of200.get(g.label, -1) for g in groups]).astype(np.int16),
        "instance": of_owner(owner, [g.instance for g in groups]).astype(np.int32),
    }
    write_scene(out, cloud, labels)
    return Counter(g.label for g in groups if g.label not in table.of200)
