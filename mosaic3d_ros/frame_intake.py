"""From camera messages to frames with a pose.

Pairing, waiting for the pose, and a count of everything that is dropped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mosaic3d_core.geometry.transform_buffer import TransformBuffer, TransformLookupError
from mosaic3d_core.imaging import DEFAULT_READER, FrameReader
from mosaic3d_ros import conversions as convert
from mosaic3d_ros.frame_counters import FrameCounters
from mosaic3d_ros.frames import PosedFrame, RawFrame, assemble
from mosaic3d_ros.pose_source import PoseSource
from mosaic3d_ros.time_sync import PairSynchronizer

__all__ = ["FrameCounters", "FrameIntake", "PendingFrames", "PosedFrame", "RawFrame", "assemble"]

#: Reasons for which a later time fails as well.
_LASTING = ("too_early", "unknown_frame", "not_connected")


class PendingFrames:
    """Frames that wait for their pose: a bounded queue that never blocks a callback.

    Args:
        poses: Pose of the depth camera.
        buffer: Transform between the two cameras, where their frames differ.
        capacity: Frames that may wait; the oldest goes first (``queue_full``).
        timeout_s: Longest wait (``no_pose``, or ``too_old`` for an image from before the known poses).
        on_ready: Called with each frame that has its pose, in the order of time.
        on_drop: Called with (reason, sentence).
        T_color_depth: Fixed transform (4, 4) between the two cameras; None = from TF.
    """

    def __init__(
        self,
        poses: PoseSource,
        buffer: TransformBuffer,
        capacity: int,
        timeout_s: float,
        on_ready: Callable[[PosedFrame], None],
        on_drop: Callable[[str, str], None],
        T_color_depth: NDArray[np.float64] | None = None,
    ) -> None:
        self._poses = poses
        self._buffer = buffer
        self._capacity = capacity
        self._timeout_s = timeout_s
        self._on_ready = on_ready
        self._on_drop = on_drop
        self._T_color_depth = T_color_depth
        self._waiting: deque[RawFrame] = deque()
        self.last_problem = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def clear(self, reason: str, sentence: str = "Time jumped back.") -> None:
        """Drop all that waits."""
        waiting, self._waiting = self._waiting, deque()
        for _ in waiting:
            self._on_drop(reason, sentence)

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
        # What is not yet known at one time is not known later either: a robot sends thousands of transforms per second, and
        # each of them asks again for all that waits.
        missing: dict[tuple[str, str], tuple[int, TransformLookupError]] = {}
        for frame in self._waiting:
            frames = (frame.depth.header.frame_id, frame.color.header.frame_id)
            since_ns, error = missing.get(frames, (0, None))
            if error is None or frame.stamp_ns < since_ns:
                try:
                    posed = self._resolve(frame)
                except TransformLookupError as found:
                    error = found
                    if error.reason in _LASTING:
                        missing[frames] = frame.stamp_ns, error
                else:
                    self._on_ready(posed)
                    continue
            self.last_problem = str(error)
            if time.monotonic() - frame.arrived_s < self._timeout_s:
                still.append(frame)
            else:
                self._on_drop("too_old" if error.reason == "too_old" else "no_pose", str(error))
        self._waiting = still

    def _resolve(self, frame: RawFrame) -> PosedFrame:
        depth_frame, color_frame = frame.depth.header.frame_id, frame.color.header.frame_id
        pose = self._poses.pose_at(depth_frame, frame.stamp_ns)
        if self._T_color_depth is not None:
            return PosedFrame(frame, pose, self._T_color_depth)
        if not color_frame or color_frame == depth_frame:
            return PosedFrame(frame, pose, None)
        return PosedFrame(frame, pose, self._buffer.lookup(color_frame, depth_frame, frame.stamp_ns))


class FrameIntake:
    """Takes the camera topics and hands on frames with a pose.

    Callbacks come from one mutually exclusive group; the lock is for whoever ends the intake meanwhile.

    Args:
        pending: The queue behind the pairing.
        counters: Where everything is counted.
        slop_s: Largest time between the images of a pair.
        queue_size: Images kept while their partner is awaited, and pairs kept until both calibrations have come.
        jump_back_s: An image this much older than the newest means that time started anew.
        on_jump: Called with the size of a jump back in seconds.
        camera: Name of the camera, for the counters.
        reader: Turns the messages of a frame into arrays.
    """

    def __init__(
        self,
        pending: PendingFrames,
        counters: FrameCounters,
        slop_s: float,
        queue_size: int,
        jump_back_s: float,
        on_jump: Callable[[float], None],
        camera: str = "",
        reader: FrameReader = DEFAULT_READER,
    ) -> None:
        self._pending = pending
        self._counters = counters
        self._jump_ns = round(jump_back_s * 1e9)
        self._on_jump = on_jump
        self._camera = camera
        self._reader = reader
        self._sync = PairSynchronizer(slop_s, queue_size, self._paired, self._drop, self._unused)
        self._depth_info: CameraInfo | None = None
        self._color_info: CameraInfo | None = None
        self._queue_size = queue_size
        self._uncalibrated: deque[tuple[Image | CompressedImage, Image | CompressedImage]] = deque()
        self._newest_ns: int | None = None
        self._lock = threading.RLock()
        self._stopped = False

    @property
    def waiting(self) -> int:
        """Depth images that wait: for their colour image, for a calibration or for their pose."""
        with self._lock:
            return self._sync.waiting[0] + len(self._uncalibrated) + len(self._pending)

    @property
    def waiting_color(self) -> int:
        """Colour images that wait for a depth image."""
        return self._sync.waiting[1]

    def add_depth_info(self, message: CameraInfo) -> None:
        """Calibration of the depth camera; the newest counts."""
        with self._lock:
            self._counters.received("depth/camera_info", self._camera)
            self._depth_info = message
            self._release()

    def add_color_info(self, message: CameraInfo) -> None:
        """Calibration of the colour camera; the newest counts."""
        with self._lock:
            self._counters.received("rgb/camera_info", self._camera)
            self._color_info = message
            self._release()

    def add_depth(self, message: Image | CompressedImage) -> None:
        """Depth image."""
        with self._lock:
            self._counters.received("depth/image", self._camera)
            if self._stopped:
                self._drop("stopped")
            else:
                self._sync.add_depth(self._watch_time(message), message)

    def add_color(self, message: Image | CompressedImage) -> None:
        """Colour image."""
        with self._lock:
            self._counters.received("rgb/image", self._camera)
            if self._stopped:
                self._unused()
            else:
                self._sync.add_color(self._watch_time(message), message)

    def poll(self) -> None:
        """Pass on the frames whose pose has come; drop those that waited too long."""
        with self._lock:
            self._pending.poll()

    def clear(self, reason: str, sentence: str = "Time jumped back.") -> None:
        """Drop everything that waits, counted under the reason."""
        with self._lock:
            self._sync.clear(reason)
            for _ in range(len(self._uncalibrated)):
                self._drop(reason)
            self._uncalibrated.clear()
            self._pending.clear(reason, sentence)

    def stop(self) -> None:
        """Drop everything that waits and whatever may still come, counted as ``stopped``."""
        with self._lock:
            self._stopped = True
            self.clear("stopped", "The node stopped listening to its cameras.")

    def _drop(self, reason: str) -> None:
        self._counters.dropped(reason, self._camera)

    def _unused(self) -> None:
        self._counters.unused_color(self._camera)

    def _watch_time(self, message: Image | CompressedImage) -> int:
        stamp_ns = convert.stamp_to_ns(message.header.stamp)
        newest_ns = stamp_ns if self._newest_ns is None else self._newest_ns
        if stamp_ns < newest_ns - self._jump_ns:
            self.clear("time_jump")
            self._on_jump((newest_ns - stamp_ns) * 1e-9)
            newest_ns = stamp_ns
        self._newest_ns = max(newest_ns, stamp_ns)
        return stamp_ns

    def _paired(self, depth: Image | CompressedImage, color: Image | CompressedImage) -> None:
        # topics have no common order: the first images often overtake the first calibration, and must not be lost for it
        self._uncalibrated.append((depth, color))
        if len(self._uncalibrated) > self._queue_size:
            self._uncalibrated.popleft()
            self._drop("no_camera_info")
        self._release()

    def _release(self) -> None:
        """Hand on the pairs once both calibrations are known."""
        if self._depth_info is None or self._color_info is None:
            return
        while self._uncalibrated:
            depth, color = self._uncalibrated.popleft()
            frame = RawFrame(depth, color, self._depth_info, self._color_info, time.monotonic(), self._camera, self._reader)
            self._pending.add(frame)
