"""Fusion time per frame beside Open3D's VoxelBlockGrid, same frames, same run, one CPU thread each.

python benchmarks/fusion.py --json out/fusion.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # both sides on one thread; read when the libraries below load

import numpy as np
from rich.console import Console
from rich.table import Table

from mosaic3d_core.data.sequences import open_sequence
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.mapping import VoxelMap, VoxelMapConfig


def load(source: str | None, count: int) -> tuple[str, list[RGBDFrame]]:
    """The frames to fuse: the given sequence, else the real kitchen where it is, else a generated room."""
    kitchen = ROOT.parent / "shared" / "data" / "7scenes_redkitchen"
    name = source or (str(kitchen) if kitchen.is_dir() else "room:7")
    sequence = open_sequence(name, frames=count) if name.startswith("room:") else open_sequence(name)
    return sequence.name, [sequence[i] for i in range(min(count, len(sequence)))]


def ours(frames: list[RGBDFrame], stride: int) -> tuple[list[float], int]:
    """Milliseconds per frame and the number of voxels."""
    voxel_map = VoxelMap(VoxelMapConfig(pixel_stride=stride))
    voxel_map.integrate(frames[0])  # compiles
    voxel_map.reset()
    times = []
    for frame in frames:
        start = time.perf_counter()
        voxel_map.integrate(frame)
        times.append((time.perf_counter() - start) * 1e3)
    return times, len(voxel_map)


def open3d_grid(frames: list[RGBDFrame]) -> tuple[list[float], int]:
    """The same with Open3D's VoxelBlockGrid (TSDF, weight and colour, 2 cm, blocks of 16^3)."""
    import open3d as o3d
    import open3d.core as o3c

    cpu = o3c.Device("CPU:0")
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"), (o3c.float32, o3c.float32, o3c.float32), ((1), (1), (3)), 0.02, 16, 20_000, cpu
    )
    times = []
    for frame in frames:
        depth = o3d.t.geometry.Image(np.ascontiguousarray(frame.depth))
        color = o3d.t.geometry.Image(frame.color.astype(np.float32) / 255)
        k_depth = o3c.Tensor(frame.depth_camera.matrix)
        k_color = o3c.Tensor((frame.color_camera or frame.depth_camera).matrix)
        extrinsic = o3c.Tensor(np.linalg.inv(frame.T_world_camera))
        start = time.perf_counter()
        blocks = grid.compute_unique_block_coordinates(depth, k_depth, extrinsic, 1.0, 5.0)
        grid.integrate(blocks, depth, color, k_depth, k_color, extrinsic, 1.0, 5.0)
        times.append((time.perf_counter() - start) * 1e3)
    return times, int(grid.hashmap().size()) * 16**3


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Fusion time per 640x480 frame beside Open3D VoxelBlockGrid.")
    parser.add_argument("--sequence", default=None, help="default: ../shared/data/7scenes_redkitchen, else room:7")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--quick", action="store_true", help="10 frames")
    args = parser.parse_args(arguments)
    try:
        name, frames = load(args.sequence, 10 if args.quick else args.frames)
    except Mosaic3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = {
        "ours, every 2nd pixel (default)": ours(frames, 2),
        "ours, every pixel": ours(frames, 1),
        "Open3D VoxelBlockGrid": open3d_grid(frames),
    }
    table = Table("", "median ms", "p95 ms", "voxels", title=f"{len(frames)} frames of {name}, 2 cm, one thread each")
    for label, (times, voxels) in rows.items():
        table.add_row(label, f"{statistics.median(times):.1f}", f"{np.percentile(times, 95):.1f}", f"{voxels:,}")
    Console().print(table)
    (default, voxels), (full, _), (other, allocated) = rows.values()
    result = {
        "ours_ms": statistics.median(default),
        "ours_full_resolution_ms": statistics.median(full),
        "open3d_ms": statistics.median(other),
        "voxels": voxels,
        "open3d_voxels_allocated": allocated,
        "frames": len(frames),
        "sequence": name,
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
