"""What the doctor has seen of a graph, a bag or its own node: plain values, no ROS, nothing judged yet.

A *role* names an input as the node does: ``rgb/image``, ``depth/image``, ``rgb/camera_info``, ``depth/camera_info`` (with the
name of the camera before it where there are several, ``left/rgb/image``), ``tf``, ``tf_static``, ``pose``, ``odom``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mosaic3d_core.imaging.raw_images import BAYER_ENCODINGS, COLOR_ENCODINGS, DEPTH_ENCODINGS, YUV_ENCODINGS

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_MESSAGE, POSE, ODOMETRY = "tf2_msgs/msg/TFMessage", "geometry_msgs/msg/PoseStamped", "nav_msgs/msg/Odometry"

SETTLING_S = 1.0
"""A shorter look at a graph cannot tell that something is missing."""

CAMERA_ROLES = ("rgb/image", "depth/image", "rgb/camera_info", "depth/camera_info")


@dataclass(frozen=True)
class Endpoint:
    """A publisher or a subscription.

    Attributes:
        node: Full name of its node; empty where it is not known.
        kind: Message type, such as ``sensor_msgs/msg/Image``.
        reliable: Reliable, else best effort.
        transient_local: Keeps its newest messages for late subscribers, else volatile.
    """

    node: str
    kind: str
    reliable: bool = True
    transient_local: bool = False


@dataclass(frozen=True)
class Calibration:
    """The newest camera_info.

    Attributes:
        size: (width, height) of the images that it describes, pixels.
        fx: Focal length in pixels, of P where it is set, else of K; 0 where it cannot be read.
        reason: Why it cannot be used, as the node counts it (``bad_intrinsics`` ...); empty when it can.
        problem: The same as a sentence.
        distortion_problem: Why its distortion cannot be undone; empty when it can.
    """

    size: tuple[int, int]
    fx: float = 0.0
    reason: str = ""
    problem: str = ""
    distortion_problem: str = ""


@dataclass(frozen=True)
class DepthValues:
    """A sample of the pixels of depth images.

    Attributes:
        valid_share: Part of them that is finite and above 0, in [0, 1].
        median: Median of those, in the unit of the message; NaN without any.
    """

    valid_share: float
    median: float


@dataclass(frozen=True)
class TopicObservation:
    """One input and what came on it.

    Attributes:
        role: See the module.
        name: Resolved name of the topic.
        kinds: Message types that the node takes there.
        publishers: Who publishes it.
        subscriptions: The node's own; a publisher must fit one of them. Empty where they are not known.
        count: Messages in the window.
        total: Messages since the observer began.
        rate_hz: Messages per second of the window; None with fewer than two.
        stamps_ns: Stamps of those with a header, in the order of arrival.
        ages_s: Clock of the observer minus stamp when it arrived, seconds; empty where there is no clock (a bag).
        frame_ids: Different frames seen.
        encodings: Different encodings seen (formats of compressed images).
        sizes: Different (width, height) seen.
        problem: What was wrong with the last malformed message; empty without one.
        max_bytes: Largest message.
        calibration: Newest one, for camera_info.
        depth: Sampled pixels, for depth images.
    """

    role: str
    name: str
    kinds: tuple[str, ...]
    publishers: tuple[Endpoint, ...] = ()
    subscriptions: tuple[Endpoint, ...] = ()
    count: int = 0
    total: int = 0
    rate_hz: float | None = None
    stamps_ns: tuple[int, ...] = ()
    ages_s: tuple[float, ...] = ()
    frame_ids: tuple[str, ...] = ()
    encodings: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    problem: str = ""
    max_bytes: int = 0
    calibration: Calibration | None = None
    depth: DepthValues | None = None


@dataclass(frozen=True)
class EdgeObservation:
    """The transforms from one child frame to one parent.

    Attributes:
        parent: Frame, without a leading slash.
        child: Frame, without a leading slash.
        is_static: From ``/tf_static``.
        count: Transforms seen.
        oldest_ns: Smallest stamp.
        newest_ns: Largest stamp.
        max_gap_s: Largest time between two that follow each other, seconds.
        problem: What was wrong with the last one that cannot be used (NaN, not a rotation); empty without one.
    """

    parent: str
    child: str
    is_static: bool
    count: int
    oldest_ns: int
    newest_ns: int
    max_gap_s: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class PoseObservation:
    """What came on the topic of poses.

    Attributes:
        frame_id: Parent frame of the newest.
        child_frame_id: Frame whose pose it is; empty = that of the image.
        oldest_ns: Smallest stamp.
        newest_ns: Largest stamp.
        max_gap_s: Largest time between two that follow each other, seconds.
        problem: As in :class:`EdgeObservation`.
    """

    frame_id: str
    child_frame_id: str
    oldest_ns: int
    newest_ns: int
    max_gap_s: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class ClockObservation:
    """The topic ``/clock``.

    Attributes:
        publishers: How many publish it.
        count: Messages in the window.
        advanced_s: How far it went in the window, seconds.
    """

    publishers: int = 0
    count: int = 0
    advanced_s: float = 0.0


@dataclass(frozen=True)
class Transport:
    """Shared memory of Fast DDS in one process.

    Attributes:
        process: Whose it is, for texts.
        segment_bytes: Size of its segment; None where no shared memory is in use, or another middleware.
        profile: File that sets it; empty without one.
        problem: Why the file cannot be used; empty when it can.
    """

    process: str
    segment_bytes: int | None
    profile: str = ""
    problem: str = ""


@dataclass(frozen=True)
class NodeState:
    """What perception_node says about itself.

    Attributes:
        name: Full name.
        lifecycle: ``unconfigured``, ``inactive``, ``active``, ``finalized``; empty where it is not known.
        model_loaded: Whether the encoder is ready; None where it is not known.
        paused: Fusion is paused.
        responds: It answered when asked for its parameters.
        received: Depth images in the window; None where it is not known.
        fused: Frames fused in the window.
        dropped: Frames dropped in the window, by reason.
        last_drop: Sentence of the last drop.
        last_error: Sentence of the last failure of a thread (out of memory ...) in the window.
    """

    name: str
    lifecycle: str = ""
    model_loaded: bool | None = None
    paused: bool = False
    responds: bool = True
    received: int | None = None
    fused: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    last_drop: str = ""
    last_error: str = ""


@dataclass(frozen=True)
class Settings:
    """The parameters of the node that decide what it needs; the defaults are its defaults.

    Attributes:
        map_frame: Fixed frame of the map.
        pose_source: ``tf``, ``pose``, ``odom`` or ``static`` (a parameter).
        pose_child_frame: Frame whose pose comes on ``pose``; empty = that of the depth images.
        has_extrinsics: The transform between colour and depth camera is a parameter.
        images_are: ``rectified``, ``raw`` (their distortion is undone), or ``auto`` (by the name of the topic).
        sync_slop_s: Largest time between a depth image and its colour image, seconds.
        pose_timeout_s: Longest wait of a frame for its pose, seconds.
        pose_max_gap_s: Largest time between two poses that are interpolated, seconds.
        use_sim_time: Whether the node takes its time from ``/clock``; None where it is not known.
        color_encodings: Encodings of colour images that it reads.
        depth_encodings: Encodings of depth images that it reads.
    """

    map_frame: str = "map"
    pose_source: str = "tf"
    pose_child_frame: str = ""
    has_extrinsics: bool = False
    images_are: str = "auto"
    sync_slop_s: float = 0.02
    pose_timeout_s: float = 1.0
    pose_max_gap_s: float = 0.5
    use_sim_time: bool | None = None
    color_encodings: tuple[str, ...] = (*COLOR_ENCODINGS, *BAYER_ENCODINGS, *YUV_ENCODINGS)
    depth_encodings: tuple[str, ...] = tuple(DEPTH_ENCODINGS)


@dataclass(frozen=True)
class Observations:
    """Everything seen of one graph, bag or node.

    Attributes:
        source: ``graph``, ``bag`` or ``node`` (the node looks at itself).
        window_s: For how long was looked, seconds; of a bag, its length.
        topics: By role.
        edges: The transforms.
        pose: The topic of poses; None where nothing came or none is used.
        clock: The topic ``/clock``.
        node: perception_node; None where there is none (always for a bag).
        settings: What the node needs.
        transports: One for each process whose environment is known.
        other_nodes: Nodes in sight besides the observer; None where there is no graph.
        domain: ROS_DOMAIN_ID and discovery range in words, for texts.
        offered: Topics in sight by message type, to name likely candidates.
    """

    source: str
    window_s: float
    topics: Mapping[str, TopicObservation] = field(default_factory=dict)
    edges: tuple[EdgeObservation, ...] = ()
    pose: PoseObservation | None = None
    clock: ClockObservation = field(default_factory=ClockObservation)
    node: NodeState | None = None
    settings: Settings = field(default_factory=Settings)
    transports: tuple[Transport, ...] = ()
    other_nodes: int | None = None
    domain: str = ""
    offered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether what has not come yet is missing: nodes find each other and streams begin within a moment."""
        return self.source == "bag" or self.window_s >= SETTLING_S

    def cameras(self) -> list[str]:
        """Prefixes of the cameras: ``""`` for a single one, else ``"left/"`` and so on."""
        return [role.removesuffix("depth/image") for role in self.topics if role.endswith("depth/image")]


def in_order(names: Mapping[str, str]) -> dict[str, str]:
    """Names of inputs by role, camera by camera in the order of :data:`CAMERA_ROLES`, the others last."""
    prefixes = list(dict.fromkeys(role.removesuffix(part) for role in names for part in CAMERA_ROLES if role.endswith(part)))
    roles = [prefix + part for prefix in prefixes for part in CAMERA_ROLES]
    return {role: names[role] for role in (*(r for r in roles if r in names), *(r for r in names if r not in roles))}


def role_kinds(role: str) -> tuple[str, ...]:
    """Message types that an input of this role may have."""
    if role.endswith("camera_info"):
        return (CAMERA_INFO,)
    if role.endswith("image"):
        return (IMAGE, COMPRESSED)
    return {"tf": (TF_MESSAGE,), "tf_static": (TF_MESSAGE,), "pose": (POSE,), "odom": (ODOMETRY,)}[role]
