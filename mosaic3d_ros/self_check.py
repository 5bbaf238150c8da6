"""perception_node looks at itself: the checks of ``mosaic3d doctor`` on what the node sees anyway."""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mosaic3d_core.doctor import Finding, Observations, Recorder, Settings, examine, transport_of
from mosaic3d_core.doctor.check_setup import check_transport
from mosaic3d_core.doctor.observations import Endpoint, NodeState, TopicObservation, Transport, in_order
from mosaic3d_core.doctor.self_report import since

Taker = Callable[[Any], Any]
Watch = Callable[[str, Taker], Taker]
"""Makes a taker of messages of a role into one that is watched, as :meth:`SelfCheck.watch`."""

_NAMED = 5
_FAILURE_S = 10.0
"""A failure of a thread is told for this long."""

_ON_PURPOSE = {"node_paused"}
"""What the node was told to do needs no warning."""


@dataclass(frozen=True)
class NodeFacts:
    """What only the node knows of itself, at one moment.

    Attributes:
        lifecycle: State of a lifecycle node.
        model_loaded: The encoder is ready.
        paused: Fusion is paused.
        received: Messages since the start by role of the input.
        fused: Frames fused since the start.
        dropped: Frames dropped since the start by reason.
        map_voxels: Size of the map.
        generation: Generation of the map.
        encoded_generation: Generation of its newest encoding; None before the first.
        encode_ms: How long that took; None before the first.
        device: Where the encoder runs.
        last_error: Why the node could not be configured; empty when it could. What fails later goes to
            :meth:`SelfCheck.note_failure`.
    """

    lifecycle: str = "active"
    model_loaded: bool = True
    paused: bool = False
    received: Mapping[str, int] = field(default_factory=dict)
    fused: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    map_voxels: int = 0
    generation: int = 0
    encoded_generation: int | None = None
    encode_ms: float | None = None
    device: str = ""
    last_error: str = ""


class SelfCheck:
    """Records the inputs of the node and applies the doctor's checks to them. Thread-safe.

    Args:
        name: Full name of the node.
        topics: Resolved name of each input by role.
        settings: What the node needs, see :func:`settings_from`.
        facts: Asks the node; called at each look.
        publishers: Publishers of a resolved topic name (``graph.publishers_of``).
        now_ns: The node's clock.
        subscriptions: The node's own subscriptions to a resolved topic name (``graph.subscriptions_of``).
        window_s: How far back a look goes, seconds.
        clock_s: A clock that never jumps; for tests.
        transport: Shared memory of this process; None reads the environment.
    """

    def __init__(
        self,
        name: str,
        topics: Mapping[str, str],
        settings: Settings,
        facts: Callable[[], NodeFacts],
        publishers: Callable[[str], Sequence[Endpoint]],
        now_ns: Callable[[], int],
        subscriptions: Callable[[str], Sequence[Endpoint]] = lambda _topic: (),
        window_s: float = 5.0,
        clock_s: Callable[[], float] = time.monotonic,
        transport: Transport | None = None,
    ) -> None:
        self.name = name
        self.topics = in_order(topics)
        self.settings = settings
        self.facts = facts
        self.transport = transport or transport_of(process=name)
        self._publishers = publishers
        self._now_ns = now_ns
        self._subscriptions = subscriptions
        self._window_s = window_s
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._recorder = Recorder(window_s)
        self._last_drop = ""
        self._failure, self._failure_s = "", -math.inf
        self.restart()

    def restart(self, topics: Mapping[str, str] | None = None, settings: Settings | None = None) -> None:
        """Forget what came from cameras: the node subscribes anew. Transforms stay, static ones come only once.

        Args:
            topics: Resolved name of each input by role from now on; None = as before.
            settings: What the node needs from now on; None = as before.
        """
        with self._lock:
            self.topics = self.topics if topics is None else in_order(topics)
            self.settings = settings or self.settings
            self._recorder.forget_topics()
            self._states: deque[tuple[float, NodeState]] = deque([(self._clock_s(), self._state(self.facts()))])

    def watch(self, role: str, take: Taker) -> Taker:
        """A callback that records each message before it hands it on.

        Args:
            role: Role of the input, see :mod:`mosaic3d_core.doctor.observations`.
            take: What is to be done with the message.
        """

        @functools.wraps(take)
        def see_and_take(message: Any) -> Any:
            self.see(role, message)
            return take(message)

        return see_and_take

    def see(self, role: str, message: Any) -> None:
        """Record a message of an input."""
        self._recorder.see(role, message, self._clock_s(), self._now_ns())

    def note_drop(self, text: str) -> None:
        """Remember why a frame was dropped, in a sentence."""
        self._last_drop = text

    def note_failure(self, error: BaseException) -> None:
        """Remember an unexpected error of a thread."""
        self._failure, self._failure_s = f"{type(error).__name__}: {error}", self._clock_s()

    def look(self) -> Observations:
        """What was seen in the last ``window_s`` seconds."""
        now_s = self._clock_s()
        state, earlier_s = self._state_in_window(now_s)
        window_s = min(now_s - earlier_s, self._window_s)
        topics: dict[str, TopicObservation] = {}
        if state.lifecycle == "active":
            topics = {
                role: replace(
                    topic,
                    publishers=tuple(self._publishers(topic.name)),
                    subscriptions=tuple(self._subscriptions(topic.name)),
                )
                for role, topic in self._recorder.topics(self.topics, now_s, window_s).items()
            }
        return Observations(
            source="node",
            window_s=window_s,
            topics=topics,
            edges=self._recorder.edges(),
            pose=self._recorder.pose(),
            clock=self._recorder.clock(len(self._publishers("/clock"))),
            node=state,
            settings=self.settings,
            transports=(self.transport,),
        )

    def findings(self) -> tuple[Finding, ...]:
        """What is missing or does not match now."""
        return examine(self.look())

    def warning(self) -> str | None:
        """The first cause in words, and how much else there is; None when all is well."""
        findings = [finding for finding in self.findings() if finding.code not in _ON_PURPOSE]
        if not findings:
            return None
        first, others = findings[0], len(findings) - 1
        names = ", ".join(f"{f.code} {f.subject}" for f in findings[1:_NAMED]) + (", ..." if others >= _NAMED else "")
        more = f" ({others} more: {names}; see /diagnostics)" if others else ""
        return f"{first.problem} {first.remedy} [{first.code}]{more}"

    def _state_in_window(self, now_s: float) -> tuple[NodeState, float]:
        """The node's state with its counts in the window, and when that window began."""
        now = self._state(self.facts())
        with self._lock:
            while len(self._states) > 1 and self._states[1][0] <= now_s - self._window_s:
                self._states.popleft()
            earlier_s, earlier = self._states[0]
            if now_s > self._states[-1][0]:
                self._states.append((now_s, now))
        return since(earlier, now), earlier_s

    def _state(self, facts: NodeFacts) -> NodeState:
        received = sum(count for role, count in facts.received.items() if role.endswith("depth/image"))
        return NodeState(
            self.name,
            lifecycle=facts.lifecycle,
            model_loaded=facts.model_loaded,
            paused=facts.paused,
            received=received,
            fused=facts.fused,
            dropped=dict(facts.dropped),
            last_drop=self._last_drop,
            last_error=facts.last_error or (self._failure if self._clock_s() - self._failure_s < _FAILURE_S else ""),
        )


def unwatched(_role: str, take: Taker) -> Taker:
    """A :data:`Watch` that leaves takers alone."""
    return take


def settings_from(values: Mapping[str, Any], use_sim_time: bool | None = None) -> Settings:
    """Settings for the checks from parameters of perception_node; those that are missing keep their defaults.

    Args:
        values: Parameter values by name.
        use_sim_time: Whether the node takes its time from ``/clock``, where that is not among them.
    """
    names = {entry.name for entry in fields(Settings)}
    known = {name: value for name, value in values.items() if name in names}
    known.setdefault("use_sim_time", use_sim_time)
    # A parameter cannot be an empty list: [0.0] means that it is not set.
    return Settings(**known, has_extrinsics=len(values.get("T_color_depth", ())) > 1)


def transport_warning() -> str | None:
    """A sentence when large messages may be lost for want of a Fast DDS profile in this process, else None."""
    seen = Observations(source="node", window_s=0.0, transports=(transport_of(process=f"process {os.getpid()}"),))
    return next((f"{finding.problem} {finding.remedy}" for finding in check_transport(seen)), None)
