"""``mosaic3d query``: find things in a map by words."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mosaic3d_core.cli import console
from mosaic3d_core.errors import QueryError

if TYPE_CHECKING:
    from mosaic3d_core.query import DetectedObject, QueryResult
    from mosaic3d_core.query.relations import RelationalResult, Viewpoint

_EPILOG = """\
examples:
  mosaic3d query kitchen.m3dmap chair "a place to sit"
  mosaic3d query kitchen.m3dmap door --json
  mosaic3d query kitchen.m3dmap table --region -1 -1 0 2 2 1.5 --out pictures
  mosaic3d query kitchen.m3dmap "the chair near the window" "on the table"
  mosaic3d query kitchen.m3dmap "nearest chair" "lamp left of the sofa" --viewpoint 0 1.5 1.2 90

Positions and sizes are metres in the map frame. A text that matches nothing has no object, and the exit code
is still 0.
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser = commands.add_parser(
        "query", help="find things in a map by words", description=console.describe(__doc__), epilog=_EPILOG
    )
    parser.add_argument("map", metavar="MAP", help="map file")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="words or short descriptions")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--min-score", type=float, metavar="S", help="least score of an object, 0 to 1")
    parser.add_argument("--max-objects", type=int, metavar="N", help="most objects per text (default: all)")
    parser.add_argument(
        "--region",
        type=float,
        nargs=6,
        metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="look in this box only",
    )
    parser.add_argument(
        "--viewpoint",
        type=float,
        nargs=4,
        metavar=("X", "Y", "Z", "YAW"),
        help='where "me" is and looks, for "left of", "nearest to me": metres, and degrees from the map\'s x axis to its y',
    )
    parser.add_argument(
        "--no-relations", action="store_true", help='take "the chair near the window" as a description, without resolving "near"'
    )
    parser.add_argument("--out", metavar="DIR", help="write a heat map with boxes per text into DIR")
    console.add_model_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Answer the query."""
    from mosaic3d_core.query import QueryConfig
    from mosaic3d_core.query.engine import check_max_objects, check_min_score, check_texts
    from mosaic3d_core.query.relations import RegionBox, query_with_relations

    # Refuse a bad question before the seconds of loading and encoding.
    config = QueryConfig()
    check_texts(arguments.texts, config)
    check_min_score(arguments.min_score, config)
    check_max_objects(arguments.max_objects)
    if arguments.out:
        console.check_folder(Path(arguments.out))
    feature_map, kept = console.load_encoded(arguments.map, arguments)
    engine = console.engine_for(feature_map, arguments)
    instances = console.instances_for(feature_map, engine, arguments, kept)
    answer = query_with_relations(
        engine,
        feature_map,
        arguments.texts,
        arguments.min_score,
        arguments.max_objects,
        None if arguments.region is None else RegionBox((arguments.region[:3], arguments.region[3:]), np.eye(4)),
        instances,
        _viewpoint(arguments.viewpoint, feature_map.snapshot.up),
        parse_relations=not arguments.no_relations,
    )
    result = answer.result
    pictures = _draw(result, Path(arguments.out)) if arguments.out else []
    if arguments.json:
        sys.stdout.write(json.dumps(as_json(answer), indent=2) + "\n")
        return 0
    console.out.print(as_table(result))
    for reason in filter(None, answer.reasons):
        console.out.print(reason, soft_wrap=True, markup=False)
    for note in answer.notes:
        console.out.print(note, soft_wrap=True, markup=False)
    console.out.print(f"{len(feature_map.snapshot):,} voxels, {result.elapsed_ms:.0f} ms")
    for path in pictures:
        console.out.print(str(path), soft_wrap=True)
    return 0


def _viewpoint(values: list[float] | None, up: NDArray[np.float64]) -> Viewpoint | None:
    from mosaic3d_core.query.boxes import ground_basis
    from mosaic3d_core.query.relations import Viewpoint

    if values is None:
        return None
    if not np.isfinite(values).all():
        raise QueryError(f"--viewpoint needs four finite numbers X Y Z YAW, got {values}")
    yaw = np.radians(values[3])
    level = ground_basis(up)  # heading from its first axis, which is the map's x where z is up
    T_map_viewer = np.eye(4)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    T_map_viewer[:3, :3], T_map_viewer[:3, 3] = level @ turn, values[:3]
    return Viewpoint.from_pose(T_map_viewer, False, up)


def as_json(answer: RelationalResult) -> dict[str, Any]:
    """The answer as JSON values."""
    result = answer.result
    return {
        "generation": int(result.generation),
        "elapsed_ms": round(result.elapsed_ms, 3),
        "voxels": len(result.snapshot),
        "texts": list(result.texts),
        "understood": list(answer.understood),
        "notes": list(answer.notes),
        "objects": [{**_object_json(found), "reason": reason} for found, reason in zip(result.objects, answer.reasons)],
    }


def _object_json(found: DetectedObject) -> dict[str, Any]:
    return {
        "id": found.id,
        "text": found.text,
        "score": round(found.score, 4),
        "center": [round(float(v), 4) for v in found.box.center],
        "size": [round(float(v), 4) for v in found.box.size],
        "rotation": [[round(float(v), 6) for v in row] for row in found.box.rotation],
        "num_voxels": len(found.voxel_indices),
    }


def as_table(result: QueryResult) -> Table:
    """The answer as a table: one row per object, one per text without any."""
    table = Table(box=SIMPLE_HEAD)  # without frames it fits 80 columns
    table.add_column("query", overflow="fold", min_width=14)
    for name in ("id", "score", "centre (m)", "size (m)", "voxels"):
        table.add_column(name, justify="right", no_wrap=True)
    for text in dict.fromkeys(result.texts):
        objects = result.of(text)
        for row, found in enumerate(objects):
            table.add_row(
                text if row == 0 else "",
                str(found.id),
                f"{found.score:.2f}",
                " ".join(f"{v:.2f}" for v in found.box.center),
                " x ".join(f"{v:.2f}" for v in found.box.size),
                str(len(found.voxel_indices)),
            )
        if not objects:
            table.add_row(text, "", "-", "nothing like that", "", "")
    return table


def _draw(result: QueryResult, folder: Path) -> list[Path]:
    from mosaic3d_core.visualization.pictures import Scene, picture_of_query, save_picture

    if len(result.snapshot) == 0:
        return []
    with console.err.status("drawing"):
        scene = Scene.of(result.snapshot)
        names = {text: f"query_{k + 1:02d}_{slug(text)}.png" for k, text in enumerate(dict.fromkeys(result.texts))}
        return [save_picture(picture_of_query(scene, result, text), folder / name) for text, name in names.items()]


def slug(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40] or "text"
