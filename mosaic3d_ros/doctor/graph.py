"""What the graph tells without any message: nodes, topics, publishers and their quality of service."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from mosaic3d_core.doctor.observations import CAMERA_INFO, COMPRESSED, IMAGE, ODOMETRY, POSE, Endpoint

QUERY_SERVICE = "mosaic3d_msgs/srv/QueryObjects"
"""Who offers this is a perception_node, whatever its name."""

_USUAL_NAME = "perception_node"
_LISTED = (IMAGE, COMPRESSED, CAMERA_INFO, POSE, ODOMETRY)


def publishers_of(node: Node, topic: str) -> tuple[Endpoint, ...]:
    """Publishers of a resolved topic name, as the graph knows them."""
    return tuple(_endpoint(info) for info in node.get_publishers_info_by_topic(topic))


def subscriptions_of(node: Node, topic: str, owner: str) -> tuple[Endpoint, ...]:
    """The subscriptions that the node with this full name has on a topic."""
    found = (_endpoint(info) for info in node.get_subscriptions_info_by_topic(topic))
    return tuple(endpoint for endpoint in found if endpoint.node == owner)


def _endpoint(info: TopicEndpointInfo) -> Endpoint:
    profile = info.qos_profile
    return Endpoint(
        _full_name(info.node_name, info.node_namespace),
        info.topic_type,
        reliable=profile.reliability != ReliabilityPolicy.BEST_EFFORT,
        transient_local=profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )


def _full_name(name: str, namespace: str) -> str:
    return f"{namespace.rstrip('/')}/{name}"


def other_nodes(node: Node) -> list[str]:
    """Full names of all nodes but this one and the helper of the command line tools, sorted."""
    own = node.get_fully_qualified_name()
    names = {_full_name(name, space) for name, space in node.get_node_names_and_namespaces()}
    return sorted(name for name in names - {own} if not name.rpartition("/")[2].startswith("_"))


def perception_nodes(node: Node, name: str | None, namespace: str | None) -> list[str]:
    """Full names of the running perception nodes that fit a name and a namespace."""
    return [other for other in other_nodes(node) if _fits(other, name, namespace) and (name or _is_perception(node, other))]


def _fits(full_name: str, name: str | None, namespace: str | None) -> bool:
    space, _, base = full_name.rpartition("/")
    if namespace is not None and space.strip("/") != namespace.strip("/"):
        return False
    return name is None or (full_name == name if name.startswith("/") else base == name)


def _is_perception(node: Node, full_name: str) -> bool:
    space, _, base = full_name.rpartition("/")
    if base == _USUAL_NAME:
        return True
    try:
        services = node.get_service_names_and_types_by_node(base, space or "/")
    except RuntimeError:  # it went away between two calls
        return False
    return any(QUERY_SERVICE in kinds for _, kinds in services)


def guess_inputs(node: Node, full_name: str) -> dict[str, str]:
    """Names of the inputs by role, from what the node subscribes to; only what is clear.

    A remapped name does not say what it replaces: a topic with "depth" in its name is taken for depth.
    """
    space, _, base = full_name.rpartition("/")
    try:
        subscribed = node.get_subscriber_names_and_types_by_node(base, space or "/")
    except RuntimeError:
        return {}
    names: dict[str, list[str]] = {}
    for topic, kinds in subscribed:
        for kind in kinds:
            role = _role(topic, kind)
            if role:
                names.setdefault(role, []).append(topic)
    return {role: topics[0] for role, topics in names.items() if len(topics) == 1}


def _role(topic: str, kind: str) -> str:
    part = "depth" if "depth" in topic else "rgb"
    if kind in (IMAGE, COMPRESSED):
        return f"{part}/image"
    return {CAMERA_INFO: f"{part}/camera_info", POSE: "pose", ODOMETRY: "odom"}.get(kind, "")


def offered_topics(node: Node) -> dict[str, tuple[str, ...]]:
    """Published topics of the types that the node takes, by type."""
    offered: dict[str, list[str]] = {}
    for topic, kinds in node.get_topic_names_and_types():
        for kind in kinds:
            if kind in _LISTED and node.count_publishers(topic):
                offered.setdefault(kind, []).append(topic)
    return {kind: tuple(sorted(topics)) for kind, topics in offered.items()}


def domain_text(environment: Mapping[str, str] | None = None) -> str:
    """Where this process looks for others, in words."""
    environment = os.environ if environment is None else environment
    parts = [f"ROS_DOMAIN_ID={environment.get('ROS_DOMAIN_ID') or '0'}"]
    names = (
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        "ROS_LOCALHOST_ONLY",
        "ROS_STATIC_PEERS",
        "ROS_DISCOVERY_SERVER",
        "RMW_IMPLEMENTATION",
    )
    parts += [f"{name}={environment[name]}" for name in names if environment.get(name)]
    return ", ".join(parts)
