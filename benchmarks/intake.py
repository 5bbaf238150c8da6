"""Cost of the ROS layer for a camera stream, in shares of one core; prints a table, ``--json FILE`` writes it as well.

One process sends 640x480 colour and depth at 30 Hz with calibration and TF, as a driver would, over Fast DDS with the package's
profile. Another receives, pairs, finds the pose and converts each frame to the arrays of the map, with the classes and the
executor of perception_node, and does nothing with them: fusion, encoding and publishing are not in these figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import numpy as np
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node

from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_ros import parameters
from mosaic3d_ros.camera_inputs import CameraInputs
from mosaic3d_ros.frame_counters import FrameCounters
from mosaic3d_ros.frames import PosedFrame, assemble
from mosaic3d_ros.pose_inputs import PoseInputs
from mosaic3d_ros.rgbd_player import FramePublisher
from mosaic3d_ros.workers import QueueWorker

RATE_HZ = 30.0
CAMERA = PinholeCamera(525.0, 525.0, 319.5, 239.5, 640, 480)
LENS = {"distortion_model": "plumb_bob", "distortion": [-0.28, 0.07, 0.001, -0.0007, 0.0]}
#: Name of the row -> (parameters of the driver, parameters of the node).
STREAMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rgb8 + 16UC1": ({}, {}),
    "bgr8 + 32FC1": ({"rgb_encoding": "bgr8", "depth_encoding": "32FC1"}, {}),
    "bayer + 16UC1": ({"rgb_encoding": "bayer_rggb8"}, {}),
    "rgb8 + 16UC1, plumb_bob": (LENS, {}),
    "jpeg + compressedDepth png": (
        {"rgb_transport": "jpeg", "depth_transport": "compressedDepth png"},
        {"rgb_transport": "compressed", "depth_transport": "compressedDepth"},
    ),
    "jpeg + compressedDepth rvl": (
        {"rgb_transport": "jpeg", "depth_transport": "compressedDepth rvl"},
        {"rgb_transport": "compressed", "depth_transport": "compressedDepth"},
    ),
}


def values_of(table: tuple[parameters.ParameterSpec, ...], changes: dict[str, Any]) -> dict[str, Any]:
    return {spec.name: spec.default for spec in table} | changes


def scene() -> RGBDFrame:
    """A tilted plane with some structure and the noise of a sensor, which is what compression costs depend on."""
    generator = np.random.default_rng(0)
    v, u = np.mgrid[0:480, 0:640]
    color = np.stack([u / 4 + 20 * np.sin(v / 7), v / 3 + 20 * np.cos(u / 9), 128 + 0 * u], -1) + generator.normal(
        0, 4, (480, 640, 3)
    )
    depth = 1.5 + 0.002 * v + generator.normal(0, 0.003, (480, 640))
    depth[100:200, 300:420] = 0
    return RGBDFrame(0, color.clip(0, 255).astype(np.uint8), depth.astype(np.float32), CAMERA, np.eye(4))


def send(stream: str) -> None:
    """The driver's process: the same frame again and again with new stamps, made before so that only sending costs time."""
    rclpy.init(args=[])
    node = Node("driver")
    publisher = FramePublisher(node, values_of(parameters.PLAYER, STREAMS[stream][0]))
    made: dict[str, Any] = {}
    driver = publisher._driver
    for name in ("color", "depth"):
        make = getattr(driver, name)

        def once(image: Any, camera: PinholeCamera, header: Any, name: str = name, make: Any = make) -> Any:
            message = made.get(name) or made.setdefault(name, make(image, camera, header))
            message.header = header
            return message

        setattr(driver, name, once)
    frame, due = scene(), time.monotonic()
    while True:
        publisher.publish(frame, node.get_clock().now().nanoseconds)
        due += 1.0 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))


class Receiver:
    """What perception_node does with camera topics, but for the map."""

    def __init__(self, stream: str) -> None:
        self.node = Node("receiver")
        values = values_of(parameters.PERCEPTION, STREAMS[stream][1])
        self.counters = FrameCounters()
        self.converting_s = 0.0
        group = MutuallyExclusiveCallbackGroup()
        self.worker: QueueWorker[PosedFrame] = QueueWorker("fusion", 30, self._convert, self._drop, self._failed)
        self.inputs: CameraInputs | None = None
        self.poses = PoseInputs(self.node, values, group, self._poll, lambda _reason, _text: None)
        self.inputs = CameraInputs(
            self.node, values, group, self.poses, self.counters, self.worker.put, self._drop, lambda _seconds: None
        )
        self.executor = MultiThreadedExecutor(num_threads=4)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin)
        self.worker.start()
        self.thread.start()

    def _poll(self) -> None:
        if self.inputs is not None and len(self.inputs):
            self.inputs.poll()

    def _convert(self, frame: PosedFrame) -> None:
        began = time.thread_time()
        assemble(frame)
        self.converting_s += time.thread_time() - began
        self.counters.fused()

    def _drop(self, reason: str, _text: str, _where: Any) -> None:
        self.counters.dropped(reason)

    def _failed(self, error: Exception) -> None:
        raise SystemExit(f"error: {error}")

    def counts(self) -> tuple[int, int]:
        """Frames converted and frames dropped."""
        counts: Any = self.counters.as_dict()
        return counts["fused"], sum(counts["dropped"].values())

    def close(self) -> None:
        """End the threads."""
        self.executor.shutdown()
        self.thread.join()
        self.worker.stop()
        self.node.destroy_node()


def measure(stream: str, seconds: float) -> dict[str, Any]:
    """One row."""
    sender = subprocess.Popen([sys.executable, __file__, "--send", stream])
    rclpy.init(args=[])
    receiver = Receiver(stream)
    try:
        end = time.monotonic() + 60.0
        while receiver.counts()[0] < 2 * RATE_HZ:  # connected, compiled, matched
            if time.monotonic() > end:
                raise SystemExit(f"error: no frames of '{stream}' within 60 s: {receiver.counters.as_dict()}")
            time.sleep(0.1)
        (before, dropped), converting = receiver.counts(), receiver.converting_s
        cpu, wall = time.process_time(), time.monotonic()
        time.sleep(seconds)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        frames, lost = receiver.counts()[0] - before, receiver.counts()[1] - dropped
        converting = receiver.converting_s - converting
    finally:
        sender.kill()
        sender.wait()
        receiver.close()
        rclpy.shutdown()
    return {
        "stream": stream,
        "frames_per_s": round(frames / wall, 1),
        "dropped": lost,
        "cpu_percent": round(100 * cpu / wall, 1),
        "cpu_ms_per_frame": round(1e3 * cpu / frames, 2),
        "converting_ms_per_frame": round(1e3 * converting / frames, 2),
        # what 30 frames/s would cost, where the machine did not deliver 30
        "cpu_percent_at_30_hz": round(100 * RATE_HZ * cpu / frames, 1),
    }


def main() -> None:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--quick", action="store_true", help="two streams, three seconds each")
    parser.add_argument("--seconds", type=float, default=15.0, help="measured time per stream (default: 15)")
    parser.add_argument("--send", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        send(arguments.send)
    os.environ["ROS_DOMAIN_ID"] = str(40 + os.getpid() % 60)
    streams = ["rgb8 + 16UC1", "jpeg + compressedDepth rvl"] if arguments.quick else list(STREAMS)
    rows = []
    for stream in streams:
        rows.append(measure(stream, 3.0 if arguments.quick else arguments.seconds))
        if len(rows) == 1:
            print("  ".join(f"{name:>{max(len(name), 26 * (name == 'stream'))}}" for name in rows[0]))
        print("  ".join(f"{value!s:>{max(len(name), 26 * (name == 'stream'))}}" for name, value in rows[-1].items()), flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
