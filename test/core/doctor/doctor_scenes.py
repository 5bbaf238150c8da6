"""Observations of a graph in which all is well, to break one thing at a time."""

from dataclasses import replace

from mosaic3d_core.doctor.observations import (
    Calibration,
    ClockObservation,
    DepthValues,
    EdgeObservation,
    Endpoint,
    NodeState,
    Observations,
    Settings,
    TopicObservation,
    Transport,
    role_kinds,
)

START = 1_700_000_000_000_000_000
STEP = 50_000_000
STAMPS = tuple(START + k * STEP for k in range(100))
MAP_BASE = EdgeObservation("map", "base", False, 100, STAMPS[0] - STEP, STAMPS[-1] + STEP, 0.05)
BASE_CAMERA = EdgeObservation("base", "camera", True, 1, 0, 0)


def topic(role, **fields):
    """A topic with one publisher that sends 20 messages per second."""
    kinds = role_kinds(role)
    topic = TopicObservation(
        role,
        f"/{role}",
        kinds,
        publishers=(Endpoint("/driver", kinds[0]),),
        subscriptions=(Endpoint("/perception_node", kinds[0], reliable=False),),
        count=100,
        total=100,
        rate_hz=20.0,
    )
    if role.endswith(("image", "camera_info")):
        topic = replace(topic, stamps_ns=STAMPS, ages_s=(0.03,) * 100, frame_ids=("camera",))
    if role.endswith("image"):
        topic = replace(topic, encodings=("16UC1" if "depth" in role else "rgb8",), sizes=((640, 480),), max_bytes=921_600)
    if role.endswith("depth/image"):
        topic = replace(topic, depth=DepthValues(0.8, 1500.0))
    if role.endswith("camera_info"):
        topic = replace(topic, calibration=Calibration((640, 480), 525.0))
    return replace(topic, **fields)


def healthy(**fields):
    """A graph in which nothing is wrong."""
    roles = ("rgb/image", "depth/image", "rgb/camera_info", "depth/camera_info", "tf", "tf_static")
    seen = Observations(
        source="graph",
        window_s=5.0,
        topics={role: topic(role) for role in roles},
        edges=(MAP_BASE, BASE_CAMERA),
        clock=ClockObservation(),
        node=NodeState("/perception_node", "active", True, received=100, fused=98),
        settings=Settings(use_sim_time=False),
        transports=(Transport("/perception_node", 128 << 20),),
        other_nodes=3,
        domain="ROS_DOMAIN_ID=0",
    )
    return replace(seen, **fields)


def with_topic(role, **fields):
    """A healthy graph with one topic changed."""
    seen = healthy()
    return replace(seen, topics={**seen.topics, role: replace(seen.topics[role], **fields)})


def with_node(**fields):
    """A healthy graph with the node changed."""
    seen = healthy()
    return replace(seen, node=replace(seen.node, **fields))


def with_settings(**fields):
    """A healthy graph with the node's parameters changed."""
    return healthy(settings=Settings(**{"use_sim_time": False, **fields}))
