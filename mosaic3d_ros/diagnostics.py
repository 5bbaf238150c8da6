"""What perception_node says of itself on ``/diagnostics``: rates, drops by reason, pose age, map, encoder, device and findings.

Four statuses, named ``NODE: node``, ``NODE: inputs``, ``NODE: poses`` and ``NODE: map``. Their levels follow REP-107: OK, WARN
where the doctor's checks have warnings in that area, ERROR where they have errors; the message is the first of them. Each finding
is a value ``finding CODE`` as well.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from typing import get_args

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from mosaic3d_core.doctor import Finding, Observations, examine
from mosaic3d_core.doctor.check_poses import newest_pose_ns
from mosaic3d_core.doctor.findings import Area
from mosaic3d_core.doctor.self_report import write_drops, write_received, write_state, write_topics
from mosaic3d_ros.self_check import NodeFacts, SelfCheck

_DEPTH = 10


class DiagnosticsPublisher:
    """Publishes ``/diagnostics`` in a callback group of its own, so that neither frames nor the encoder hold it up.

    Args:
        node: Creates the publisher and the timer.
        check: The node's look at itself.
        period_s: Time between two messages, seconds.
    """

    def __init__(self, node: Node, check: SelfCheck, period_s: float = 1.0) -> None:
        self._node = node
        self._check = check
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", _DEPTH)
        # By a steady clock: simulated time that stands still is one of the things to be told.
        self._timer = node.create_timer(
            period_s, self.publish, callback_group=MutuallyExclusiveCallbackGroup(), clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def publish(self) -> None:
        """Look and publish now."""
        try:
            message = DiagnosticArray(status=statuses(self._check, self._node.get_clock().now().nanoseconds))
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._publisher.publish(message)
        except Exception:
            if self._node.context.ok():  # else Ctrl-C came in between, and there is nobody left to tell
                raise

    def destroy(self) -> None:
        """Take down timer and publisher."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)


def statuses(check: SelfCheck, now_ns: int) -> list[DiagnosticStatus]:
    """The four statuses of this moment.

    Args:
        check: The node's look at itself.
        now_ns: The node's clock, for the age of the newest pose.
    """
    seen, facts = check.look(), check.facts()
    findings = examine(seen)
    values: dict[Area, Mapping[str, str]] = {
        "node": _node_values(check, seen, facts),
        "inputs": _input_values(check, seen, facts),
        "poses": _pose_values(seen, now_ns),
        "map": _map_values(facts),
    }
    summaries: dict[Area, str] = {
        "node": f"{facts.lifecycle}, encoder on {facts.device}" if facts.model_loaded else facts.lifecycle,
        "inputs": ", ".join(f"{role} {topic.rate_hz:.1f} Hz" for role, topic in seen.topics.items() if topic.rate_hz) or "none",
        "poses": f"from {seen.settings.pose_source}",
        "map": f"{facts.map_voxels} voxels, {facts.fused} frames",
    }
    name = check.name.lstrip("/")
    return [
        _status(f"{name}: {area}", summaries[area], values[area], [f for f in findings if f.area == area])
        for area in get_args(Area)
    ]


def _status(name: str, summary: str, values: Mapping[str, str], findings: Iterable[Finding]) -> DiagnosticStatus:
    findings = list(findings)
    level = DiagnosticStatus.OK
    if findings:
        is_error = any(finding.severity == "error" for finding in findings)
        level = DiagnosticStatus.ERROR if is_error else DiagnosticStatus.WARN
    first = next((f for f in findings if f.severity == "error"), findings[0] if findings else None)
    pairs = [*values.items(), *((f"finding {f.code}", f"{f.problem} {f.remedy}") for f in findings)]
    return DiagnosticStatus(
        level=level,
        name=name,
        message=first.problem if first else summary,
        hardware_id=socket.gethostname(),
        values=[KeyValue(key=key, value=value) for key, value in pairs],
    )


def _node_values(check: SelfCheck, seen: Observations, facts: NodeFacts) -> dict[str, str]:
    assert seen.node is not None
    return {
        **write_state(seen.node, check.transport),
        "device": facts.device,
        "memory MB": _memory_mb(),
        "use_sim_time": str(bool(seen.settings.use_sim_time)).lower(),
    }


def _input_values(check: SelfCheck, seen: Observations, facts: NodeFacts) -> dict[str, str]:
    rates = {f"rate {role} Hz": f"{topic.rate_hz or 0.0:.2f}" for role, topic in seen.topics.items() if not role.startswith("tf")}
    return {**write_topics(check.topics), **rates, **write_received(facts.received)}


def _pose_values(seen: Observations, now_ns: int) -> dict[str, str]:
    newest_ns = newest_pose_ns(seen)
    age = "" if newest_ns is None else f"{(now_ns - newest_ns) * 1e-9:.3f}"
    return {"pose source": seen.settings.pose_source, "map frame": seen.settings.map_frame, "pose age s": age}


def _map_values(facts: NodeFacts) -> dict[str, str]:
    return {
        "fused": str(facts.fused),
        **write_drops(facts.dropped),
        "map voxels": str(facts.map_voxels),
        "generation": str(facts.generation),
        "encoded generation": "" if facts.encoded_generation is None else str(facts.encoded_generation),
        "encode ms": "" if facts.encode_ms is None else f"{facts.encode_ms:.1f}",
    }


def _memory_mb() -> str:
    """Resident memory of this process; empty where /proc does not exist."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return ""
    return f"{pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.0f}"
