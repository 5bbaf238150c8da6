"""Checks of what became of the frames, for what no other check explains."""

from __future__ import annotations

from collections.abc import Iterator

from mosaic3d_core.doctor.findings import Finding
from mosaic3d_core.doctor.observations import Observations

_ON_PURPOSE = {"paused", "reset", "stopped"}
_MANY_DROPPED = 0.1


def check_outcome(seen: Observations) -> Iterator[Finding]:
    """Failures of the node's threads, and drops, by the node's own counts."""
    node = seen.node
    if node is None:
        return
    if node.last_error and node.lifecycle in ("", "active"):  # else it is why the model is not loaded
        yield Finding(
            "worker_failed",
            node.name,
            f"{node.name} failed while it worked: {node.last_error.rstrip('.')}.",
            "See its log; out of memory: smaller map.max_voxels, larger map.voxel_size_m, or another device.",
        )
    dropped = {reason: count for reason, count in node.dropped.items() if count and reason not in _ON_PURPOSE}
    listing = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items(), key=lambda item: -item[1]))
    last = f" (the last: {node.last_drop.rstrip('.')})" if node.last_drop and dropped else ""
    if node.received and not node.fused and not node.paused:
        yield Finding(
            "nothing_fused",
            node.name,
            f"Images come but none was fused in {seen.window_s:.0f} s; dropped: {listing or 'none yet'}{last}.",
            "See docs/troubleshooting.md for each reason.",
        )
    elif dropped and sum(dropped.values()) > _MANY_DROPPED * (node.fused + sum(dropped.values())):
        yield Finding(
            "frames_dropped",
            node.name,
            f"{node.fused} frames were fused in {seen.window_s:.0f} s and {sum(dropped.values())} dropped: {listing}{last}.",
            "See docs/troubleshooting.md for each reason; queue_full: frames come faster than this machine fuses them.",
        )
