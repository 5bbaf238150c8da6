"""What relations cost beyond the plain queries for the same words, in a generated room.

python benchmarks/relations.py --json out/bench/relations.json [--quick] [--seed 7]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from rich.console import Console
from rich.table import Table

from mosaic3d_core.data.synthetic import open_room
from mosaic3d_core.data.synthetic.record import fuse_sequence
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import QueryEngine
from mosaic3d_core.query.relations import Viewpoint, query_with_relations
from mosaic3d_core.query.sources import instances_of

#: A text with relations, and the words that are looked for.
TEXTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("chair near the table", ("chair", "table")),
    ("chair not near the window", ("chair", "window")),
    ("tv on the cabinet", ("tv", "cabinet")),
    ("chair on the floor", ("chair", "floor")),
    ("picture on the wall", ("picture", "wall")),
    ("nearest chair to the window", ("chair", "window")),
    ("nearest chair to me", ("chair",)),
    ("farthest chair from the window", ("chair", "window")),
    ("chair left of the table", ("chair", "table")),
    ("chair between the table and the window", ("chair", "table", "window")),
)


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median time in ms, and what came last; the first call is not counted."""
    times, found = [], work()
    for _ in range(repeats):
        began = time.perf_counter()
        found = work()
        times.append((time.perf_counter() - began) * 1e3)
    return median(times), found


def run(seed: int, frames: int, width: int, repeats: int) -> dict[str, Any]:
    """Encode the room and ask."""
    encoder = SceneEncoder.from_checkpoint(None)
    engine = QueryEngine(get_text_encoder(encoder.text_encoder_name))
    features = encoder.encode(fuse_sequence(open_room(seed, "test", frames=frames, width=width, height=width * 3 // 4)))
    view = instances_of(features, engine)
    up = features.snapshot.up
    viewpoint = Viewpoint.from_pose(np.eye(4), False, up)
    rows = []
    for text, words in TEXTS:
        plain, _ = timed(lambda words=words: engine.query(features, list(words), instances=view), repeats)
        whole, found = timed(
            lambda text=text: query_with_relations(engine, features, [text], instances=view, viewpoint=viewpoint), repeats
        )
        rows.append(
            {"text": text, "plain_ms": plain, "whole_ms": whole, "beyond_ms": whole - plain, "answers": len(found.reasons)}
        )
    return {"map_voxels": len(features.snapshot), "instances": len(view), "texts": rows}


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a room seen in 30 small frames")
    parser.add_argument("--seed", type=int, default=7, help="test room (default 7)")
    args = parser.parse_args(arguments)
    result = run(args.seed, *((30, 320, 2) if args.quick else (120, 640, 9)))
    table = Table("text", "plain", "with relations", "beyond", "answers", title=f"{result['map_voxels']} voxels, ms")
    for row in result["texts"]:
        times = (f"{row[key]:.1f}" for key in ("plain_ms", "whole_ms", "beyond_ms"))
        table.add_row(row["text"], *times, str(row["answers"]))
    Console().print(table)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
