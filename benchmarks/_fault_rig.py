"""What benchmarks/faults.py injects faults into: a camera, the node as a process, and a client that knows the truth."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TransformStamped
from mosaic3d_msgs.srv import LoadMap, QueryObjects, SaveMap
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from mosaic3d_core.data.synthetic import open_room
from mosaic3d_core.data.synthetic.classes import STUFF_IDS
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import qos
from mosaic3d_ros.demo_processes import Child

#: A reply that takes longer is none.
REPLY_S = 10.0
#: Without a fused frame and a right answer for so long the node counts as hung.
HANG_S = 20.0
_START_S = 180.0
_NEAR_M = 0.25
_SURE = 0.4
_FRAMES, _WIDTH, _HEIGHT = 24, 160, 120


@dataclass(frozen=True)
class Known:
    """A thing of the room: its class, and corners of its true bounds (2, 3) in metres."""

    name: str
    bounds: np.ndarray


class Camera(threading.Thread):
    """Publishes a generated room over and over; a fault changes its attributes while it runs.

    Attributes:
        rate_hz: Frames per second.
        silent: Publish nothing.
        without_tf: Publish images only.
        stamp_offset_s: Added to the present time in all stamps.
        depth_stride: Of depth images that are smaller than their calibration says; 1 = as they should be.
        depth_of_nan: Depth images hold NaN and infinity only, transforms NaN now and then.
        sent: Depth images published.
    """

    def __init__(self, node: Any, seed: int, rate_hz: float = 8.0) -> None:
        super().__init__(name="camera", daemon=True)
        self._sequence = open_room(seed, "test", frames=_FRAMES, width=_WIDTH, height=_HEIGHT)
        self._frames = list(self._sequence)
        kinds = {"depth/camera_info": CameraInfo, "rgb/camera_info": CameraInfo, "rgb/image": Image, "depth/image": Image}
        self._out = {topic: node.create_publisher(kind, topic, qos.CAMERA_OUT) for topic, kind in kinds.items()}
        self._tf = node.create_publisher(TFMessage, "/tf", qos.TF)
        self._ending = threading.Event()
        self.usual_hz = self.rate_hz = rate_hz
        self.sent = 0
        self.calm()

    def calm(self) -> None:
        """As a healthy camera."""
        self.rate_hz = self.usual_hz
        self.silent = self.without_tf = self.depth_of_nan = False
        self.stamp_offset_s, self.depth_stride = 0.0, 1

    @property
    def things(self) -> list[Known]:
        """Things of which the room has one."""
        scene = self._sequence.scene
        own = [one for one in scene.instances if scene.class_ids[one.id] not in STUFF_IDS]
        names = [one.class_name for one in own]
        return [Known(one.class_name, np.asarray(one.bounds)) for one in own if names.count(one.class_name) == 1]

    def connected(self) -> bool:
        """Whether somebody listens to every topic."""
        return all(publisher.get_subscription_count() for publisher in [*self._out.values(), self._tf])

    def run(self) -> None:
        """Publish until told to end."""
        number, due = 0, time.monotonic()
        while not self._ending.is_set():
            if not self.silent:
                self._publish(number)
                number += 1
            due = max(due + 1.0 / self.rate_hz, time.monotonic() - 0.1)
            self._ending.wait(max(0.0, due - time.monotonic()))

    def end(self) -> None:
        """Stop publishing."""
        self._ending.set()
        self.join(5.0)

    def _publish(self, number: int) -> None:
        frame = self._frames[number % len(self._frames)]
        stamp = time.time_ns() + round(self.stamp_offset_s * 1e9)
        header = convert.make_header("camera", stamp)
        if not self.without_tf:
            transform = TransformStamped(header=convert.make_header("map", stamp), child_frame_id="camera")
            transform.transform = convert.transform_from_matrix(frame.T_world_camera)
            if self.depth_of_nan and number % 5 == 0:
                transform.transform.translation.x = float("nan")
            self._tf.publish(TFMessage(transforms=[transform]))
        info = convert.camera_info_message(frame.depth_camera, header)
        self._out["depth/camera_info"].publish(info)
        self._out["rgb/camera_info"].publish(info)
        self._out["rgb/image"].publish(convert.color_message(frame.color, header))
        depth, encoding = frame.depth[:: self.depth_stride, :: self.depth_stride], "16UC1"
        if self.depth_of_nan:
            depth, encoding = np.where(np.indices(depth.shape).sum(0) % 2, np.nan, np.inf).astype(np.float32), "32FC1"
        self._out["depth/image"].publish(convert.depth_message(np.ascontiguousarray(depth), header, encoding))
        self.sent += 1


class Rig:
    """Camera, node and client.

    Args:
        folder: For logs and maps.
        seed: Room of the test split.
        checkpoint: Encoder; "" for the shipped one.
    """

    def __init__(self, folder: Path, seed: int, checkpoint: str = "") -> None:
        self.folder, self._checkpoint = folder, checkpoint
        self.context = Context()
        rclpy.init(args=[], context=self.context, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        self.node = rclpy.create_node("fault_rig", context=self.context)
        self.progress: dict[str, Any] = {}
        self.node.create_subscription(String, "perception_node/progress", self._on_progress, qos.LATCHED)
        self.clients = {
            kind: self.node.create_client(kind, name)
            for kind, name in (
                (QueryObjects, "query_objects"),
                (SaveMap, "perception_node/save_map"),
                (LoadMap, "perception_node/load_map"),
            )
        }
        self.camera = Camera(self.node, seed)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._spinner = threading.Thread(target=self._executor.spin, daemon=True)
        self._spinner.start()
        self.starts = 0
        self.child: Child | None = None
        self.known: list[Known] = []
        self.start_node()
        self.camera.start()

    # The node -----------------------------------------------------------------------------------------------

    def start_node(self) -> None:
        """Start the node's process and wait until it listens."""
        self.starts += 1
        self.progress = {}
        settings = {"pose_timeout_s": 0.5, "encode_period_s": 0.3, "map.pixel_stride": 1, "map.voxel_size_m": 0.04}
        arguments = ["--ros-args", *(word for name, value in settings.items() for word in ("-p", f"{name}:={value}"))]
        if self._checkpoint:
            arguments += ["-p", f"checkpoint:={self._checkpoint}"]
        self.child = Child(f"node-{self.starts}", "mosaic3d_ros.perception_node", arguments, self.folder)
        self.until(lambda: self.camera.connected() and bool(self.progress), _START_S, "the node")
        for kind in self.clients:
            self._meet(kind)

    def _meet(self, kind: Any) -> None:
        """Ask until there is a reply: for the middleware a killed node lives on for seconds, and gets the requests."""
        harmless = {QueryObjects: QueryObjects.Request(), SaveMap: SaveMap.Request(), LoadMap: LoadMap.Request()}
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            if self.call(kind, harmless[kind], 0.5) is not None:
                return
        raise TimeoutError(f"no reply of {kind.__name__} within {_START_S:.0f} s")

    @property
    def pid(self) -> int:
        """Process of the node."""
        assert self.child is not None
        return self.child.process_id

    def alive(self) -> bool:
        """Whether the node's process runs."""
        return Path(f"/proc/{self.pid}").exists() and self.child is not None and self.child._process.poll() is None

    def kill_node(self) -> None:
        """As the kernel does when memory runs out: no chance to say goodbye.

        Its shared memory (128 MB) stays behind until `fastdds shm clean`; here it is removed, for a hundred fill the machine.
        """
        left = _shared_memory(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        assert self.child is not None
        self.child._process.wait()
        for file in left:
            file.unlink(missing_ok=True)

    # What a client sees ---------------------------------------------------------------------------------------

    def _on_progress(self, message: String) -> None:
        self.progress = json.loads(message.data)

    @property
    def fused(self) -> int:
        """Frames in the map, as the node last said."""
        return int(self.progress.get("fused", 0))

    def until(self, condition: Any, timeout_s: float, what: str) -> float:
        """Wait until something holds; how long it took, seconds."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                raise TimeoutError(f"{what} did not happen within {timeout_s:.0f} s")
            if not self.alive():
                raise ChildProcessError(f"the node has died while waiting for {what}")
            time.sleep(0.01)
        return time.monotonic() - began

    def send(self, kind: Any, request: Any) -> Any:
        """A request under way."""
        return self.clients[kind].call_async(request)

    def call(self, kind: Any, request: Any, timeout_s: float = REPLY_S) -> Any:
        """A reply, or None when none comes in time."""
        future = self.send(kind, request)
        try:
            self.until(future.done, timeout_s, "a reply")
        except TimeoutError:
            return None
        return future.result()

    def ask(self) -> str:
        """Ask for all known things: "right", "wrong", "refused" or "none" (no reply)."""
        return self.judge(self.call(QueryObjects, self.question()))

    def question(self, **fields: Any) -> QueryObjects.Request:
        """A request for all known things."""
        return QueryObjects.Request(texts=[one.name for one in self.known], **fields)

    def judge(self, reply: Any) -> str:
        """What a reply to `question` is worth."""
        if reply is None:
            return "none"
        if not reply.success:
            return "refused"
        for thing in self.known:
            best = max((one for one in reply.objects if one.text == thing.name), key=lambda one: one.score, default=None)
            if best is None or not _inside(best, thing):
                return "wrong"
        return "right"

    def learn(self, most: int = 3) -> None:
        """Find things that the node finds where they are, from a map of the whole room."""
        self.until(lambda: self.fused >= 2 * _FRAMES, 120.0, "a map of the room")
        self.until(lambda: self.progress["generation"] - self.progress["encoded_generation"] < 2 * _FRAMES, 60.0, "its encoding")
        time.sleep(2.0)
        candidates = self.camera.things
        reply = self.call(QueryObjects, QueryObjects.Request(texts=[one.name for one in candidates]))
        best: dict[str, Any] = {}
        for found in reply.objects:
            if found.text not in best or found.score > best[found.text].score:
                best[found.text] = found
        sure = [one for one in candidates if one.name in best and best[one.name].score > _SURE and _inside(best[one.name], one)]
        self.known = sorted(sure, key=lambda one: -best[one.name].score)[:most]
        if not self.known:
            raise RuntimeError("the node finds nothing in this room: take another one with --seed")

    def normal_again(self) -> float:
        """How long until a new frame is in the map and the answers are right, seconds; raises TimeoutError when it hangs."""
        began, fused = time.monotonic(), self.fused
        while True:
            if self.ask() == "right" and self.fused > fused:
                return time.monotonic() - began
            if time.monotonic() - began > HANG_S:
                raise TimeoutError(
                    f"no new frame and right answer within {HANG_S:.0f} s ({self.ask()}, {self.fused - fused} new)"
                )
            time.sleep(0.02)

    def account(self) -> dict[str, int]:
        """Frames sent to this process of the node, and what it says became of them, once nothing is on its way."""
        self.camera.silent = True
        time.sleep(2.0)
        received = int(self.progress.get("received", {}).get("depth/image", 0))
        used = self.fused + sum(self.progress.get("dropped", {}).values())
        self.camera.silent = False
        return {"sent": self.camera.sent, "received": received, "accounted": used}

    def close(self) -> None:
        """End everything."""
        self.camera.end()
        if self.child is not None:
            self.child.stop()
        self._executor.shutdown()
        self._spinner.join(5.0)
        self.node.destroy_node()
        self.context.try_shutdown()


def _shared_memory(pid: int) -> list[Path]:
    """Segments of shared memory that Fast DDS made for a process: those whose lock file it holds open.

    Its ports stay: the next node listens at the same ones, and who has them open already would go on writing into removed files.
    """
    held = [os.readlink(number) for number in Path(f"/proc/{pid}/fd").iterdir() if number.is_symlink()]
    segments = [one for one in held if one.startswith("/dev/shm/fastdds_") and not one.startswith("/dev/shm/fastdds_port")]
    return [Path(one.removesuffix("_el")) for one in segments if one.endswith("_el")]


def _inside(found: Any, thing: Known) -> bool:
    centre = np.array([found.pose.position.x, found.pose.position.y, found.pose.position.z])
    return bool((centre > thing.bounds[0] - _NEAR_M).all() and (centre < thing.bounds[1] + _NEAR_M).all())
