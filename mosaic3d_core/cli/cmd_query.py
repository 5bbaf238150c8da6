"""``mosaic3d query``: find things in a map by words."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mosaic3d_core.cli import console

if TYPE_CHECKING:
    from mosaic3d_core.query import DetectedObject, QueryResult

_EPILOG = """\
examples:
  mosaic3d query kitchen.m3dmap chair "a place to sit"
  mosaic3d query kitchen.m3dmap door --json
  mosaic3d query kitchen.m3dmap table --region -1 -1 0 2 2 1.5 --out pictures

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
    parser.add_argument("--out", metavar="DIR", help="write a heat map with boxes per text into DIR")
    console.add_model_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Answer the query."""
    from mosaic3d_core.query import QueryConfig
    from mosaic3d_core.query.engine import check_max_objects, check_min_score, check_texts

    # Refuse a bad question before the seconds of loading and encoding.
    config = QueryConfig()
    check_texts(arguments.texts, config)
    check_min_score(arguments.min_score, config)
    check_max_objects(arguments.max_objects)
    if arguments.out:
        console.check_folder(Path(arguments.out))
    feature_map = console.load_encoded(arguments.map, arguments)
    engine = console.engine_for(feature_map, arguments)
    region = None if arguments.region is None else (arguments.region[:3], arguments.region[3:])
    instances = console.instances_for(feature_map, engine, arguments)
    result = engine.query(feature_map, arguments.texts, arguments.min_score, arguments.max_objects, region, instances)
    pictures = _draw(result, Path(arguments.out)) if arguments.out else []
    if arguments.json:
        sys.stdout.write(json.dumps(as_json(result), indent=2) + "\n")
        return 0
    console.out.print(as_table(result))
    console.out.print(f"{len(feature_map.snapshot):,} voxels, {result.elapsed_ms:.0f} ms")
    for path in pictures:
        console.out.print(str(path), soft_wrap=True)
    return 0


def as_json(result: QueryResult) -> dict[str, Any]:
    """The answer as JSON values."""
    return {
        "generation": int(result.generation),
        "elapsed_ms": round(result.elapsed_ms, 3),
        "voxels": len(result.snapshot),
        "texts": list(result.texts),
        "objects": [_object_json(found) for found in result.objects],
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
    for name in ("score", "centre (m)", "size (m)", "voxels"):
        table.add_column(name, justify="right", no_wrap=True)
    for text in dict.fromkeys(result.texts):
        objects = result.of(text)
        for row, found in enumerate(objects):
            table.add_row(
                text if row == 0 else "",
                f"{found.score:.2f}",
                " ".join(f"{v:.2f}" for v in found.box.center),
                " x ".join(f"{v:.2f}" for v in found.box.size),
                str(len(found.voxel_indices)),
            )
        if not objects:
            table.add_row(text, "-", "nothing like that here", "", "")
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
