"""Latency over ROS 2 in separate processes: frame to label, queries while frames flow, lost frames, memory.

python benchmarks/latency.py --json out/bench/latency.json [--quick] [--minutes 10]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from mosaic3d_ros.demo_processes import Child, ChildDiedError, isolate_environment

SEEN, TIMEOUT_S = ("chair", "table", "something to sit on"), 300.0
HEADLINES = ("frames_published", "frames_fused", "first_labels_s", "frame_to_label_ms", "query_ms_new", "query_ms_cached")


def rss_mb(process_id: int) -> float:
    """Resident memory of a process in MB."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


class Meter:
    """Asks queries and takes times while the player loops through a room."""

    def __init__(self, client: Any, node: Child) -> None:
        self.client, self.node = client, node
        self.new_ms: list[float] = []
        self.cached_ms: list[float] = []
        self.node_ms: list[float] = []
        self.label_ms: list[float] = []
        self.memory: list[tuple[float, float]] = []
        self._stamp = -1
        self._asked: Counter[str] = Counter()

    def watch_cloud(self) -> None:
        """Age of the newest fused frame when the labels of its map arrive (stamps are wall time)."""
        cloud = self.client.cloud
        if cloud is not None and cloud.width:
            stamp = cloud.header.stamp.sec * 10**9 + cloud.header.stamp.nanosec
            if stamp != self._stamp:
                self._stamp = stamp
                self.label_ms.append((time.time_ns() - stamp) / 1e6)

    def measure(self, seconds: float) -> None:
        """Ask four times a second."""
        began, count = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            end = time.monotonic() + 0.25
            while time.monotonic() < end:
                self.client.spin(0.02)
                self.watch_cloud()
            self.node.running()
            text = SEEN[count // 2 % len(SEEN)] if count % 2 == 0 else f"a wooden thing number {count} beside the door"
            _, ms = self.client.ask(text, self.node.running)
            if count % 2:
                self.new_ms.append(ms)
            elif self._asked[text]:
                self.cached_ms.append(ms)
                self.node_ms.append(self.client.node_ms)
            self._asked[text] += 1
            count += 1
            self.memory.append((time.monotonic() - began, rss_mb(self.node.process_id)))

    def growth_mb_per_minute(self) -> float | None:
        """Slope of the node's memory over the second half, MB per minute; the first half fills the map."""
        half = self.memory[len(self.memory) // 2 :]
        if len(half) < 8:
            return None
        times, sizes = [t for t, _ in half], [m for _, m in half]
        mean_t, mean_m = sum(times) / len(times), sum(sizes) / len(sizes)
        spread = sum((t - mean_t) ** 2 for t in times)
        return 60 * sum((t - mean_t) * (m - mean_m) for t, m in half) / spread


def run(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Start both nodes, measure, and end them."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from mosaic3d_ros.demo_client import DemoClient

    frames, width, height = (20, 320, 240) if args.quick else (60, 640, 480)
    node_args = ["--ros-args", "-p", f"checkpoint:={args.checkpoint}"] if args.checkpoint else []
    player_args = ["--ros-args", "-p", f"sequence:=room:{args.seed}", "-p", f"rate:={args.rate}", "-p", "loop:=true"]
    player_args += ["-p", f"sequence_options:=[frames={frames}, width={width}, height={height}]"]
    player_args += ["-p", f"wait_for_subscribers_s:={TIMEOUT_S}"]
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    client, children = DemoClient(), []
    try:
        children.append(Child("perception_node", "mosaic3d_ros.perception_node", node_args, folder))
        children.append(Child("rgbd_player", "mosaic3d_ros.rgbd_player", player_args, folder))
        deadline = time.monotonic() + TIMEOUT_S
        while client.first_labels_s is None and time.monotonic() < deadline:
            client.spin(0.1)
            for child in children:
                child.running()
        if client.first_labels_s is None:
            raise TimeoutError(f"no labelled cloud within {TIMEOUT_S:.0f} s")
        meter = Meter(client, children[0])
        meter.measure(args.minutes * 60)
        children[1].stop()
        client.spin(2.0)
        return figures(client, meter) | {"rate_hz": args.rate, "width": width, "height": height, "minutes": args.minutes}
    finally:
        for child in reversed(children):
            child.stop()
        client.close()
        rclpy.try_shutdown()


def figures(client: Any, meter: Meter) -> dict[str, object]:
    """Results as JSON values."""
    dropped = client.dropped
    lost = client.published - client.fused - sum(dropped.values())
    return {
        "frames_published": client.published,
        "frames_fused": client.fused,
        "frames_dropped": dropped,
        "frames_lost_in_transport": max(lost, 0),
        "first_labels_s": round(client.first_labels_s - client.first_frame_s, 3),
        "frame_to_label_ms": round(median(meter.label_ms), 1) if meter.label_ms else None,
        "query_ms_new": round(median(meter.new_ms), 1) if meter.new_ms else None,
        "query_ms_cached": round(median(meter.cached_ms), 1) if meter.cached_ms else None,
        "query_ms_cached_in_node": round(median(meter.node_ms), 1) if meter.node_ms else None,
        "encode_ms": client.progress.get("encode_ms"),
        "node_rss_mb": round(meter.memory[-1][1], 1) if meter.memory else None,
        "rss_growth_mb_per_minute": meter.growth_mb_per_minute(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="small images, 20 s")
    parser.add_argument("--minutes", type=float, default=None, help="how long to loop (default 1; memory needs 10)")
    parser.add_argument("--rate", type=float, default=10.0, help="frames per second (default 10)")
    parser.add_argument("--seed", type=int, default=7, help="test room (default 7)")
    parser.add_argument("--checkpoint", default="", help="encoder checkpoint (default: the one that ships)")
    args = parser.parse_args(arguments)
    args.minutes = args.minutes or (1 / 3 if args.quick else 1.0)
    isolate_environment()
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = run(args, Path(folder))
    except (ChildDiedError, TimeoutError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    table = Table("figure", "value", title="Latency over ROS 2")
    for key, value in result.items():
        table.add_row(key, f"{value:.2f}" if isinstance(value, float) else str(value), style="bold" if key in HEADLINES else None)
    Console().print(table)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
