"""The ROS client of the demo: asks, listens and measures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from mosaic3d_msgs.srv import QueryObjects, SaveMap
from numpy.typing import NDArray
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String, UInt64

from mosaic3d_core.query import DetectedObject, OrientedBox
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import qos


class DemoClient(Node):
    """Listens to the player and the perception node and asks the latter.

    Attributes:
        loaded: Frames the player has ready.
        published: Frames the player has sent.
        progress: The node's counts and generations.
        cloud: The newest labelled cloud.
        first_frame_s: When the first frame was sent, wall clock, as the player says (its messages may be found late); None
            before.
        first_labels_s: When the first labelled cloud came, wall clock; None before.
        node_ms: What the node says the last answer took it.
    """

    def __init__(self) -> None:
        super().__init__("mosaic3d_demo")
        self.loaded = 0
        self.published = 0
        self.progress: dict[str, Any] = {}
        self.cloud: PointCloud2 | None = None
        self.first_frame_s: float | None = None
        self.first_labels_s: float | None = None
        self.node_ms = 0.0
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self.create_subscription(UInt64, "rgbd_player/frames_loaded", self._on_loaded, qos.LATCHED)
        self.create_subscription(Time, "rgbd_player/started", self._on_started, qos.LATCHED)
        self.create_subscription(UInt64, "rgbd_player/frames_published", self._on_published, qos.LATCHED)
        self.create_subscription(String, "perception_node/progress", self._on_progress, qos.LATCHED)
        self.create_subscription(PointCloud2, "perception_node/labelled_cloud", self._on_cloud, qos.LATCHED)
        self._query: Client = self.create_client(QueryObjects, "query_objects")
        self._save: Client = self.create_client(SaveMap, "perception_node/save_map")

    def _on_loaded(self, message: UInt64) -> None:
        self.loaded = message.data

    def _on_published(self, message: UInt64) -> None:
        self.published = message.data

    def _on_started(self, message: Time) -> None:
        self.first_frame_s = convert.stamp_to_ns(message) * 1e-9

    def _on_progress(self, message: String) -> None:
        self.progress = json.loads(message.data)

    def _on_cloud(self, message: PointCloud2) -> None:
        if message.width:
            self.first_labels_s = self.first_labels_s or time.time()
        self.cloud = message

    @property
    def fused(self) -> int:
        """Frames that are in the map."""
        return int(self.progress.get("fused", 0))

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that were dropped, by reason."""
        return dict(self.progress.get("dropped", {}))

    @property
    def settled(self) -> bool:
        """Whether every frame that came has been dealt with and the newest map is encoded."""
        done = self.fused + sum(self.dropped.values()) >= self.published
        return done and self.progress.get("encoded_generation") == self.progress.get("generation")

    def node_is_ready(self) -> bool:
        """Whether the query service is there."""
        return self._query.service_is_ready()

    def spin(self, seconds: float) -> None:
        """Handle messages for a while."""
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=rest)

    def call(self, client: Any, request: Any, check: Callable[[], object], timeout_s: float = 60.0) -> tuple[Any, float]:
        """Call a service.

        Args:
            client: The service's client.
            request: What to send.
            check: Called while waiting; raises when the answer can never come.
            timeout_s: Longest wait.

        Returns:
            The reply and the milliseconds until it was here.

        Raises:
            TimeoutError: When no reply comes in time.
        """
        began = time.perf_counter()
        future = client.call_async(request)
        while not future.done():
            self._executor.spin_once(timeout_sec=0.5)
            check()
            if time.perf_counter() - began > timeout_s:
                raise TimeoutError(f"Service '{client.srv_name}' did not answer within {timeout_s:.0f} s.")
        return future.result(), (time.perf_counter() - began) * 1e3

    def ask(self, text: str, check: Callable[[], object]) -> tuple[list[DetectedObject], float]:
        """Objects that the service finds for a text, best first, and the milliseconds it took to have them here."""
        reply, ms = self.call(self._query, QueryObjects.Request(texts=[text]), check)
        if not reply.success:
            raise RuntimeError(f"The query '{text}' was refused: {reply.message}")
        self.node_ms = float(reply.elapsed_ms)
        return [detected(item) for item in reply.objects], ms

    def save_map(self, path: str, check: Callable[[], object]) -> None:
        """Let the node write its encoded map to a file; OSError if it cannot."""
        reply, _ = self.call(self._save, SaveMap.Request(path=path, overwrite=True), check)
        if not reply.success:
            raise OSError(reply.message)

    def labelled_points(self) -> NDArray:
        """Rows of the newest labelled cloud."""
        return convert.points_from_cloud(self.cloud) if self.cloud is not None else np.zeros(0, convert.POINT_DTYPE)

    def close(self) -> None:
        """End in the order that rclpy needs."""
        self._executor.shutdown()
        self.destroy_node()


def detected(item: Any) -> DetectedObject:
    """An ``Object3D`` message as the core's type; its voxels did not travel."""
    pose = convert.matrix_from_pose(item.pose)
    size = np.array([item.size.x, item.size.y, item.size.z])
    return DetectedObject(item.id, item.text, item.score, OrientedBox(pose[:3, 3], pose[:3, :3], size), np.zeros(0, np.int64))
