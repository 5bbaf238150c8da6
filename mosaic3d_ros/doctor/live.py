"""Watches a live graph for some seconds and returns observations. It only subscribes and asks, it changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.srv import GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from mosaic3d_core.doctor.observations import (
    CAMERA_INFO,
    CAMERA_ROLES,
    COMPRESSED,
    IMAGE,
    ODOMETRY,
    POSE,
    TF_MESSAGE,
    NodeState,
    Observations,
    Settings,
    TopicObservation,
    Transport,
    role_kinds,
)
from mosaic3d_core.doctor.recorder import Recorder, stamp_of
from mosaic3d_core.doctor.self_report import SelfReport, read_report, since
from mosaic3d_ros.doctor import graph
from mosaic3d_ros.self_check import settings_from

Found = TypeVar("Found")

_MESSAGES = {
    IMAGE: Image,
    COMPRESSED: CompressedImage,
    CAMERA_INFO: CameraInfo,
    TF_MESSAGE: TFMessage,
    POSE: PoseStamped,
    ODOMETRY: Odometry,
}
_ANY = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Connects to every publisher, so that what arrives here does not depend on quality of service."""
_ANY_LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
_ANSWER_S = 2.0
_SETTINGS = (
    "map_frame",
    "pose_source",
    "pose_child_frame",
    "T_color_depth",
    "images_are",
    "sync_slop_s",
    "pose_timeout_s",
    "pose_max_gap_s",
    "use_sim_time",
)


class SeveralNodesError(ValueError):
    """More than one perception_node runs and none was chosen."""


@dataclass(frozen=True)
class Wanted:
    """What a user asked for.

    Attributes:
        node: Name of the node; None = whichever perception_node runs.
        namespace: Its namespace; None = any.
        names: Topics by role that stand in for the node's.
        settings: Changes settings of the node by what was given.
        seconds: How long to watch.
    """

    node: str | None
    namespace: str | None
    names: Mapping[str, str]
    settings: Callable[[Settings], Settings]
    seconds: float


class LiveObserver:
    """Observes through a node of its own.

    Args:
        node: Node to subscribe with; it is not added to any executor yet.
        transport: Shared memory of the terminal; told where that of perception_node is not known.
        discovery_s: Shortest and longest time in which perception_node must come into sight, seconds. Nodes appear one after the
            other: whether there are several is known only after a while.
    """

    def __init__(self, node: Node, transport: Transport, discovery_s: tuple[float, float] = (1.0, 6.0)) -> None:
        self._node = node
        self._transport = transport
        self._discovery_s = discovery_s
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._recorder = Recorder()
        self._diagnostics: dict[str, dict[str, str]] = {}
        self._clock_ns: int | None = None
        self._uses_sim_time = False
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        node.create_subscription(Clock, "/clock", self._on_clock, _ANY)

    def close(self) -> None:
        """End the executor; the node is the caller's."""
        self._executor.shutdown()

    def observe(self, wanted: Wanted) -> Observations:
        """Find the node, ask it, and watch its inputs.

        Raises:
            SeveralNodesError: With their names.
        """
        name = self._find(wanted)
        report, settings = (None, Settings()) if name is None else self._interview(name)
        settings = wanted.settings(settings)
        self._uses_sim_time = bool(settings.use_sim_time)
        names = self._names(name, report, wanted, settings)
        for role, topic in names.items():
            self._subscribe(role, topic, name)
        start_s = time.monotonic()
        self._spin(wanted.seconds)
        window_s = time.monotonic() - start_s
        topics = self._recorder.topics(names, time.monotonic(), window_s)
        return Observations(
            source="graph",
            window_s=window_s,
            topics={role: self._with_endpoints(topic, name) for role, topic in topics.items()},
            edges=self._recorder.edges(),
            pose=self._recorder.pose(),
            clock=self._recorder.clock(self._node.count_publishers("/clock")),
            node=None if report is None else self._state(report),
            settings=settings,
            transports=(self._transport if report is None or report.transport is None else report.transport,),
            other_nodes=len(graph.other_nodes(self._node)),
            domain=graph.domain_text(),
            offered=graph.offered_topics(self._node),
        )

    # Finding and asking the node ----------------------------------------------------------------------------

    def _find(self, wanted: Wanted) -> str | None:
        start_s = time.monotonic()

        def found() -> list[str]:
            enough = time.monotonic() - start_s >= self._discovery_s[0]
            return graph.perception_nodes(self._node, wanted.node, wanted.namespace) if enough else []

        names = self._until(found, self._discovery_s[1]) or []
        if len(names) > 1:
            raise SeveralNodesError(
                f"{len(names)} perception nodes run ({', '.join(names)}): choose one with --node or --namespace"
            )
        return names[0] if names else None

    def _interview(self, name: str) -> tuple[SelfReport, Settings]:
        request = GetParameters.Request(names=list(_SETTINGS))
        reply = self._ask(GetParameters, f"{name}/get_parameters", request)
        settings = Settings()
        if reply is not None:
            values = {key: parameter_value_to_python(value) for key, value in zip(_SETTINGS, reply.values)}
            settings = settings_from({key: value for key, value in values.items() if value is not None})
        state = self._ask(GetState, f"{name}/get_state", GetState.Request())
        self._until(lambda: name in self._diagnostics, _ANSWER_S)
        report = read_report(name, self._diagnostics.get(name, {}))
        lifecycle = (state.current_state.label if state else "") or report.state.lifecycle
        return replace(report, state=replace(report.state, responds=reply is not None, lifecycle=lifecycle)), settings

    def _ask(self, kind: Any, service: str, request: Any) -> Any:
        """Reply of a service; None where there is none or no answer comes."""
        if service not in {name for name, _ in self._node.get_service_names_and_types()}:
            return None
        client: Any = self._node.create_client(kind, service)
        try:
            if not self._until(client.service_is_ready, _ANSWER_S):
                return None
            future = client.call_async(request)
            return future.result() if self._until(future.done, _ANSWER_S) else None
        finally:
            self._node.destroy_client(client)

    def _state(self, report: SelfReport) -> NodeState:
        """State at the end, with the counts between the first report and the last."""
        name = report.state.name
        later = read_report(name, self._diagnostics.get(name, {})).state
        return replace(since(report.state, later), responds=report.state.responds, lifecycle=report.state.lifecycle)

    # Watching -----------------------------------------------------------------------------------------------

    def _names(self, name: str | None, report: SelfReport | None, wanted: Wanted, settings: Settings) -> dict[str, str]:
        known = dict(report.topics) if report is not None else {}
        if name is not None and not known:
            known = graph.guess_inputs(self._node, name)
        space = (wanted.namespace or "").strip("/") if name is None else name.rpartition("/")[0].strip("/")
        prefix = f"/{space}" if space else ""
        seen = [role.removesuffix(part) for role in known for part in CAMERA_ROLES if role.endswith(part)]
        roles = [before + part for before in dict.fromkeys(seen or [""]) for part in CAMERA_ROLES]
        if settings.pose_source in ("pose", "odom"):
            roles.append(settings.pose_source)
        names = {role: known.get(role, f"{prefix}/{role}") for role in roles}
        for role, topic in wanted.names.items():
            names[role] = topic if topic.startswith("/") else f"{prefix}/{topic}"
        return {**names, "tf": known.get("tf", "/tf"), "tf_static": known.get("tf_static", "/tf_static")}

    def _subscribe(self, role: str, topic: str, owner: str | None) -> None:
        ends = graph.publishers_of(self._node, topic) + (graph.subscriptions_of(self._node, topic, owner) if owner else ())
        kind = next((end.kind for end in ends if end.kind in role_kinds(role)), role_kinds(role)[0])
        profile = _ANY_LATCHED if role == "tf_static" else _ANY

        def take(message: Any) -> None:
            now_ns = self._clock_ns if self._uses_sim_time else time.time_ns()
            self._recorder.see(role, message, time.monotonic(), now_ns)

        self._node.create_subscription(_MESSAGES[kind], topic, take, profile)

    def _with_endpoints(self, topic: TopicObservation, owner: str | None) -> TopicObservation:
        subscriptions = () if owner is None else graph.subscriptions_of(self._node, topic.name, owner)
        return replace(topic, publishers=graph.publishers_of(self._node, topic.name), subscriptions=subscriptions)

    def _on_clock(self, message: Clock) -> None:
        self._clock_ns = stamp_of(_ClockHeader(message.clock))
        self._recorder.see_clock(self._clock_ns, time.monotonic())

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            owner, _, _ = status.name.partition(":")
            values = self._diagnostics.setdefault("/" + owner.lstrip("/"), {})
            values.update({item.key: item.value for item in status.values})

    def _spin(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (rest_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(rest_s, 0.2))

    def _until(self, condition: Callable[[], Found], timeout_s: float) -> Found | None:
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            result = condition()
            if result:
                return result
            self._executor.spin_once(timeout_sec=0.05)
        return None


@dataclass(frozen=True)
class _ClockHeader:
    stamp: Any
