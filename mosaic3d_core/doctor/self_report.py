"""What the node tells of itself in its diagnostics, as key and value texts: written by the node, read by the doctor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mosaic3d_core.doctor.observations import NodeState, Transport

_TOPIC, _RECEIVED, _DROPPED = "topic ", "received ", "dropped "
_MOST_DIGITS = 18
_LONGEST = 100_000  # keys that are read of a message of anybody


@dataclass(frozen=True)
class SelfReport:
    """The part of the node's diagnostics that the doctor reads.

    Attributes:
        topics: Resolved name of each input by role.
        state: Name, lifecycle, model, paused; drops since the node began.
        transport: Shared memory of its process; None where it is not told.
    """

    topics: Mapping[str, str]
    state: NodeState
    transport: Transport | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


def write_topics(topics: Mapping[str, str]) -> dict[str, str]:
    """Keys and values of the names of inputs."""
    return {f"{_TOPIC}{role}": name for role, name in topics.items()}


def write_received(received: Mapping[str, int]) -> dict[str, str]:
    """Keys and values of the counts of messages by role."""
    return {f"{_RECEIVED}{role}": str(count) for role, count in sorted(received.items())}


def write_drops(dropped: Mapping[str, int]) -> dict[str, str]:
    """Keys and values of the counts of drops by reason."""
    return {f"{_DROPPED}{reason}": str(count) for reason, count in sorted(dropped.items())}


def write_state(state: NodeState, transport: Transport | None) -> dict[str, str]:
    """Keys and values of the node and its process."""
    values = {
        "lifecycle": state.lifecycle,
        "model loaded": "" if state.model_loaded is None else str(state.model_loaded).lower(),
        "paused": str(state.paused).lower(),
        "last error": state.last_error,
        "last drop": state.last_drop,
    }
    if transport is not None:
        values["shared memory bytes"] = "" if transport.segment_bytes is None else str(transport.segment_bytes)
        values["Fast DDS profile"] = transport.profile
        values["Fast DDS profile problem"] = transport.problem
    return values


def read_report(name: str, values: Mapping[str, str]) -> SelfReport:
    """Read back what the writers of this module wrote; what is missing or malformed stays unknown.

    Args:
        name: Full name of the node.
        values: All its keys and values.
    """
    values = dict(list(values.items())[:_LONGEST])
    topics = {key.removeprefix(_TOPIC): value for key, value in values.items() if key.startswith(_TOPIC) and value}
    counts = {key.removeprefix(_DROPPED): _number(value) for key, value in values.items() if key.startswith(_DROPPED)}
    state = NodeState(
        name,
        lifecycle=values.get("lifecycle", ""),
        model_loaded={"true": True, "false": False}.get(values.get("model loaded", "")),
        paused=values.get("paused") == "true",
        dropped={reason: count for reason, count in counts.items() if count is not None},
        last_drop=values.get("last drop", ""),
        last_error=values.get("last error", ""),
    )
    transport = None
    if "shared memory bytes" in values:
        transport = Transport(
            name,
            _number(values["shared memory bytes"]),
            values.get("Fast DDS profile", ""),
            values.get("Fast DDS profile problem", ""),
        )
    received = [value for key, value in values.items() if key.startswith(_RECEIVED) and key.endswith("depth/image")]
    state = replace(
        state,
        received=sum(_number(value) or 0 for value in received) if received else None,
        fused=_number(values.get("fused", "")) or 0,
    )
    return SelfReport(topics, state, transport, values)


def _number(text: str) -> int | None:
    """A count out of a text, None where it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None


def since(earlier: NodeState, later: NodeState) -> NodeState:
    """State with the counts between two reports."""
    if later.received is None or earlier.received is None:
        return replace(later, received=None, fused=0, dropped={})
    dropped = {reason: count - earlier.dropped.get(reason, 0) for reason, count in later.dropped.items()}
    return replace(
        later,
        received=max(later.received - earlier.received, 0),
        fused=max(later.fused - earlier.fused, 0),
        dropped={reason: count for reason, count in dropped.items() if count > 0},
    )
