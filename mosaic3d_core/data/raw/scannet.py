"""ScanNet's raw scenes as scene folders.

A scan is `SCENE_vh_clean_2.ply` (the mesh's vertices are the points), `SCENE_vh_clean_2.0.010000.segs.json` (segments) and
`SCENE.aggregation.json` (objects as sets of segments with a raw label); `scannetv2-labels.combined.tsv` says what raw labels
mean. The 20 classes follow from its `nyu40id`. The 200 classes are matched by their name in its `category` column, as the
numbers behind ScanNet200's list are not part of the raw data; what matches nothing is counted.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.caption_files import SceneFolderError, write_atomically
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.visualization.ply import read_ply

LABEL_TABLE = "scannetv2-labels.combined.tsv"
#: nyu40 ids of the 20 classes, in their order.
_NYU40 = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)


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
        if not path.is_file():
            raise SceneFolderError(f"{path} is missing: it is part of ScanNet's download (scannetv2-labels.combined.tsv)")
        names200 = {name: k for k, name in enumerate(get_class_list("scannet200").names)}
        of20: dict[str, int] = {}
        of200: dict[str, int] = {}
        with path.open(encoding="utf-8", newline="") as handle:
            rows = csv.DictReader(handle, delimiter="\t")
            missing = {"raw_category", "category", "nyu40id"} - set(rows.fieldnames or ())
            if missing:
                raise SceneFolderError(f"{path} lacks the columns {', '.join(sorted(missing))}")
            for row in rows:
                raw = row["raw_category"]
                if row["nyu40id"].isdigit() and int(row["nyu40id"]) in _NYU40:
                    of20[raw] = _NYU40.index(int(row["nyu40id"]))
                for name in (row["category"], raw):
                    if name in names200:
                        of200.setdefault(raw, names200[name])
        return cls(of20, of200)


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        written: Scenes written.
        there: Scenes that were complete already.
        skipped: Why scenes were left out.
        unknown: Objects by raw label that is none of the 200 classes.
    """

    written: int = 0
    there: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)


def find_scans(raw: Path) -> list[Path]:
    """Scan folders below `raw`, or below its `scans` and `scans_test`; sorted."""
    places = [raw, raw / "scans", raw / "scans_test"]
    return sorted({p.parent for place in places for p in place.glob("scene*/scene*_vh_clean_2.ply")})


def convert_scan(scan: Path, table: LabelTable, out: Path) -> Counter[str]:
    """Write one scan as a scene folder; `coord.npy` comes last, so a folder with it is complete.

    Args:
        scan: Folder of the scan.
        table: Meaning of the raw labels.
        out: Scene folder to write.

    Returns:
        Objects by raw label that is none of the 200 classes.

    Raises:
        SceneFolderError: If a file is missing or does not fit the mesh.
        OSError: If it cannot be written.
    """
    name = scan.name
    cloud = read_ply(scan / f"{name}_vh_clean_2.ply")
    n = len(cloud.points)
    segment20, segment200 = np.full(n, -1, np.int16), np.full(n, -1, np.int16)
    instance, unknown = np.full(n, -1, np.int32), Counter[str]()
    aggregation = scan / f"{name}.aggregation.json"
    if aggregation.exists():  # test scans have none
        of_point = _segments(scan / f"{name}_vh_clean_2.0.010000.segs.json", n)
        for group in _json(aggregation, "segGroups"):
            points = np.isin(of_point, np.asarray(group["segments"], np.int64))
            label = str(group["label"])
            instance[points] = int(group["objectId"])
            segment20[points] = table.of20.get(label, -1)
            segment200[points] = table.of200.get(label, -1)
            if label not in table.of200:
                unknown[label] += 1
    out.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {
        "color": cloud.colors.astype(np.uint8),
        "segment20": segment20,
        "segment200": segment200,
        "instance": instance,
        "coord": cloud.points.astype(np.float32),
    }
    for key, value in arrays.items():
        write_atomically(out / f"{key}.npy", lambda path, value=value: np.save(path, value, allow_pickle=False))  # type: ignore[misc]
    return unknown


def _segments(path: Path, points: int) -> NDArray[np.int64]:
    found = np.asarray(_json(path, "segIndices"), np.int64)
    if found.shape != (points,):
        raise SceneFolderError(f"{path} has {len(found)} segment indices, but the mesh has {points} vertices")
    return found


def _json(path: Path, key: str) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SceneFolderError(f"{path} is missing") from error
    except ValueError as error:
        raise SceneFolderError(f"{path} is not JSON ({error}): fetch it again") from error
    if not isinstance(content, dict) or key not in content:
        raise SceneFolderError(f"{path} has no '{key}'")
    return content[key]
