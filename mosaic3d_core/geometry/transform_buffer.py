"""Transforms over time: what ``/tf`` and ``/tf_static`` said, looked up at the stamp of an image.

Own and small, because tf2 does not exist outside a ROS installation and the node must behave the same with
and without one: it is used in both. A lookup gives what tf2's ``lookup_transform(target, source, stamp)`` gives: along the
tree, positions on the straight line between the two stamps around the time, rotations by slerp, nothing beyond the newest or
the oldest stamp; without a time, at the newest time that all moving edges of the path have. Differences a user may notice: a
lookup never waits (the caller keeps its frame and asks again), there is no lookup "through a fixed frame", a frame that changes
its parent forgets its past, and a jump back in time drops what was later than it, without clearing the rest.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.transforms import interpolate_pose, invert_transform

#: Frames that are kept; a robot has some hundreds.
MAX_FRAMES = 10_000
_LONGEST_NAME = 1000
# Metres, and elements of a rotation: a frame that moved less between two transforms stood still.
_STILL = 2e-3


class TransformLookupError(LookupError):
    """No transform for this question.

    ``reason`` is ``unknown_frame``, ``not_connected``, ``too_early``, ``too_old`` or ``pose_gap``. ``too_early``: the
    transform of that time has not come yet. ``too_old``: its time is before everything in the buffer. ``pose_gap``:
    the transforms around it are too far apart.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def stood_still(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """Whether two poses (4, 4) are the same within 2 mm and 0.1 degrees: then what lies between is no guess."""
    return bool(np.allclose(before, after, rtol=0.0, atol=_STILL))


@dataclass
class _Edge:
    """The transforms from one child to its parent, sorted by time."""

    parent: str
    is_static: bool
    stamps: list[int] = field(default_factory=list)
    poses: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, stamp_ns: int, pose: NDArray[np.float64], cache_ns: int) -> None:
        at = bisect_right(self.stamps, stamp_ns)
        if at and self.stamps[at - 1] == stamp_ns:
            self.poses[at - 1] = pose
            return
        self.stamps.insert(at, stamp_ns)
        self.poses.insert(at, pose)
        expired = bisect_left(self.stamps, self.stamps[-1] - cache_ns)
        del self.stamps[:expired], self.poses[:expired]

    def forget_after(self, stamp_ns: int) -> None:
        at = bisect_right(self.stamps, stamp_ns)
        del self.stamps[at:], self.poses[at:]

    def at(self, stamp_ns: int | None, child: str, max_gap_ns: int | None = None) -> NDArray[np.float64]:
        """T_parent_child at a time; None where all is static."""
        if not self.poses:
            raise TransformLookupError(f"Nothing is known any more of frame '{child}'.", "too_early")
        if self.is_static or stamp_ns is None:
            return self.poses[-1]
        at = bisect_left(self.stamps, stamp_ns)
        if at < len(self.stamps) and self.stamps[at] == stamp_ns:
            return self.poses[at]
        if at == len(self.stamps):
            late = (stamp_ns - self.stamps[-1]) * 1e-9
            raise TransformLookupError(
                f"The newest transform '{self.parent}' <- '{child}' is {late:.3f} s older than the image.",
                "too_early",
            )
        if at == 0:
            early = (self.stamps[0] - stamp_ns) * 1e-9
            raise TransformLookupError(
                f"The oldest transform '{self.parent}' <- '{child}' is {early:.3f} s newer than the image.",
                "too_old",
            )
        before, after = self.stamps[at - 1], self.stamps[at]
        too_far = max_gap_ns is not None and after - before > max_gap_ns
        if max_gap_ns is not None and too_far and not stood_still(self.poses[at - 1], self.poses[at]):
            raise TransformLookupError(
                f"There are {(after - before) * 1e-9:.3f} s between the transforms '{self.parent}' <- '{child}' around the image,"
                f" more than {max_gap_ns * 1e-9:g} s: where it was taken would be a guess.",
                "pose_gap",
            )
        return interpolate_pose(self.poses[at - 1], self.poses[at], (stamp_ns - before) / (after - before))


class TransformBuffer:
    """Thread-safe tree of frames.

    Args:
        cache_s: Seconds of history kept per moving frame.
        jump_back_s: A transform this much older than the newest of its frame means that time started anew (a
            bag loops): everything later than it is dropped.
        max_gap_s: Transforms farther apart in time are not interpolated, unless the frame stood still; None for no limit, as tf2
            has none.
    """

    def __init__(self, cache_s: float = 10.0, jump_back_s: float = 1.0, max_gap_s: float | None = None) -> None:
        self._cache_ns = round(cache_s * 1e9)
        self._jump_ns = round(jump_back_s * 1e9)
        self._max_gap_ns = None if max_gap_s is None else round(max_gap_s * 1e9)
        self._edges: dict[str, _Edge] = {}
        self._lock = threading.Lock()

    def set(self, parent: str, child: str, stamp_ns: int, pose: NDArray[np.float64], is_static: bool = False) -> None:
        """Add one transform.

        Args:
            parent: Parent frame; leading slashes of old recordings are dropped.
            child: Child frame.
            stamp_ns: Its time; without meaning for a static one.
            pose: T_parent_child (4, 4).
            is_static: True for ``/tf_static``.

        Raises:
            FrameError: ``bad_frame_id`` for names that cannot be, ``too_many_frames`` when no more are kept.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if not child or not parent or parent == child or max(len(parent), len(child)) > _LONGEST_NAME:
            raise FrameError("A transform needs two different, short frame names.", "bad_frame_id")
        with self._lock:
            edge = self._edges.get(child)
            if edge is None and len(self._edges) >= MAX_FRAMES:
                raise FrameError(f"More than {MAX_FRAMES} frames are not kept; who publishes so many?", "too_many_frames")
            if edge is None or edge.parent != parent or edge.is_static != is_static:
                edge = self._edges[child] = _Edge(parent, is_static)
            if is_static:
                edge.stamps, edge.poses = [0], [pose]
                return
            if edge.stamps and stamp_ns < edge.stamps[-1] - self._jump_ns:
                self._forget_after(stamp_ns)
            edge.add(stamp_ns, pose, self._cache_ns)

    def _forget_after(self, stamp_ns: int) -> None:
        for edge in self._edges.values():
            if not edge.is_static:
                edge.forget_after(stamp_ns)

    def frames(self) -> list[str]:
        """Names of all known frames, sorted."""
        with self._lock:
            return sorted(set(self._edges) | {edge.parent for edge in self._edges.values()})

    def root(self, frame: str) -> str:
        """The topmost ancestor of a frame; itself where nothing is known of it."""
        with self._lock:
            return self._chain(frame.lstrip("/"))[-1]

    def lookup(self, target: str, source: str, stamp_ns: int | None = None) -> NDArray[np.float64]:
        """Transform that maps points of ``source`` to ``target``.

        Args:
            target: Frame of the result.
            source: Frame of the points.
            stamp_ns: Time of the transform; None = the newest that all moving edges of the path have.

        Returns:
            T_target_source (4, 4) float64.

        Raises:
            TransformLookupError: With a sentence and a reason.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        if target == source:
            return np.eye(4)
        with self._lock:
            up_source = self._chain(source)
            up_target = self._chain(target)
            shared = next((frame for frame in up_source if frame in up_target), None)
            if shared is None:
                self._explain(target, source)
            ancestor = str(shared)
            if stamp_ns is None:
                path = up_source[: up_source.index(ancestor)] + up_target[: up_target.index(ancestor)]
                stamp_ns = self._newest_common(path)
            return invert_transform(self._climb(target, ancestor, stamp_ns)) @ self._climb(source, ancestor, stamp_ns)

    def _newest_common(self, children: list[str]) -> int | None:
        moving = [self._edges[child] for child in children if not self._edges[child].is_static]
        return min((edge.stamps[-1] for edge in moving if edge.stamps), default=None)

    def _chain(self, frame: str) -> list[str]:
        """The frame and its ancestors.

        Ends at a repeated frame, so that a wrong tree cannot hang the node.
        """
        chain = [frame]
        while chain[-1] in self._edges and self._edges[chain[-1]].parent not in chain:
            chain.append(self._edges[chain[-1]].parent)
        return chain

    def _climb(self, frame: str, ancestor: str, stamp_ns: int | None) -> NDArray[np.float64]:
        total = np.eye(4)
        while frame != ancestor:
            edge = self._edges[frame]
            total = edge.at(stamp_ns, frame, self._max_gap_ns) @ total
            frame = edge.parent
        return total

    def _explain(self, target: str, source: str) -> None:
        known = set(self._edges) | {edge.parent for edge in self._edges.values()}
        listing = ", ".join(sorted(known)) or "none"
        for frame in (target, source):
            if frame not in known:
                raise TransformLookupError(f"Frame '{frame}' is unknown to TF; known frames: {listing}.", "unknown_frame")
        raise TransformLookupError(f"TF does not connect '{target}' and '{source}'; known frames: {listing}.", "not_connected")
