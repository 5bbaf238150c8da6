"""ARKitScenes' raw scans as scene folders.

A scan is `SPLIT/VIDEO/VIDEO_3dod_mesh.ply` (the mesh's vertices are the points, in metres with z up) and
`VIDEO_3dod_annotation.json`: oriented boxes with a label, `data[].segments.obbAligned` with `centroid`, `axesLengths` (whole
edges) and `normalizedAxes` (the axes row by row). SPLIT is Training or Validation.

A point takes the label of the box it lies in, of several boxes the smallest. Boxes are coarse: floor and wall inside a box get
its label too. That is good enough to look at; training takes captions, which need no labels.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.caption_files import SceneFolderError
from mosaic3d_core.data.raw.common import Labels, entry, numbers, of_owner, read_cloud, read_json_list, write_scene

#: The classes of the boxes, in the order of the authors' list.
CLASSES = (
    "cabinet", "refrigerator", "shelf", "stove", "bed", "sink", "washer", "toilet", "bathtub", "oven", "dishwasher", "fireplace",
    "stool", "chair", "table", "tv_monitor", "sofa",
)  # fmt: skip


def find_videos(raw: Path) -> dict[str, Path]:
    """Folders of the scans below `raw`, `raw/3dod` or `raw/raw`, with or without a folder per split, by video id; sorted."""
    found: dict[str, Path] = {}
    for place in (raw, raw / "3dod", raw / "raw"):
        for folder in (*place.glob("Training/*"), *place.glob("Validation/*"), *place.glob("*")):
            if folder.is_dir() and folder.name.isdigit():
                found.setdefault(folder.name, folder)
    return dict(sorted(found.items()))


def convert_video(video: Path, out: Path) -> Counter[str]:
    """Write one scan as a scene folder.

    Args:
        video: Folder of the scan; without an annotation nothing is labelled.
        out: Scene folder to write: points, colours, `segment` (position in `CLASSES`, -1 none) and `instance` (position of the
            box in its file, -1 none).

    Returns:
        Boxes by label that is none of the classes.

    Raises:
        Mosaic3DError: If a file is missing or damaged.
        OSError: If it cannot be written.
    """
    cloud = read_cloud(video / f"{video.name}_3dod_mesh.ply")
    names: list[str] = []
    owner = np.full(len(cloud.points), -1, np.int64)
    annotation = video / f"{video.name}_3dod_annotation.json"
    if annotation.exists():
        boxes = read_json_list(annotation, "data")
        names = [str(entry(box, "label", f"{annotation}: box {k} of 'data'")) for k, box in enumerate(boxes)]
        owner = _owner(cloud.points, [_box(box, f"{annotation}: box {k} of 'data'") for k, box in enumerate(boxes)])
    classes = [CLASSES.index(name) if name in CLASSES else -1 for name in names]
    labels: Labels = {"segment": of_owner(owner, classes).astype(np.int16), "instance": owner.astype(np.int32)}
    write_scene(out, cloud, labels)
    return Counter(name for name in names if name not in CLASSES)


_Box = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _box(item: object, where: str) -> _Box:
    """Centre (3,), edge lengths (3,) and axes (3, 3), row by row."""
    found = entry(entry(item, "segments", where), "obbAligned", f"{where}: 'segments'")
    shapes = {"centroid": (3,), "axesLengths": (3,), "normalizedAxes": (3, 3)}
    inside = f"{where}: 'obbAligned'"
    centre, lengths, axes = (numbers(entry(found, key, inside), f"{inside}: '{key}'", s) for key, s in shapes.items())
    if np.abs(axes @ axes.T - np.eye(3)).max() > 1e-2:
        raise SceneFolderError(f"{inside}: 'normalizedAxes' must be three perpendicular unit vectors")
    return centre, lengths, axes


def _owner(points: NDArray[np.float32], boxes: list[_Box]) -> NDArray[np.int64]:
    """Position of the smallest box around each point, -1 for none. Shape (N,)."""
    owner = np.full(len(points), -1, np.int64)
    for k in sorted(range(len(boxes)), key=lambda k: -float(np.prod(boxes[k][1]))):
        centre, lengths, axes = boxes[k]
        owner[(np.abs((points - centre) @ axes.T) <= lengths / 2).all(axis=1)] = k
    return owner
