"""Says every few seconds what the node still waits for, with the names of the topics and frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

_COUNTED = ("depth/image", "rgb/image", "depth/camera_info", "rgb/camera_info")


class Watchdog:
    """Compares the counts of two checks and words what is missing.

    Args:
        topics: Resolved name of each input topic by its short name.
        awaited_pose: What has to be published for poses.
        publishers: Number of publishers of a resolved topic name.
    """

    def __init__(self, topics: Mapping[str, str], awaited_pose: str, publishers: Callable[[str], int]) -> None:
        self._topics = topics
        self._awaited_pose = awaited_pose
        self._publishers = publishers
        self._before: dict[str, object] = {"received": {}, "fused": 0, "dropped": {}}

    def check(self, counts: dict[str, object], problem: str) -> str | None:
        """What a person has to know, or None when all is well.

        Args:
            counts: As from ``FrameCounters.as_dict``.
            problem: The last reason a frame had to wait for its pose.
        """
        before, self._before = self._before, counts
        received, received_before = counts["received"], before["received"]
        silent = [t for t in _COUNTED if received.get(t, 0) == received_before.get(t, 0)]  # type: ignore[attr-defined]
        if silent:
            return "No messages on " + ", ".join(self._describe(topic) for topic in silent) + "."
        if counts["fused"] != before["fused"]:
            return None
        dropped = {
            reason: count - before["dropped"].get(reason, 0)  # type: ignore[attr-defined]
            for reason, count in counts["dropped"].items()  # type: ignore[attr-defined]
        }
        news = ", ".join(f"{reason} {count}" for reason, count in dropped.items() if count)
        if set(news.split()) & {"paused"}:
            return None
        if {"no_pose", "too_old", "queue_full"} & {r for r, c in dropped.items() if c} or problem:
            return f"Images come but no pose for them: waiting for {self._awaited_pose}. {problem} Dropped: {news or 'none yet'}."
        return f"Images come but none was fused. Dropped: {news or 'none'}."

    def _describe(self, topic: str) -> str:
        name = self._topics[topic]
        count = self._publishers(name)
        return f"'{name}' ({count} publisher{'s' if count != 1 else ''})"


def transport_warning() -> str | None:
    """A sentence when large messages may be lost for want of a Fast DDS profile, else None."""
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        return None
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    path = next((os.environ[name] for name in names if os.environ.get(name)), None)
    if path is None:
        return (
            "FASTDDS_DEFAULT_PROFILES_FILE is not set: Fast DDS's default shared memory (512 KB) loses large"
            " images and clouds. Set it to config/fastdds.xml of this package in every process (the launch"
            " files do)."
        )
    if not os.path.isfile(path):
        return f"FASTDDS_DEFAULT_PROFILES_FILE names '{path}', which does not exist: large images and clouds may be lost."
    return None
