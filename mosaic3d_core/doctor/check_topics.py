"""Checks of the inputs as topics: there, of the right type, connected, alive."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from mosaic3d_core.doctor.findings import Finding
from mosaic3d_core.doctor.observations import Endpoint, Observations, TopicObservation

_LOWEST_RATE_HZ = 1.0
_LAUNCH_ARGUMENTS = {
    "rgb/image": "rgb",
    "depth/image": "depth",
    "rgb/camera_info": "rgb_info",
    "depth/camera_info": "depth_info",
}


def check_topics(seen: Observations) -> Iterator[Finding]:
    """At most one finding for each input: the first cause."""
    for topic in seen.topics.values():
        if topic.role in ("tf", "tf_static"):  # either may be missing; see check_poses
            yield from _check_connection(topic)
        elif not topic.publishers and not topic.count:
            if seen.is_settled:
                yield _absent(seen, topic)
        else:
            yield from _check_connection(topic) or _check_flow(seen, topic)


def _absent(seen: Observations, topic: TopicObservation) -> Finding:
    where = "the bag has no such topic" if seen.source == "bag" else "nobody publishes it"
    role = "" if topic.name == f"/{topic.role}" else f" ({topic.role})"
    return Finding("topic_absent", topic.name, f"No messages on '{topic.name}'{role}: {where}.", _advice(seen, topic))


def _advice(seen: Observations, topic: TopicObservation) -> str:
    taken = {other.name for other in seen.topics.values()}
    offered = [name for kind in topic.kinds for name in seen.offered.get(kind, ()) if name not in taken]
    if not offered:
        source = "Record it" if seen.source == "bag" else "Start the node that publishes it"
        return f"{source}: a topic of type {' or '.join(topic.kinds)}."
    what = "depth" if topic.role.endswith(("depth/image", "depth/camera_info")) else "color"
    offered.sort(key=lambda name: (what not in name.replace("rgb", "color"), name))
    close = get_close_matches(topic.name, offered, 1, 0.9) or offered[:1]
    listing = ", ".join(offered[:6]) + (" ..." if len(offered) > 6 else "")
    if seen.source == "bag":
        option = {"pose": "pose", "odom": "pose"}.get(topic.role) or _LAUNCH_ARGUMENTS.get(topic.role, topic.role)
        return f"Name it, for example with --{option.replace('_', '-')} {close[0]} (of this type: {listing})."
    argument = _LAUNCH_ARGUMENTS.get(topic.role, topic.role)
    return f"Remap it, for example {argument}:={close[0]} at launch (published with this type: {listing})."


def _check_connection(topic: TopicObservation) -> list[Finding]:
    """Type and quality of service of the publishers against the node's subscription."""
    fitting = [p for p in topic.publishers if p.kind in topic.kinds]
    if topic.publishers and not fitting:
        kinds = ", ".join(sorted({p.kind for p in topic.publishers}))
        return [
            Finding(
                "topic_type",
                topic.name,
                f"'{topic.name}' ({topic.role}) carries {kinds}, but the node takes {' or '.join(topic.kinds)}.",
                f"Remap {topic.role} to a topic of that type.",
            )
        ]
    for publisher in fitting:
        lacks = [_lacking(publisher, wanted) for wanted in topic.subscriptions]
        if lacks and all(lacks):  # one subscription of the node that connects is enough
            name = f" of {publisher.node}" if publisher.node else ""
            return [
                Finding(
                    "qos_incompatible",
                    topic.name,
                    f"The publisher{name} on '{topic.name}' and the node do not connect: {lacks[0]}.",
                    _qos_remedy(topic, reliability="best effort" in lacks[0]),
                )
            ]
    return []


def _lacking(publisher: Endpoint, wanted: Endpoint) -> str:
    """What the node asks for and the publisher does not offer; empty where they connect."""
    lacks = []
    if wanted.reliable and not publisher.reliable:
        lacks.append("the node asks for reliable messages and the publisher offers best effort")
    if wanted.transient_local and not publisher.transient_local:
        lacks.append("the node asks for latched messages (transient local) and the publisher offers volatile ones")
    return " and ".join(lacks)


def _qos_remedy(topic: TopicObservation, reliability: bool) -> str:
    if topic.role == "tf_static":
        return "Let it publish with durability transient local, as tf2_ros' StaticTransformBroadcaster does."
    if topic.role == "tf":
        return "Let it publish with reliability reliable, as tf2_ros' TransformBroadcaster does."
    if reliability:
        return "Set the node's parameter reliable_images to false, or let the publisher be reliable."
    return "Let the publisher offer what the node asks for."


def _check_flow(seen: Observations, topic: TopicObservation) -> list[Finding]:
    if not seen.is_settled:
        return []
    is_info = topic.role.endswith("camera_info")
    if topic.count == 0 and not (is_info and topic.total):  # a calibration counts until the next one
        count = len(topic.publishers)
        return [
            Finding(
                "topic_silent",
                topic.name,
                f"No messages on '{topic.name}' ({count} publisher{'s' if count != 1 else ''}) in {seen.window_s:.0f} s.",
                "See whether the driver streams ('ros2 topic hz'); large messages that never arrive need the Fast DDS profile "
                "in the publisher's process, too.",
            )
        ]
    if topic.role.endswith("image") and topic.rate_hz is not None and topic.rate_hz < _LOWEST_RATE_HZ and topic.count > 1:
        return [
            Finding(
                "rate_low",
                topic.name,
                f"'{topic.name}' brings {topic.rate_hz:.2f} images per second.",
                "See the driver's rate, the network and the Fast DDS profile of its process (large images get lost without).",
            )
        ]
    return []
