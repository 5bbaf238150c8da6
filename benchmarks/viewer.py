"""What the 3D view costs the server, by map size; prints a table, ``--json FILE`` writes it as well.

A client on this machine connects as a browser does and takes in what is sent, without drawing it: what drawing costs depends on
the graphics card. The map is the shell of a room with furniture.

prepare: making a map ready, once for all browsers, on the viewer's own thread. show: what the caller of ``MapViewer.show`` waits.
first: from connecting to the first points. all: to the last ones. heat: the colours of an answer.
update: bytes after a hundredth of the voxels changed colour in one corner. largest: the largest message; the browser takes in one
between two pictures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import viser
from query import furnished_box
from websockets.sync.client import ClientConnection, connect

from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.query.results import QueryResult
from mosaic3d_core.visualization.viewer import MapViewer, ViewData
from mosaic3d_core.visualization.viewer.scene import Scene

_QUIET_S = 1.0
_POINT_MESSAGE = 4_000  # bytes; everything of the panel is smaller
_CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (3.0, 3.0, 3.0),
    "fov": 1.0,
    "near": 0.1,
    "far": 100.0,
    "image_height": 600,
    "image_width": 800,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 0.0, 1.0),
}


def receive(socket: ClientConnection) -> tuple[list[float], list[int]]:
    """Times of the messages with points, and sizes of all, until none with points has come for a while."""
    times: list[float] = []
    sizes: list[int] = []
    last = time.perf_counter()
    while time.perf_counter() - last < _QUIET_S:
        try:
            data = socket.recv(timeout=0.1)
        except TimeoutError:
            continue
        sizes.append(len(data))
        if len(data) > _POINT_MESSAGE:
            last = time.perf_counter()
            times.append(last)
    return times, sizes


def heat_of(snapshot: MapSnapshot) -> QueryResult:
    """An answer that warms half of the map; only its colours matter here."""
    east = snapshot.centroids[:, 0]
    scores = (east > east.mean()).astype(np.float32)
    return QueryResult(("warm",), [], scores[None], np.arange(len(snapshot)), snapshot, 0.0)


def measure(voxels: int, repeat: int) -> dict[str, float]:
    """Figures for one map size."""
    rng = np.random.default_rng(0)
    snapshot = furnished_box(voxels, rng)[0]
    snapshot = replace(snapshot, colors=rng.uniform(0, 255, snapshot.colors.shape).astype(np.float32))
    data = ViewData(snapshot)
    prepare = []
    for _ in range(repeat):
        began = time.perf_counter()
        scene = Scene(data)
        _ = scene.true_colors
        prepare.append((time.perf_counter() - began) * 1e3)
    began = time.perf_counter()
    scene.heat_colors(heat_of(snapshot))
    heat_ms = (time.perf_counter() - began) * 1e3
    viewer = MapViewer(0, max_points=10 * voxels)
    try:
        began = time.perf_counter()
        viewer.show(data)
        show_ms = (time.perf_counter() - began) * 1e3
        while viewer._shown.scene is None:
            time.sleep(0.01)
        began = time.perf_counter()
        with connect(
            viewer.url.replace("http", "ws"), subprotocols=[f"viser-v{viser.__version__}"], max_size=None, close_timeout=1
        ) as socket:
            socket.send(msgspec.msgpack.encode(_CAMERA))
            times, sizes = receive(socket)
            first, last = times[0] - began, times[-1] - began
            corner = np.argsort(snapshot.centroids.sum(axis=1))[: len(snapshot) // 100]
            colors = snapshot.colors.copy()
            colors[corner] = 255 - colors[corner]
            viewer.show(ViewData(replace(snapshot, colors=colors, generation=2)))
            _, update = receive(socket)
    finally:
        viewer.close()
    return {
        "voxels": len(snapshot),
        "prepare_ms": statistics.median(prepare),
        "show_ms": show_ms,
        "first_ms": first * 1e3,
        "all_ms": last * 1e3,
        "megabytes": sum(sizes) / 1e6,
        "bytes_per_voxel": sum(sizes) / len(snapshot),
        "largest_megabytes": max(sizes) / 1e6,
        "messages": len(times),
        "heat_colors_ms": heat_ms,
        "update_megabytes": sum(update) / 1e6,
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="a small map")
    arguments = parser.parse_args()
    rows = [
        measure(size, 3 if arguments.quick else 7) for size in ((100_000,) if arguments.quick else (100_000, 400_000, 1_430_000))
    ]
    columns = {
        "voxels": ("voxels", ",.0f"),
        "prepare_ms": ("prepare ms", ".0f"),
        "show_ms": ("show ms", ".2f"),
        "first_ms": ("first ms", ".0f"),
        "all_ms": ("all ms", ".0f"),
        "megabytes": ("sent MB", ".1f"),
        "messages": ("messages", ".0f"),
        "largest_megabytes": ("largest MB", ".2f"),
        "heat_colors_ms": ("heat ms", ".0f"),
        "update_megabytes": ("update MB", ".2f"),
    }
    print("  ".join(f"{title:>10}" for title, _ in columns.values()))
    for row in rows:
        print("  ".join(f"{row[key]:>10{form}}" for key, (_, form) in columns.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps({"viewer": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
