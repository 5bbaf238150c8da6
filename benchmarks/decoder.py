"""Time of the mask decoder by map size, beyond the encoder: queries, masks and proposals of a made-up furnished room.

python benchmarks/decoder.py --json out/decoder.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.query import furnished_box
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.models import FeatureMap, SceneEncoder
from mosaic3d_core.models.mask_decoder.checkpoint import load_decoder
from mosaic3d_core.models.precision import choose_device, choose_dtype
from mosaic3d_core.query.proposals import DecoderProposals
from mosaic3d_core.query.sources import DEFAULT_DECODER


def measure(source: DecoderProposals, encoded: FeatureMap, repeat: int) -> dict[str, float]:
    """Median times in ms of the decoder, masks to proposals included."""
    found = source.propose(encoded)  # compiles and warms up
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        source.propose(encoded)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    middle = statistics.median(times)
    return {
        "encoder_voxels": len(encoded.cells),
        "encode_ms": encoded.encode_ms,
        "decoder_ms": middle,
        "us_per_voxel": middle * 1e3 / max(len(encoded.cells), 1),
        "proposals": len(found),
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", type=Path, default=DEFAULT_DECODER, help="default: the one that ships")
    parser.add_argument("--checkpoint", type=Path, default=None, help="its encoder (default: the one that ships)")
    parser.add_argument("--queries", type=int, default=150)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="small maps and few repetitions")
    args = parser.parse_args(arguments)
    sizes, repeat = ((30_000, 60_000), 2) if args.quick else ((60_000, 120_000, 240_000, 480_000, 620_000), 7)
    if args.queries < 1:
        print("error: --queries must be >= 1", file=sys.stderr)
        return 2
    try:
        encoder = SceneEncoder.from_checkpoint(args.checkpoint, device=args.device)
        loaded = load_decoder(args.decoder)
        loaded.check_encoder(encoder.head, args.decoder.name)
    except (Mosaic3DError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    device = choose_device(args.device)
    dtype = choose_dtype(device)
    source = DecoderProposals(loaded.model.to(device), queries=args.queries, dtype=dtype)
    rows = []
    for size in sizes:
        snapshot, things = furnished_box(size, np.random.default_rng(0))
        colors = np.random.default_rng(1).uniform(40, 215, (int(things.max()) + 1, 3))[things]
        snapshot.colors[:] = colors  # each thing has its colour
        encoder.encode(snapshot)  # the first maps of a process take longer
        rows.append(measure(source, encoder.encode(snapshot), repeat) | {"map_voxels": len(snapshot)})
    columns = ("map voxels", "encoder voxels", "encode ms", "decoder ms", "µs per voxel", "proposals")
    table = Table(*columns, title=f"{args.queries} queries, {dtype}")
    for row in rows:
        table.add_row(
            f"{row['map_voxels']:,}",
            f"{row['encoder_voxels']:,}",
            f"{row['encode_ms']:.0f}",
            f"{row['decoder_ms']:.0f}",
            f"{row['us_per_voxel']:.2f}",
            str(row["proposals"]),
        )
    Console().print(table)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"queries": args.queries, "dtype": str(dtype), "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
