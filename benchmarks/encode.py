"""Encode time by net, number of voxels and dtype; prints a table, ``--json FILE`` writes it as well.

The clouds are surfaces of furnished rooms, as a map has them: floor, walls and boxes with sensor noise, two voxels thick in
places (about 17 of 27 neighbours occupied). Every row runs in a process of its own, so that ``peak_mb`` (resident memory
of the whole process) and ``first_ms`` (the first call after the warm-up that a node does, compiled kernels in their cache) are
its own.

Rows of backend spconv run where spconv is installed: its CPU build (of which two threads are known to give wrong results now
and then: a measure of time only) or its CUDA one. The two headline ratios compare with the better of its CPU rows.

"encoder" is the net from cells to features with its kernel maps built anew each time; "rulebook" these kernel maps alone, of
all five levels; "scene" is ``SceneEncoder.encode`` of a 2 cm map on the 4 cm grid of the narrow net: pooling, net and norms.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

VOXEL_M = 0.02
#: (variant, path, voxels, backend, threads); 0 threads: all cores
QUICK = [
    ("any", "rulebook", 20_000, "torch", 0),
    ("narrow", "encoder", 20_000, "torch", 0),
    ("spunet14a", "encoder", 20_000, "torch", 0),
    ("spunet14a", "encoder", 20_000, "spconv", 1),
    ("narrow", "scene", 50_000, "torch", 0),
]
FULL = [
    ("any", "rulebook", 100_000, "torch", 0),
    ("any", "rulebook", 1_000_000, "torch", 0),
    ("narrow", "encoder", 20_000, "torch", 0),
    ("narrow", "encoder", 100_000, "torch", 0),
    ("narrow", "encoder", 300_000, "torch", 0),
    ("spunet14a", "encoder", 40_000, "torch", 0),
    ("spunet14a", "encoder", 100_000, "torch", 0),
    ("spunet34c", "encoder", 40_000, "torch", 0),
    ("spunet34c", "encoder", 100_000, "torch", 0),
    ("spunet34c", "encoder", 100_000, "spconv", 1),
    ("spunet34c", "encoder", 100_000, "spconv", 2),
    ("spunet34c", "encoder", 300_000, "torch", 0),
    ("spunet34c", "encoder", 1_000_000, "torch", 0),
    ("narrow", "scene", 100_000, "torch", 0),
    ("narrow", "scene", 300_000, "torch", 0),
]
COLUMNS = ("variant", "path", "voxels", "backend", "dtype", "threads", "median_ms", "p95_ms", "first_ms", "peak_mb", "cosine_min")


def surface(origin: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Points on a parallelogram, closer together than voxels."""
    steps = [max(2, int(np.linalg.norm(side) / (0.4 * VOXEL_M))) for side in (first, second)]
    a, b = (grid.reshape(-1, 1) for grid in np.meshgrid(*(np.linspace(0, 1, n) for n in steps), indexing="ij"))
    return origin + a * first + b * second


def furniture(rng: np.random.Generator, width: float, depth: float) -> np.ndarray:
    """Points on the sides and the top of a turned box on the floor."""
    size = np.array([*rng.uniform(0.3, 1.6, 2), rng.uniform(0.3, 1.5)])
    half, axes = size / 2, np.diag(size)
    sides = []
    for axis in range(3):
        first, second = axes[(axis + 1) % 3], axes[(axis + 2) % 3]
        for sign in (-1, 1):
            if (axis, sign) != (2, -1):
                centre = sign * half[axis] * np.eye(3)[axis]
                sides.append(surface(centre - first / 2 - second / 2, first, second))
    yaw = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    place = np.array([rng.uniform(0, width), rng.uniform(0, depth), half[2]])
    return np.concatenate(sides) @ turn.T + place


def room(scale: float, seed: int = 0) -> np.ndarray:
    """Occupied cells of a room of 6 x 5 m times ``scale``. Shape (N, 3), int32."""
    rng = np.random.default_rng(seed)
    width, depth, height = np.diag([6 * scale, 5 * scale, 2.7])
    origin = np.zeros(3)
    parts = [surface(origin, width, depth), surface(origin, width, height), surface(origin, depth, height)]
    parts += [furniture(rng, width[0], depth[1]) for _ in range(1 + int(14 * scale * scale))]
    points = np.concatenate(parts)
    points += rng.normal(0, 0.004, points.shape)
    return np.unique(np.floor(points / VOXEL_M).astype(np.int32), axis=0)


def room_of(voxels: int) -> np.ndarray:
    """A room with exactly ``voxels`` cells: the next larger one, cut at one end."""
    low, high = 0.1, 0.3
    while len(room(high)) < voxels:
        low, high = high, high * 1.5
    for _ in range(5):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if len(room(middle)) < voxels else (low, middle)
    return room(high)[:voxels]


def snapshot_of(cells: np.ndarray):  # noqa: ANN201
    """The cells as a map with colours and normals."""
    from mosaic3d_core.mapping import MapSnapshot

    rng = np.random.default_rng(1)
    normals = rng.normal(size=cells.shape)
    return MapSnapshot(
        generation=1,
        stamp_ns=0,
        voxel_size_m=VOXEL_M,
        indices=cells,
        centroids=((cells + 0.5) * VOXEL_M).astype(np.float32),
        colors=rng.uniform(0, 255, cells.shape).astype(np.float32),
        normals=(normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        weights=np.ones(len(cells), np.float32),
        last_seen_ns=np.zeros(len(cells), np.int64),
    )


def measure(
    variant: str, path: str, voxels: int, backend: str, threads: int, dtype: str, device: str, repeat: int
) -> dict[str, object]:
    """One row, in this process."""
    import torch

    from mosaic3d_core.models.building import build_sparse_unet
    from mosaic3d_core.models.checkpoint import LoadedCheckpoint
    from mosaic3d_core.models.scene_encoder import SceneEncoder
    from mosaic3d_core.models.sparse_unet import fold_batchnorm
    from mosaic3d_core.sparse import SparseTensor

    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    cells = room_of(voxels)
    if path == "rulebook":
        indices = torch.from_numpy(np.insert(cells, 0, 0, axis=1)).to(device)
        build_rulebooks(indices[:10_000].clone())
        times = timed(lambda: build_rulebooks(indices), repeat)
        return row_of(variant, path, voxels, backend, "int32", device, times, None)
    names = ("color", "occupancy", "verticality", "height") if variant == "narrow" else ("color",)
    in_channels = 6 if variant == "narrow" else 3
    net = build_sparse_unet(variant, in_channels=in_channels, init="kaiming").eval()
    compute = getattr(torch, dtype)
    if path == "scene":
        metadata = {"text_encoder": "minilm", "voxel_size_m": 2 * VOXEL_M, "input_channels": names, "logit_scale": 20.0}
        encoder = SceneEncoder(LoadedCheckpoint(net, net.config, metadata), device=device, dtype=compute)
        snapshot = snapshot_of(cells)
        work = lambda: encoder.encode(snapshot)  # noqa: E731
    else:
        indices = torch.from_numpy(np.insert(cells, 0, 0, axis=1)).to(device)
        features = (torch.rand(len(cells), in_channels) * 2 - 1).to(device)
        folded = fold_batchnorm(net).to(device)
        folded.compute_dtype = compute
        if backend == "spconv":
            from mosaic3d_core.models.spconv_unet import SpconvUNet

            other = SpconvUNet(net, compute).to(device)
            work = lambda: other(features, indices).cpu()  # noqa: E731
        else:

            def work() -> torch.Tensor:
                with torch.inference_mode():
                    return folded(SparseTensor(features, indices)).cpu()

    # as a node does before its first map: compiled kernels are loaded on a small cloud, so that no map waits for them
    if path == "scene":
        encoder.warm_up()
    elif backend == "torch":
        few = torch.from_numpy(np.insert(room_of(10_000), 0, 0, axis=1)).to(device)
        with torch.inference_mode():
            folded(SparseTensor(torch.zeros(len(few), in_channels, device=device), few))
    if backend == "torch":
        del net  # a node keeps only the folded one
    times = timed(work, repeat)
    row = row_of(variant, path, voxels, backend, dtype, device, times, None)
    if path == "encoder" and (compute != torch.float32 or backend != "torch"):
        result = work()
        folded.compute_dtype = torch.float32
        with torch.inference_mode():
            exact = folded(SparseTensor(features, indices)).cpu()
        row["cosine_min"] = round(float(torch.nn.functional.cosine_similarity(result, exact, dim=1).min()), 5)
    return row


def build_rulebooks(indices: torch.Tensor) -> None:
    """Kernel maps of five levels, as the nets use them."""
    from mosaic3d_core.sparse.coordinates import CoordinateSet

    level = CoordinateSet(indices)
    for depth in range(5):
        level.neighbours()
        level.tap_order()
        if depth < 4:
            level.children()
            level = level.coarse()
    if indices.device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def timed(work: Callable[[], object], repeat: int) -> list[float]:
    """Milliseconds of the first call and of ``repeat`` more."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def row_of(
    variant: str, path: str, voxels: int, backend: str, dtype: str, device: str, times: list[float], cosine_min: float | None
) -> dict[str, object]:
    """A row of the table."""
    import torch

    first, rest = times[0], sorted(times[1:])
    return {
        "variant": variant,
        "path": path,
        "voxels": voxels,
        "backend": backend,
        "dtype": dtype,
        "device": device,
        "threads": torch.get_num_threads(),
        "median_ms": round(statistics.median(rest), 1),
        "p95_ms": round(rest[min(len(rest) - 1, int(0.95 * len(rest)))], 1),
        "first_ms": round(first, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "cosine_min": cosine_min,
    }


def in_own_process(row: tuple[str, str, int, str, int], dtype: str, device: str, repeat: int) -> dict[str, object]:
    """One row, measured in a process of its own."""
    command = [sys.executable, __file__, "--row", json.dumps([*row, dtype, device, repeat])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"measuring {row} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--quick", action="store_true", help="small clouds only, under a minute")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"], help="dtypes to measure")
    parser.add_argument("--repeat", type=int, default=9, help="calls per row after the first (default: %(default)s)")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(*json.loads(arguments.row))))
        return
    rows = []
    spconv = importlib.util.find_spec("spconv") is not None
    print("  ".join(f"{name:>10}" for name in COLUMNS))
    for row in QUICK if arguments.quick else FULL:
        if row[3] == "spconv" and not spconv:
            print(f"{row[0]} with spconv is left out: spconv is not installed")
            continue
        cpu_spconv = row[3] == "spconv" and arguments.device == "cpu"
        huge = row[2] > 300_000  # minutes in the slower dtype, to no new insight
        one_dtype = huge or row[1] == "rulebook"
        for dtype in ["float32"] if cpu_spconv else arguments.dtypes[:1] if one_dtype else arguments.dtypes:
            large = huge or cpu_spconv
            rows.append(in_own_process(row, dtype, arguments.device, min(arguments.repeat, 3) if large else arguments.repeat))
            print("  ".join(f"{rows[-1][name]!s:>10}" for name in COLUMNS), flush=True)
    result = headlines(rows) | {"rows": rows}
    for name in ("speedup_34c_100k_bf16", "speedup_34c_100k_fp32", "cosine_min"):
        print(f"{name}: {result[name]}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def headlines(rows: list[dict[str, object]]) -> dict[str, object]:
    """How many times faster than spconv the large net is, and the worst cosine to float32; None where a row is missing."""

    def times(backend: str, dtype: str) -> list[float]:
        wanted = {"variant": "spunet34c", "voxels": 100_000, "backend": backend, "dtype": dtype}
        return [float(r["median_ms"]) for r in rows if all(r[k] == v for k, v in wanted.items())]  # type: ignore[arg-type]

    theirs = min(times("spconv", "float32"), default=None)
    found: dict[str, object] = {}
    for name, dtype in (("speedup_34c_100k_bf16", "bfloat16"), ("speedup_34c_100k_fp32", "float32")):
        ours = min(times("torch", dtype), default=None)
        found[name] = None if theirs is None or ours is None else round(theirs / ours, 2)
    cosines = [float(r["cosine_min"]) for r in rows if r["cosine_min"] is not None and r["backend"] == "torch"]  # type: ignore[arg-type]
    found["cosine_min"] = min(cosines, default=None)
    return found


if __name__ == "__main__":
    main()
