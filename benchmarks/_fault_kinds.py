"""The faults of benchmarks/faults.py: what is done, and what a client may see meanwhile."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import rclpy
from _fault_rig import Rig
from mosaic3d_msgs.srv import LoadMap, QueryObjects, SaveMap
from sensor_msgs.msg import PointCloud2

from mosaic3d_ros import qos

_LASTS_S = 0.6
_ASK_EVERY_S = 0.1
_PARALLEL = 100
_HOUR_S = 3600.0
_NO_MEMORY = 1 << 20  # less than the process has: nothing can be added


@dataclass
class Outcome:
    """What became of one fault.

    Attributes:
        injected: How often it was injected.
        crashed: How often the node died of it.
        hung: How often the node did not come back in time, or left a request without reply.
        wrong: Replies that said something untrue.
        lost_frames: Frames sent, but never received by the node.
        unaccounted_frames: Frames received that are neither fused nor counted as dropped.
        recovery_s: From the end of the cause until a new frame was in the map and answers were right.
        extra: Further figures.
    """

    injected: int = 0
    crashed: int = 0
    hung: int = 0
    wrong: int = 0
    lost_frames: int = 0
    unaccounted_frames: int = 0
    recovery_s: list[float] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)

    def take(self, verdict: str) -> None:
        """Count what a query was answered while the fault lasted."""
        self.wrong += verdict == "wrong"
        self.hung += verdict == "none"

    def worst(self, name: str, value: float) -> None:
        """Keep the largest of a further figure."""
        self.extra[name] = max(self.extra.get(name, 0.0), value)


Fault = Callable[[Rig, Outcome], None]


def _ask_for(rig: Rig, outcome: Outcome, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        outcome.take(rig.ask())
        time.sleep(_ASK_EVERY_S)


def camera_fault(seconds: float = _LASTS_S, **attributes: Any) -> Fault:
    """The camera has other attributes for a while; the map stays, so every answer has to be right all the time."""

    def inject(rig: Rig, outcome: Outcome) -> None:
        for name, value in attributes.items():
            setattr(rig.camera, name, value)
        try:
            _ask_for(rig, outcome, seconds)
        finally:
            rig.camera.calm()

    return inject


def fast_camera(rig: Rig, outcome: Outcome) -> None:
    """Ten times the frames."""
    rig.camera.rate_hz = 10 * rig.camera.usual_hz
    try:
        _ask_for(rig, outcome, 1.0)
    finally:
        rig.camera.calm()


def slow_client(rig: Rig, outcome: Outcome) -> None:
    """Somebody subscribes to all clouds and asks for all points, and never takes what comes."""
    context = rclpy.context.Context()
    rclpy.init(args=[], context=context, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node = rclpy.create_node("slow", context=context)
    try:
        for topic in ("labelled_cloud", "query_cloud"):
            node.create_subscription(PointCloud2, f"perception_node/{topic}", lambda _: None, qos.LATCHED)
        client = node.create_client(QueryObjects, "query_objects")
        client.wait_for_service(5.0)
        for _ in range(3):
            client.call_async(rig.question(include_points=True))
        _ask_for(rig, outcome, _LASTS_S)
    finally:
        node.destroy_node()
        context.try_shutdown()


def parallel_queries(rig: Rig, outcome: Outcome) -> None:
    """A hundred requests at once."""
    began = time.monotonic()
    futures = [rig.send(QueryObjects, rig.question()) for _ in range(_PARALLEL)]
    try:
        rig.until(lambda: all(future.done() for future in futures), 30.0, "all replies")
    except TimeoutError:
        outcome.hung += 1
        return
    outcome.worst("all_answered_s_max", time.monotonic() - began)
    for future in futures:
        outcome.take(rig.judge(future.result()))


def killed_node(rig: Rig, outcome: Outcome) -> None:
    """The process dies while requests wait; a supervisor starts it again and loads the map that was saved."""
    file = rig.folder / "kept.m3dmap"
    if not file.exists():
        assert rig.call(SaveMap, SaveMap.Request(path=str(file))).success
    for _ in range(5):
        rig.send(QueryObjects, rig.question())  # what becomes of these is the client's time limit
    rig.kill_node()
    began = time.monotonic()
    rig.start_node()
    outcome.worst("restart_s_max", time.monotonic() - began)
    loaded = rig.call(LoadMap, LoadMap.Request(path=str(file)))
    if loaded is None:
        outcome.hung += 1
    elif not loaded.success:
        outcome.wrong += 1


def out_of_memory(rig: Rig, outcome: Outcome) -> None:
    """The system gives the process no more memory, while it encodes a map that changes."""
    hard = resource.prlimit(rig.pid, resource.RLIMIT_AS)[1]
    resource.prlimit(rig.pid, resource.RLIMIT_AS, (_NO_MEMORY, hard))
    try:
        _ask_for(rig, outcome, 1.5)
    finally:
        if rig.alive():
            resource.prlimit(rig.pid, resource.RLIMIT_AS, (hard, hard))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 512 KB, where this process may mount one."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def full_disk(rig: Rig, outcome: Outcome) -> None:
    """The map is saved where there is no room: a reply that says so, and nothing half written."""
    with small_disk(rig.folder / "disk") as folder:
        reply = rig.call(SaveMap, SaveMap.Request(path=str(folder / "room.m3dmap")))
        if reply is None:
            outcome.hung += 1
        elif reply.success or "space" not in reply.message or any(folder.iterdir()):
            outcome.wrong += 1


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "camera stops": camera_fault(silent=True),
        "TF stops": camera_fault(without_tf=True),
        "stamps an hour back": camera_fault(stamp_offset_s=-_HOUR_S),
        "stamps an hour ahead": camera_fault(stamp_offset_s=_HOUR_S),
        "depth of another size": camera_fault(depth_stride=2),
        "NaN storm": camera_fault(depth_of_nan=True),
        "ten times the frames": fast_camera,
        "slow client": slow_client,
        "hundred queries at once": parallel_queries,
        "node killed": killed_node,
        "out of memory": out_of_memory,
        "full disk": full_disk,
    }
)
