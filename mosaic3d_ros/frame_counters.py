"""Counts of what came, what was used and what was dropped, in all and by camera."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class _CameraCounts:
    received: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    fused: int = 0
    unused_color: int = 0

    def as_dict(self) -> dict[str, object]:
        return {
            "received": dict(self.received),
            "fused": self.fused,
            "dropped": dict(self.dropped),
            "unused_color": self.unused_color,
        }


class FrameCounters:
    """Thread-safe counts.

    A depth image makes a frame: of each camera, and in all, ``received["depth/image"]`` is the sum of ``fused``, of all
    ``dropped`` and of those that still wait. A colour image is used with the depth image nearest in time; those left over
    (colour comes more often than depth) are ``unused_color``, which is no fault.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, _CameraCounts] = {}
        self._rejected_poses: Counter[str] = Counter()

    def received(self, topic: str, camera: str = "") -> None:
        """Count a message of a topic, by its short name ("depth/image")."""
        with self._lock:
            self._of(camera).received[topic] += 1

    def dropped(self, reason: str, camera: str = "") -> None:
        """Count a frame that is not used."""
        with self._lock:
            self._of(camera).dropped[reason] += 1

    def unused_color(self, camera: str = "") -> None:
        """Count a colour image that no depth image was nearest to."""
        with self._lock:
            self._of(camera).unused_color += 1

    def rejected_pose(self, reason: str) -> None:
        """Count a pose or transform that cannot be used."""
        with self._lock:
            self._rejected_poses[reason] += 1

    def fused(self, camera: str = "") -> None:
        """Count a frame that is in the map."""
        with self._lock:
            self._of(camera).fused += 1

    def as_dict(self) -> dict[str, object]:
        """The counts.

        Returns:
            Over all cameras ``received`` by topic, ``fused``, ``dropped`` by reason, ``unused_color``; ``rejected_poses`` by
            reason; and where cameras have names, the first four of each under ``cameras``.
        """
        with self._lock:
            total = _CameraCounts()
            for counts in self._cameras.values():
                total.received.update(counts.received)
                total.dropped.update(counts.dropped)
                total.fused += counts.fused
                total.unused_color += counts.unused_color
            result = {**total.as_dict(), "rejected_poses": dict(self._rejected_poses)}
            named = {name: counts.as_dict() for name, counts in self._cameras.items() if name}
            return {**result, "cameras": named} if named else result

    def _of(self, camera: str) -> _CameraCounts:
        return self._cameras.setdefault(camera, _CameraCounts())
