"""Matterport3D's region segmentations as scene folders, one per region.

A region is `SCAN/region_segmentations/regionK.ply` (the mesh's vertices are the points, with normals; z is up),
`regionK.vsegs.json` (segment of each vertex) and `regionK.semseg.json` (objects as sets of segments with a raw label). The
authors' description names the segments of the faces only (`fsegs.json`, not read here); that `vsegs.json` holds those of the
vertices in the same form is how other tools read it.

`category_mapping.tsv`, in the `metadata` folder of the authors' repository and not in the download, says what raw labels mean:
the 21 classes follow from its `nyu40id` (`segment`), and the 40, 80 and 160 classes are matched by name in its `nyuClass` column
(`segment40`, `segment80`, `segment160`). Labels of 160 classes that others made were not at hand to compare with.

Scenes are named SCAN_KK with two digits, as in `17DRP5sb8fy_00`. It is an assumption that published split files do so too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.raw.common import (
    NYU40_OF_SCANNET20,
    of_owner,
    owner_of_points,
    read_cloud,
    read_groups,
    read_segments,
    read_table,
    write_scene,
)
from mosaic3d_core.metrics.class_lists import get_class_list

LABEL_TABLE = "category_mapping.tsv"
#: NYU40 ids of the 21 classes, in their order: ScanNet's 20 and the ceiling.
_NYU40 = (*NYU40_OF_SCANNET20, 22)
#: Where the table spells a class otherwise than the list.
_SPELLING = {"refridgerator": "refrigerator", "excercise equipment": "exercise equipment"}
_REGION = re.compile(r"region(\d+)\.(ply|vsegs\.json|semseg\.json)")


@dataclass(frozen=True)
class LabelTable:
    """What raw labels mean.

    Attributes:
        of21: Class of the 21 by raw label.
        of160: Class of the 160 by raw label; the lists of 40 and 80 are its beginnings.
    """

    of21: dict[str, int]
    of160: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> LabelTable:
        """Read `category_mapping.tsv`.

        Raises:
            SceneFolderError: If it is missing or lacks a column.
        """
        names = {name: k for k, name in enumerate(get_class_list("matterport160").names)}
        of21: dict[str, int] = {}
        of160: dict[str, int] = {}
        hint = "it is in the metadata folder of the Matterport3D repository (niessner/Matterport)"
        for row in read_table(path, ("raw_category", "nyu40id", "nyuClass"), "\t", hint):
            if row["nyu40id"].isdigit() and int(row["nyu40id"]) in _NYU40:
                of21[row["raw_category"]] = _NYU40.index(int(row["nyu40id"]))
            name = _SPELLING.get(row["nyuClass"], row["nyuClass"])
            if name in names:
                of160[row["raw_category"]] = names[name]
        return cls(of21, of160)


def find_regions(raw: Path) -> dict[str, Path]:
    """Meshes of the regions of scans below `raw`, `raw/scans` or `raw/v1/scans`, by scene name; sorted.

    A region counts if any of its files is there, so that one without its mesh is reported. Scans may lie one folder deeper, as
    they do when the archives are unpacked where they were fetched (`SCAN/SCAN/region_segmentations`).
    """
    found: dict[str, Path] = {}
    for place in (raw, raw / "scans", raw / "v1" / "scans"):
        for file in (*place.glob("*/region_segmentations/region*"), *place.glob("*/*/region_segmentations/region*")):
            match = _REGION.fullmatch(file.name)
            if match:
                number = int(match.group(1))
                found[f"{file.parent.parent.name}_{number:02d}"] = file.parent / f"region{number}.ply"
    return dict(sorted(found.items()))


def convert_region(mesh: Path, table: LabelTable, out: Path) -> Counter[str]:
    """Write one region as a scene folder.

    Args:
        mesh: `regionK.ply`; the other files lie beside it.
        table: Meaning of the raw labels.
        out: Scene folder to write: points, colours, normals, `segment`, `segment40`, `segment80`, `segment160` and `instance`
            (-1 none; an instance is the object's position in its file).

    Returns:
        Objects by raw label that is none of the 21 classes.

    Raises:
        Mosaic3DError: If a file is missing or damaged, or does not fit the mesh.
        OSError: If it cannot be written.
    """
    cloud = read_cloud(mesh)
    groups = read_groups(mesh.with_suffix(".semseg.json"), None)
    owner = owner_of_points(read_segments(mesh.with_suffix(".vsegs.json"), len(cloud.points)), groups)
    of160 = of_owner(owner, [table.of160.get(g.label, -1) for g in groups])
    labels: dict[str, NDArray[Any]] = {"segment": of_owner(owner, [table.of21.get(g.label, -1) for g in groups]).astype(np.int16)}
    labels |= {f"segment{size}": np.where(of160 < size, of160, -1).astype(np.int16) for size in (40, 80, 160)}
    write_scene(out, cloud, {**labels, "instance": owner.astype(np.int32)})
    return Counter(g.label for g in groups if g.label not in table.of21)
