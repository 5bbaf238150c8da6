"""The node's time to publish a labelled map: cloud, instance markers and, where vision_msgs is installed, detections.

python benchmarks/publishing.py --json out/bench/publishing.json [--quick] [--voxels 500000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from rich.console import Console
from rich.table import Table

from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.query import DetectedObject, Labelling, OrientedBox
from mosaic3d_ros.demo_processes import isolate_environment

_OBJECTS = 60
_SUBSCRIBER = """
import rclpy
from sensor_msgs.msg import PointCloud2
from mosaic3d_ros.qos import LATCHED
rclpy.init()
node = rclpy.create_node("viewer")
node.create_subscription(PointCloud2, "/publishing/labelled_cloud", lambda _: None, LATCHED)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
    pass
"""


def made_up_map(voxels: int) -> tuple[MapSnapshot, Labelling]:
    """A map of random voxels with labels and objects; what is in it makes no difference to how long it takes."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-5, 5, (voxels, 3)).astype(np.float32)
    snapshot = MapSnapshot.from_points(points, rng.uniform(0, 255, (voxels, 3)).astype(np.float32), 0.02)
    count = len(snapshot)
    words = tuple(f"word {k}" for k in range(60))
    box = OrientedBox(center=np.zeros(3), size=np.ones(3), rotation=np.eye(3))
    rows = np.array_split(np.arange(count), _OBJECTS)
    objects = [DetectedObject(k + 1, words[k % 60], 0.9, box, one) for k, one in enumerate(rows)]
    labels = rng.integers(0, 60, count).astype(np.uint16)
    instances = np.repeat(np.arange(1, _OBJECTS + 1, dtype=np.uint32), [len(one) for one in rows])
    return snapshot, Labelling(labels, instances, rng.random(count, np.float32), objects, words, 1, 0.0)


def run(voxels: int, repeats: int) -> dict[str, Any]:
    """Publish to a subscriber in another process, and take the times."""
    import rclpy

    from mosaic3d_ros.conversions import make_header
    from mosaic3d_ros.entities import Entities
    from mosaic3d_ros.map_publisher import MapPublisher

    snapshot, labelling = made_up_map(voxels)
    update: Any = SimpleNamespace(features=SimpleNamespace(snapshot=snapshot), labelling=labelling)
    subscriber = subprocess.Popen([sys.executable, "-c", _SUBSCRIBER])
    rclpy.init(args=[])
    node = rclpy.create_node("publishing")
    try:
        publisher = MapPublisher(Entities(node), "map")
        end = time.monotonic() + 30
        while not node.count_subscribers("/publishing/labelled_cloud") and time.monotonic() < end:
            time.sleep(0.05)
        header = make_header("map", 0)
        cloud, objects = [], []
        for _ in range(repeats + 2):
            began = time.perf_counter()
            publisher.publish_cloud(update, header)
            between = time.perf_counter()
            publisher.publish_objects(update, header, 0.1)
            cloud.append((between - began) * 1e3)
            objects.append((time.perf_counter() - between) * 1e3)
            time.sleep(0.1)
        subscribers = node.count_subscribers("/publishing/labelled_cloud")
    finally:
        subscriber.kill()  # it holds nothing, and this must not wait for it
        subscriber.wait()
        node.destroy_node()
        rclpy.try_shutdown()
    return {
        "voxels": len(snapshot),
        "objects": _OBJECTS,
        "subscribers": subscribers,
        "cloud_ms": round(median(cloud[2:]), 2),
        "cloud_ms_worst": round(max(cloud[2:]), 2),
        "objects_ms": round(median(objects[2:]), 2),
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="50,000 voxels, five times")
    parser.add_argument("--voxels", type=int, default=None, help="voxels of the map (default 500000)")
    args = parser.parse_args(arguments)
    voxels = args.voxels or (50_000 if args.quick else 500_000)
    if voxels < 1:
        parser.error("--voxels must be >= 1")
    isolate_environment()
    result = run(voxels, 5 if args.quick else 50)
    table = Table("figure", "value", title="Publishing a labelled map")
    for key, value in result.items():
        table.add_row(key, str(value))
    Console().print(table)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
