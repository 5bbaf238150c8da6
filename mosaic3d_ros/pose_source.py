"""Where the camera was when an image was taken: from TF, PoseStamped, Odometry, or always at the same place."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.geometry.transform_buffer import TransformBuffer, TransformLookupError, stood_still
from mosaic3d_core.geometry.transforms import interpolate_pose


class PoseSource(Protocol):
    """Answers with the pose of a frame at a time."""

    awaited: str
    """What a person has to publish, for warnings."""

    def pose_at(self, frame_id: str, stamp_ns: int) -> NDArray[np.float64]:
        """T_map_frame (4, 4) at the time; raises TransformLookupError while it is not known."""
        ...


class TfPoseSource:
    """Pose from TF at the stamp of the image.

    Args:
        buffer: The transforms.
        map_frame: Frame of the map.
    """

    def __init__(self, buffer: TransformBuffer, map_frame: str) -> None:
        self._buffer = buffer
        self._map_frame = map_frame
        self.awaited = f"the transform '{map_frame}' <- image frame on /tf"

    def pose_at(self, frame_id: str, stamp_ns: int) -> NDArray[np.float64]:
        """See :class:`PoseSource`."""
        if not frame_id:
            raise TransformLookupError(
                "The depth images have an empty frame_id, so TF cannot say where they were taken: set it in the camera driver.",
                "unknown_frame",
            )
        return self._buffer.lookup(self._map_frame, frame_id, stamp_ns)


class StaticPoseSource:
    """A camera that never moves, where there is no TF.

    Args:
        pose: T_map_camera (4, 4) of the optical frame of the depth images.
    """

    def __init__(self, pose: NDArray[np.float64]) -> None:
        self._pose = pose
        self.awaited = "parameter 'static_pose'"

    def pose_at(self, frame_id: str, stamp_ns: int) -> NDArray[np.float64]:
        """See :class:`PoseSource`."""
        return self._pose


@dataclass(order=True)
class _StampedPose:
    stamp_ns: int
    frame_id: str = field(compare=False)
    child_frame_id: str = field(compare=False)
    pose: NDArray[np.float64] = field(compare=False)


class TopicPoseSource:
    """Pose from a topic of stamped poses, interpolated between the two around the stamp of the image.

    A pose says where ``child_frame_id`` is in ``frame_id``; what is missing to the map frame and to the image
    frame is taken from TF (an empty name needs nothing: it is the map frame, or the image frame).

    Args:
        buffer: The transforms.
        map_frame: Frame of the map.
        topic: Name of the topic, for warnings.
        cache_s: Seconds of history.
        jump_back_s: A pose this much older than the newest means that time started anew: later ones are
            dropped.
        max_gap_s: Largest distance in time of two poses that are interpolated, unless the camera stood still between.
    """

    def __init__(
        self,
        buffer: TransformBuffer,
        map_frame: str,
        topic: str,
        cache_s: float = 10.0,
        jump_back_s: float = 1.0,
        max_gap_s: float = 0.5,
    ) -> None:
        self._buffer = buffer
        self._map_frame = map_frame
        self._cache_ns, self._jump_ns, self._gap_ns = (round(s * 1e9) for s in (cache_s, jump_back_s, max_gap_s))
        self._poses: list[_StampedPose] = []
        self._lock = threading.Lock()
        self.awaited = f"poses on topic '{topic}'"

    def add(self, stamp_ns: int, frame_id: str, child_frame_id: str, pose: NDArray[np.float64]) -> None:
        """Take a pose: T_frame_child (4, 4) at a time."""
        with self._lock:
            if self._poses and stamp_ns < self._poses[-1].stamp_ns - self._jump_ns:
                del self._poses[bisect_right(self._poses, stamp_ns, key=lambda entry: entry.stamp_ns) :]
            insort(self._poses, _StampedPose(stamp_ns, frame_id, child_frame_id, pose))
            oldest = self._poses[-1].stamp_ns - self._cache_ns
            del self._poses[: bisect_left(self._poses, oldest, key=lambda entry: entry.stamp_ns)]

    def pose_at(self, frame_id: str, stamp_ns: int) -> NDArray[np.float64]:
        """See :class:`PoseSource`."""
        with self._lock:
            at = bisect_left(self._poses, stamp_ns, key=lambda entry: entry.stamp_ns)
            if at == len(self._poses):
                raise TransformLookupError(f"Waiting for {self.awaited}.", "too_early")
            after = self._poses[at]
            if after.stamp_ns == stamp_ns:
                pose = after.pose
            elif at == 0:
                raise TransformLookupError(f"The image is older than all {self.awaited}.", "too_old")
            else:
                pose = self._between(self._poses[at - 1], after, stamp_ns)
        to_map = self._connect(self._map_frame, after.frame_id, stamp_ns)
        return to_map @ pose @ self._connect(after.child_frame_id, frame_id, stamp_ns)

    def _between(self, before: _StampedPose, after: _StampedPose, stamp_ns: int) -> NDArray[np.float64]:
        if after.stamp_ns - before.stamp_ns > self._gap_ns and not stood_still(before.pose, after.pose):
            raise TransformLookupError(
                f"The {self.awaited} have a gap of {(after.stamp_ns - before.stamp_ns) * 1e-9:.2f} s around the image.",
                "pose_gap",
            )
        share = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
        return interpolate_pose(before.pose, after.pose, share)

    def _connect(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        if not target or not source or target == source:
            return np.eye(4)
        return self._buffer.lookup(target, source, stamp_ns)
