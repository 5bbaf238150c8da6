"""Checks of the graph, of perception_node itself, of the transport and of the clock."""

from __future__ import annotations

from collections.abc import Iterator

from mosaic3d_core.doctor.findings import Finding
from mosaic3d_core.doctor.observations import Observations

_CLOUD_BYTES = 500_000 * 28
"""A labelled cloud of 500,000 points (28 bytes each): a large room in voxels of 2 cm."""


def check_graph(seen: Observations) -> Iterator[Finding]:
    """Whether any other node is in sight."""
    if seen.other_nodes == 0:
        yield Finding(
            "no_graph",
            "graph",
            f"No other ROS 2 node is in sight ({seen.domain}).",
            "Start the camera driver and perception_node, or set ROS_DOMAIN_ID, the discovery range and RMW_IMPLEMENTATION "
            "as they are set where those run.",
        )


def check_node(seen: Observations) -> Iterator[Finding]:
    """Whether perception_node runs, answers, is active, has its model and is not paused."""
    if seen.source == "bag":
        return
    node = seen.node
    if node is None:
        yield Finding(
            "node_absent",
            "perception_node",
            "No perception_node runs in this domain.",
            "Start it with 'ros2 launch mosaic3d_ros perception.launch.py', or name it with --node where it has another name.",
        )
        return
    if not node.responds:
        yield Finding(
            "node_silent",
            node.name,
            f"{node.name} is in the graph but did not answer when asked for its parameters.",
            "See its log; it may still be loading, hang, or have been killed a moment ago.",
        )
    if node.lifecycle not in ("", "active") and seen.source != "node":  # the node itself was told to be so
        yield Finding(
            "node_inactive",
            node.name,
            f"{node.name} is {node.lifecycle}, not active: it subscribes to nothing.",
            "Wait a moment, it is on its way; loading a model takes some seconds."
            if node.lifecycle.endswith("ing")
            else f"Run 'ros2 lifecycle set {node.name} {_next_step(node.lifecycle)}', or start it with autostart:=true.",
        )
    own_start = seen.source == "node" and node.lifecycle == "unconfigured" and not node.last_error
    waits = own_start or node.lifecycle == "configuring"
    if (node.model_loaded is False or node.lifecycle == "unconfigured") and not waits:
        reason = f" ({node.last_error.rstrip('.')})" if node.last_error else ""
        yield Finding(
            "model_not_loaded",
            node.name,
            f"{node.name} has no encoder loaded: it can neither label nor answer{reason}.",
            "See its log for the reason; the parameters 'checkpoint' and 'device' choose the model and where it runs.",
        )
    if node.paused:
        yield Finding(
            "node_paused",
            node.name,
            f"Fusion of {node.name} is paused: no frame enters the map.",
            f"Run 'ros2 service call {node.name}/pause std_srvs/srv/SetBool \"{{data: false}}\"'.",
        )


def _next_step(state: str) -> str:
    return {"unconfigured": "configure", "inactive": "activate"}.get(state, "activate")


def check_transport(seen: Observations) -> Iterator[Finding]:
    """Whether the largest messages fit into the shared memory of Fast DDS."""
    largest = max((topic.max_bytes for topic in seen.topics.values()), default=0)
    # Two of the largest: a publisher sends the next one while the last one is still being read.
    needed = 2 * max(largest, _CLOUD_BYTES)
    for transport in seen.transports:
        set_profile = (
            "Set FASTDDS_DEFAULT_PROFILES_FILE to config/fastdds.xml of this package in every process, the camera driver "
            "included (the launch files do)."
        )
        if transport.problem:
            yield Finding(
                "transport_profile",
                transport.process,
                f"FASTDDS_DEFAULT_PROFILES_FILE of {transport.process} names '{transport.profile}', which cannot be used: "
                f"{transport.problem}.",
                set_profile,
            )
        elif transport.segment_bytes is not None and transport.segment_bytes < needed:
            what = "images of this camera" if largest > _CLOUD_BYTES else "clouds of the map"
            yield Finding(
                "transport_small",
                transport.process,
                f"Fast DDS of {transport.process} has {_size(transport.segment_bytes)} of shared memory, and {what} need "
                f"{_size(needed)}: large messages come late or never.",
                set_profile,
            )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1024:.0f} KB"


def check_clock(seen: Observations) -> Iterator[Finding]:
    """Whether /clock and use_sim_time go together."""
    if seen.source == "bag":
        return
    clock, uses = seen.clock, seen.settings.use_sim_time
    name = seen.node.name if seen.node else "perception_node"
    if uses and not clock.count:
        who = "nobody publishes /clock" if not clock.publishers else "no message came on /clock"
        yield Finding(
            "clock_absent",
            "/clock",
            f"{name} has use_sim_time set, but {who}: its time stands still.",
            "Play the bag with --clock, start the simulator, or set use_sim_time to false.",
        )
    elif uses and clock.count > 1 and clock.advanced_s == 0.0:
        yield Finding(
            "clock_stopped",
            "/clock",
            f"/clock is published but stood still for {seen.window_s:.0f} s.",
            "Let the simulation or the bag go on; it may be paused.",
        )
    elif uses is False and clock.publishers:
        yield Finding(
            "clock_unused",
            "/clock",
            f"/clock is published, but {name} has use_sim_time set to false.",
            "Start it with use_sim_time:=true, as every node beside a simulator or a bag played with --clock.",
        )
