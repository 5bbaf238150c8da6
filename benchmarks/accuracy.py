"""Scores of the shipped (or another) checkpoint over generated test rooms.

python benchmarks/accuracy.py --rooms 20 --first-seed 1000 --json out/accuracy.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import track
from rich.table import Table

from mosaic3d_core.data.synthetic import open_room
from mosaic3d_core.data.synthetic.record import fuse_sequence, true_labels
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.metrics.room_scores import RoomScores, score_room
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import QueryEngine
from mosaic3d_core.query.sources import instances_of


def evaluate(
    rooms: int, first_seed: int, checkpoint: Path | None, frames: int, decoder: str | None = ""
) -> tuple[RoomScores, list[float]]:
    """Scores over `rooms` test rooms and the encode times in ms; without a decoder (None) answers come from voxels alone."""
    encoder = SceneEncoder.from_checkpoint(checkpoint)
    text_encoder = get_text_encoder(encoder.text_encoder_name)
    scores, times = RoomScores(), []
    for seed in track(range(first_seed, first_seed + rooms), description="rooms"):
        sequence = open_room(seed, "test", frames=frames)
        snapshot = fuse_sequence(sequence)
        features = encoder.encode(snapshot)
        times.append(features.encode_ms)
        _, instance = true_labels(sequence, snapshot.centroids)
        engine = QueryEngine(text_encoder)
        instances = None if decoder is None else instances_of(features, engine, decoder)
        answers, confusion = score_room(features, engine, instance, sequence.scene.class_ids, instances)
        scores.add(answers, confusion)
    return scores, times


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Query accuracy over generated test rooms.")
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=120, help="frames per room (default 120)")
    parser.add_argument("--checkpoint", type=Path, default=None, help="default: the shipped one")
    parser.add_argument("--decoder", default="", help="mask decoder, or 'components' (default: the shipped one where it fits)")
    parser.add_argument("--voxels-only", action="store_true", help="answer without instances")
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="2 rooms of 40 frames")
    args = parser.parse_args(arguments)
    if args.quick:
        args.rooms, args.frames = 2, 40
    if args.rooms < 1 or args.first_seed < 0 or args.frames < 1:
        print("error: --rooms and --frames must be >= 1, --first-seed >= 0", file=sys.stderr)
        return 2
    start = time.perf_counter()
    try:
        scores, times = evaluate(
            args.rooms, args.first_seed, args.checkpoint, args.frames, None if args.voxels_only else args.decoder
        )
    except Mosaic3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    result = scores.result() | {
        "first_seed": args.first_seed,
        "frames_per_room": args.frames,
        "encode_ms_median": sorted(times)[len(times) // 2],
        "seconds": round(time.perf_counter() - start, 1),
        "by_class": {k: list(v) for k, v in scores.by_class().items()},
    }
    console = Console()
    table = Table("score", "value", title=f"{args.rooms} test rooms, seeds {args.first_seed}..{args.first_seed + args.rooms - 1}")
    for key, value in result.items():
        if key != "by_class":
            table.add_row(key, f"{value:.3f}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print("by name: " + ", ".join(f"{name} {right}/{asked}" for name, (right, asked) in scores.by_class().items()))
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
