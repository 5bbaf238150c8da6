"""From camera messages to frames with a pose.

Pairing, waiting for the pose, and a count of everything that is dropped.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image

from mosaic3d_core.frame import RGBDFrame
from mosaic3d_ros import conversions as convert
from mosaic3d_ros.pose_source import PoseSource
from mosaic3d_ros.tf_buffer import TransformBuffer, TransformLookupError
from mosaic3d_ros.time_sync import PairSynchronizer


class FrameCounters:
    """Thread-safe counts of what came, what was used and what was dropped, by reason."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._rejected_poses: Counter[str] = Counter()
        self._fused = 0

    def received(self, topic: str) -> None:
        """Count a message of a topic."""
        with self._lock:
            self._received[topic] += 1

    def dropped(self, reason: str) -> None:
        """Count a frame that is not used."""
        with self._lock:
            self._dropped[reason] += 1

    def rejected_pose(self, reason: str) -> None:
        """Count a pose or transform that cannot be used."""
        with self._lock:
            self._rejected_poses[reason] += 1

    def fused(self) -> None:
        """Count a frame that is in the map."""
        with self._lock:
            self._fused += 1

    def as_dict(self) -> dict[str, object]:
        """``received`` by topic, ``fused``, ``dropped`` by reason, ``rejected_poses`` by reason."""
        with self._lock:
            return {
                "received": dict(self._received),
                "fused": self._fused,
                "dropped": dict(self._dropped),
                "rejected_poses": dict(self._rejected_poses),
            }


@dataclass(frozen=True)
class RawFrame:
    """The messages of one frame. Time and frame are those of the depth image."""

    depth: Image
    color: Image
    depth_info: CameraInfo
    color_info: CameraInfo
    arrived_s: float

    @property
    def stamp_ns(self) -> int:
        """Time of the depth image."""
        return convert.stamp_to_ns(self.depth.header.stamp)


@dataclass(frozen=True)
class PosedFrame:
    """A raw frame with what TF said.

    Attributes:
        raw: The messages.
        T_world_camera: Pose of the depth camera (4, 4).
        T_color_depth: Depth-camera points to colour-camera points (4, 4); None = both images have the same
            frame.
    """

    raw: RawFrame
    T_world_camera: NDArray[np.float64]
    T_color_depth: NDArray[np.float64] | None


def assemble(posed: PosedFrame) -> RGBDFrame:
    """Read the messages into the frame type of the map.

    Raises:
        FrameError: With the reason the frame is dropped for.
    """
    raw = posed.raw
    depth_camera = convert.camera_from_info(raw.depth_info, "depth")
    convert.check_same_size(raw.depth, depth_camera, "depth")
    color_camera = convert.camera_from_info(raw.color_info, "colour")
    convert.check_same_size(raw.color, color_camera, "colour")
    registered = posed.T_color_depth is None and color_camera == depth_camera
    return RGBDFrame(
        stamp_ns=raw.stamp_ns,
        color=convert.color_from_image(raw.color),
        depth=convert.depth_from_image(raw.depth),
        depth_camera=depth_camera,
        T_world_camera=posed.T_world_camera,
        color_camera=None if registered else color_camera,
        T_color_depth=None if registered else posed.T_color_depth,
    )


class PendingFrames:
    """Frames that wait for their pose: a bounded queue that never blocks a callback.

    Args:
        poses: Pose of the depth camera.
        buffer: Transform between the two cameras, where their frames differ.
        capacity: Frames that may wait; the oldest goes first (``queue_full``).
        timeout_s: Longest wait (``no_pose``, or ``too_old`` for an image from before the known poses).
        on_ready: Called with each frame that has its pose, in the order of time.
        on_drop: Called with (reason, sentence).
    """

    def __init__(
        self,
        poses: PoseSource,
        buffer: TransformBuffer,
        capacity: int,
        timeout_s: float,
        on_ready: Callable[[PosedFrame], None],
        on_drop: Callable[[str, str], None],
    ) -> None:
        self._poses = poses
        self._buffer = buffer
        self._capacity = capacity
        self._timeout_s = timeout_s
        self._on_ready = on_ready
        self._on_drop = on_drop
        self._waiting: deque[RawFrame] = deque()
        self.last_problem = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def clear(self, reason: str) -> None:
        """Drop all that waits."""
        for _ in range(len(self._waiting)):
            self._on_drop(reason, "Time jumped back.")
        self._waiting.clear()

    def add(self, frame: RawFrame) -> None:
        """Queue a frame and try at once."""
        self._waiting.append(frame)
        self.poll()
        if len(self._waiting) > self._capacity:
            self._waiting.popleft()
            self._on_drop("queue_full", f"{self._capacity} frames wait for their pose: {self.last_problem}")

    def poll(self) -> None:
        """Pass on the frames whose pose has come; drop those that waited too long."""
        still: deque[RawFrame] = deque()
        for frame in self._waiting:
            try:
                posed = self._resolve(frame)
            except TransformLookupError as error:
                self.last_problem = str(error)
                if time.monotonic() - frame.arrived_s < self._timeout_s:
                    still.append(frame)
                else:
                    self._on_drop("too_old" if error.reason == "too_old" else "no_pose", str(error))
            else:
                self._on_ready(posed)
        self._waiting = still

    def _resolve(self, frame: RawFrame) -> PosedFrame:
        depth_frame, color_frame = frame.depth.header.frame_id, frame.color.header.frame_id
        pose = self._poses.pose_at(depth_frame, frame.stamp_ns)
        if not color_frame or color_frame == depth_frame:
            return PosedFrame(frame, pose, None)
        return PosedFrame(frame, pose, self._buffer.lookup(color_frame, depth_frame, frame.stamp_ns))


class FrameIntake:
    """Takes the camera topics and hands on frames with a pose.

    All methods must be called from one mutually exclusive callback group.

    Args:
        pending: The queue behind the pairing.
        counters: Where everything is counted.
        slop_s: Largest time between the images of a pair.
        queue_size: Images kept while their partner is awaited, and pairs kept until both calibrations have come.
        jump_back_s: An image this much older than the newest means that time started anew.
        on_jump: Called with the size of a jump back in seconds.
    """

    def __init__(
        self,
        pending: PendingFrames,
        counters: FrameCounters,
        slop_s: float,
        queue_size: int,
        jump_back_s: float,
        on_jump: Callable[[float], None],
    ) -> None:
        self._pending = pending
        self._counters = counters
        self._jump_ns = round(jump_back_s * 1e9)
        self._on_jump = on_jump
        self._sync = PairSynchronizer(slop_s, queue_size, self._paired, counters.dropped)
        self._depth_info: CameraInfo | None = None
        self._color_info: CameraInfo | None = None
        self._queue_size = queue_size
        self._uncalibrated: deque[tuple[Image, Image]] = deque()
        self._newest_ns = -1

    def add_depth_info(self, message: CameraInfo) -> None:
        """Calibration of the depth camera; the newest counts."""
        self._counters.received("depth/camera_info")
        self._depth_info = message
        self._release()

    def add_color_info(self, message: CameraInfo) -> None:
        """Calibration of the colour camera; the newest counts."""
        self._counters.received("rgb/camera_info")
        self._color_info = message
        self._release()

    def add_depth(self, message: Image) -> None:
        """Depth image."""
        self._counters.received("depth/image")
        self._sync.add_depth(self._watch_time(message), message)

    def add_color(self, message: Image) -> None:
        """Colour image."""
        self._counters.received("rgb/image")
        self._sync.add_color(self._watch_time(message), message)

    def _watch_time(self, message: Image) -> int:
        stamp_ns = convert.stamp_to_ns(message.header.stamp)
        if stamp_ns < self._newest_ns - self._jump_ns:
            self._sync.clear()
            for _ in range(len(self._uncalibrated)):
                self._counters.dropped("time_jump")
            self._uncalibrated.clear()
            self._pending.clear("time_jump")
            self._on_jump((self._newest_ns - stamp_ns) * 1e-9)
            self._newest_ns = stamp_ns
        self._newest_ns = max(self._newest_ns, stamp_ns)
        return stamp_ns

    def _paired(self, depth: Image, color: Image) -> None:
        # topics have no common order: the first images often overtake the first calibration, and must not be lost for it
        self._uncalibrated.append((depth, color))
        if len(self._uncalibrated) > self._queue_size:
            self._uncalibrated.popleft()
            self._counters.dropped("no_camera_info")
        self._release()

    def _release(self) -> None:
        """Hand on the pairs once both calibrations are known."""
        if self._depth_info is None or self._color_info is None:
            return
        while self._uncalibrated:
            depth, color = self._uncalibrated.popleft()
            self._pending.add(RawFrame(depth, color, self._depth_info, self._color_info, time.monotonic()))
