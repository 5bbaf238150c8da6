"""Converters of raw data sets, one row each, and the run that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mosaic3d_core.data.caption_files import SceneFolderError
from mosaic3d_core.data.raw import arkitscenes, matterport3d, scannet, scannetpp, structured3d
from mosaic3d_core.data.raw.common import ConversionReport, is_complete
from mosaic3d_core.errors import Mosaic3DError

#: Writes one scene (its place in the raw data) as a scene folder; returns objects by label that is none of the classes.
Convert = Callable[[Path, Path], Counter[str]]


@dataclass(frozen=True)
class Converter:
    """How one data set becomes scene folders.

    Attributes:
        title: For the help.
        layout: Where a scene lies below the raw folder, for the help and for messages.
        find: Scenes of a raw folder by name.
        prepare: Makes the conversion of a scene from the raw folder and the label file (None: its usual place).
        labels: Label file and its usual place, for the help; None where there is none.
        classes: What unknown labels are none of, for the report.
    """

    title: str
    layout: str
    find: Callable[[Path], dict[str, Path]]
    prepare: Callable[[Path, Path | None], Convert]
    labels: str | None
    classes: str


def _scannet(raw: Path, labels: Path | None) -> Convert:
    table = scannet.LabelTable.read(labels or raw / scannet.LABEL_TABLE)
    return lambda scan, out: scannet.convert_scan(scan, table, out)


def _scannetpp(raw: Path, labels: Path | None) -> Convert:
    classes = scannetpp.read_classes(raw, labels)
    return lambda scans, out: scannetpp.convert_scene(scans, classes, out)


def _matterport3d(raw: Path, labels: Path | None) -> Convert:
    table = matterport3d.LabelTable.read(labels or raw / matterport3d.LABEL_TABLE)
    return lambda mesh, out: matterport3d.convert_region(mesh, table, out)


CONVERTERS = {
    "scannet": Converter(
        "ScanNet's raw scans",
        "scans/SCENE/SCENE_vh_clean_2.ply",
        scannet.find_scans,
        _scannet,
        f"label table (default: RAW/{scannet.LABEL_TABLE})",
        "the 200 classes",
    ),
    "arkitscenes": Converter(
        "ARKitScenes' raw scans",
        "Training/VIDEO/VIDEO_3dod_mesh.ply",
        arkitscenes.find_videos,
        lambda raw, labels: arkitscenes.convert_video,
        None,
        "the 17 classes",
    ),
    "scannetpp": Converter(
        "ScanNet++'s raw scenes",
        "data/SCENE/scans/mesh_aligned_0.05.ply",
        scannetpp.find_scenes,
        _scannetpp,
        f"one class per line (default: RAW/{scannetpp.CLASS_LISTS[0]}, else RAW/{scannetpp.CLASS_LISTS[1]})",
        "the classes",
    ),
    "matterport3d": Converter(
        "Matterport3D's region segmentations",
        "v1/scans/SCAN/region_segmentations/regionK.ply",
        matterport3d.find_regions,
        _matterport3d,
        f"label table (default: RAW/{matterport3d.LABEL_TABLE})",
        "the 21 classes",
    ),
    "structured3d": Converter(
        "Structured3D's rendered rooms",
        "scene_XXXXX/2D_rendering/ROOM",
        structured3d.find_rooms,
        lambda raw, labels: structured3d.convert_room,
        None,
        "the classes",
    ),
}


def convert(converter: Converter, raw: Path, labels: Path | None, out: Path) -> ConversionReport:
    """Convert all scenes of a data set; a second call goes on where the first stopped.

    Args:
        converter: The data set's.
        raw: Folder of the raw data.
        labels: Label file, None for its usual place.
        out: Folder to write scenes into.

    Raises:
        SceneFolderError: If there are no scenes or no label file.
        OSError: If a scene cannot be written.
    """
    scenes = converter.find(raw)
    if not scenes:
        raise SceneFolderError(f"no scenes in {raw}: expected {converter.layout}")
    convert_scene = converter.prepare(raw, labels)
    report = ConversionReport()
    for name, place in track(scenes.items(), description="scenes", console=Console(stderr=True)):
        if is_complete(out / name):
            report.there += 1
            continue
        try:
            report.unknown += convert_scene(place, out / name)
            report.written += 1
        except Mosaic3DError as error:
            report.skipped[name] = str(error)
    return report


def print_report(report: ConversionReport, classes: str) -> None:
    """Print what was written, was there and was left out and why."""
    print(f"{report.written} scenes written, {report.there} were there, {len(report.skipped)} left out")
    for name, reason in report.skipped.items():
        print(f"  {name}: {reason}")
    if report.unknown:
        most = ", ".join(f"{label} ({count})" for label, count in report.unknown.most_common(10))
        print(f"  {sum(report.unknown.values())} objects are none of {classes}: {most}")
