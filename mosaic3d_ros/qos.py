"""The quality-of-service profiles in use, by purpose."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Maps and markers: a late subscriber gets the newest one at once (REP-2003)."""

SERVICE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=200,
    reliability=ReliabilityPolicy.RELIABLE,
)
"""Requests that wait: of more than the usual ten at once the oldest would be lost, and their clients wait for ever."""

TF = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""Moving transforms."""

TF_STATIC = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Fixed transforms."""

CAMERA_OUT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""What a camera driver (here: the player) offers; reliable, so that every kind of subscriber can connect."""


def camera_out(best_effort: bool) -> QoSProfile:
    """What the player offers: :data:`CAMERA_OUT`, or best effort as drivers with the sensor-data habit do."""
    reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=CAMERA_OUT.depth, reliability=reliability)


def camera_in(depth: int, reliable: bool) -> QoSProfile:
    """Profile of the image subscriptions.

    Args:
        depth: Messages kept while the node is busy.
        reliable: False is the sensor-data habit and connects to every publisher. True asks for lost messages
            again and connects to reliable publishers only.
    """
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability)
