"""``mosaic3d map``: fuse a posed RGB-D sequence into a map file."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mosaic3d_core.cli import console
from mosaic3d_core.interrupts import is_interrupt, noted_interrupts

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot, VoxelMap

_EPILOG = """\
examples:
  mosaic3d map room:3 --out room.m3dmap
  mosaic3d map rgbd_scenes/kitchen --out kitchen.m3dmap --voxel-size 0.02
  mosaic3d map drive.mcap --out hall.m3dmap --every 2 --no-features

Sequences: a folder in the 7-Scenes, Open3D/ICL or TUM style, a ROS 2 bag, or room:SEED for a generated room.
Ctrl-C writes nothing; with --keep-partial it saves what has been fused so far.
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser = commands.add_parser(
        "map",
        help="fuse a posed RGB-D sequence into a map",
        description=console.describe(__doc__),
        epilog=_EPILOG,
    )
    parser.add_argument("sequence", metavar="SEQUENCE", help="folder, bag or room:SEED")
    parser.add_argument("--out", required=True, metavar="MAP", help="map file to write (*.m3dmap)")
    parser.add_argument("--voxel-size", type=console.positive_float, default=0.02, metavar="M", help="metres (default: 0.02)")
    parser.add_argument("--max-depth", type=console.positive_float, metavar="M", help="ignore depth beyond, metres")
    parser.add_argument("--every", type=console.positive_int, default=1, metavar="N", help="use every N-th frame")
    parser.add_argument("--max-frames", type=console.positive_int, metavar="N", help="stop after N frames")
    parser.add_argument("--no-features", action="store_true", help="do not encode; queries then encode when asked")
    parser.add_argument("--keep-partial", action="store_true", help="on Ctrl-C save what has been fused so far")
    console.add_model_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Fuse, encode, save."""
    target = Path(arguments.out)
    console.check_writable(target)
    from mosaic3d_core.data.sequences import open_sequence
    from mosaic3d_core.mapping import VoxelMap, VoxelMapConfig

    limits = {} if arguments.max_depth is None else {"max_depth_m": arguments.max_depth}
    voxel_map = VoxelMap(VoxelMapConfig(voxel_size_m=arguments.voxel_size, **limits))
    sequence = open_sequence(arguments.sequence)
    interrupted = False
    start = time.perf_counter()
    poses: list[np.ndarray] = []
    try:
        _fuse(sequence, voxel_map, poses, arguments)
    except (KeyboardInterrupt, SystemError) as error:
        if not (is_interrupt(error) and arguments.keep_partial and poses):
            raise
        interrupted = True
    seconds = time.perf_counter() - start
    snapshot = _with_up(voxel_map.snapshot(), sequence, poses)
    if len(snapshot) == 0:
        raise ValueError(f"{arguments.sequence} left an empty map: none of its {len(poses)} frames had usable depth")
    _save(snapshot, target, arguments, len(poses))
    console.out.print(
        f"{target}: {len(snapshot):,} voxels of {arguments.voxel_size * 100:g} cm from {len(poses)} frames "
        f"({seconds / max(len(poses), 1) * 1e3:.0f} ms per frame, reading included)"
    )
    skipped = Counter(getattr(sequence, "skipped", {}))
    if skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        console.out.print(f"skipped frames: {reasons}")
    if interrupted:
        sys.stderr.write("mosaic3d map: interrupted, saved what had been fused\n")
        return 130
    return 0


def _fuse(sequence: Any, voxel_map: VoxelMap, poses: list[np.ndarray], arguments: argparse.Namespace) -> None:
    total = len(range(0, len(sequence), arguments.every))
    total = min(total, arguments.max_frames or total)
    console.err.print(f"fusing {total} frames of {arguments.sequence}", highlight=False, soft_wrap=True)
    with console.progress() as progress, noted_interrupts() as stop_if_interrupted:
        task = progress.add_task("fusing", total=total)
        for number, frame in enumerate(sequence):
            stop_if_interrupted()
            if number % arguments.every:
                continue
            voxel_map.integrate(frame)
            poses.append(frame.T_world_camera)
            progress.update(task, advance=1, description=f"fusing ({len(voxel_map):,} voxels)")
            if len(poses) >= total:
                break


def _with_up(snapshot: MapSnapshot, sequence: Any, poses: list[np.ndarray]) -> MapSnapshot:
    """The map with its up direction: z if the sequence knows gravity, else estimated."""
    if sequence.gravity_up is not None or not poses:
        return snapshot
    from mosaic3d_core.geometry.gravity import estimate_up

    return replace(snapshot, up=estimate_up(np.stack(poses), snapshot.normals))


def _save(snapshot: MapSnapshot, target: Path, arguments: argparse.Namespace, frames: int) -> None:
    from mosaic3d_core.mapping import save_map
    from mosaic3d_core.query.feature_store import pack_features

    metadata: dict[str, Any] = {"sequence": str(arguments.sequence), "frames": frames}
    extras: dict[str, np.ndarray] = {}
    if not arguments.no_features:
        about, extras = pack_features(console.encode(snapshot, arguments))
        metadata |= about
    with console.err.status("writing the map"):
        save_map(snapshot, target, metadata, extras)
