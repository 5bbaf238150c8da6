"""A subscription whose quality of service follows what the publishers offer."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from mosaic3d_ros import qos
from mosaic3d_ros.distributions import SubscriptionEventCallbacks

_REMEMBERED_STAMPS = 256


class MatchedSubscription:
    """Becomes reliable when all publishers are, and best effort, which connects to every publisher, when one is not.

    A reliable subscription gets again what was lost on the way, but connects to reliable publishers only. The same holds for
    transient local: where all publishers keep their newest message (a calibration that is sent once), it is asked for.
    While one subscription takes over from another, both are there, and what comes twice is taken once.

    Args:
        node: Creates the subscription.
        kind: Message class; what has no header may be taken twice.
        topic: Name of the topic.
        taker: Called with each message.
        profile: To begin with.
        group: Callback group (mutually exclusive).
        fixed: The profile never changes.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        taker: Callable[[Any], None],
        profile: QoSProfile,
        group: CallbackGroup,
        fixed: bool = False,
    ) -> None:
        self._node = node
        self._kind = kind
        self._topic = topic
        self._taker = taker
        self._depth = profile.depth
        self._group = group
        self._fixed = fixed
        self._before: Subscription | None = None
        self._generation = 0
        self._heard = 0
        self._overlap = False
        self._stamps: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED_STAMPS)
        self._present = self._subscribe(profile)

    @property
    def profile(self) -> QoSProfile:
        """The profile in use."""
        return self._present.qos_profile

    def match(self) -> None:
        """Look at the publishers; to be called now and then from the callback group."""
        if self._fixed:
            return
        if self._overlap:
            self._overlap = False
            self._stamps.clear()
        offers = [end.qos_profile for end in self._node.get_publishers_info_by_topic(self._topic)]
        changed = bool(offers) and self._differs(offers)
        if self._before is None:
            if changed:
                self._before, self._present = self._present, self._subscribe(self._wanted(offers))
        elif changed:  # before the new one took over
            self._node.destroy_subscription(self._present)
            self._present, self._before = self._before, None
        elif self._heard == self._generation or not offers:
            self._node.destroy_subscription(self._before)
            self._before = None
            self._overlap = True  # what the old one took may still wait in the new one: compared until the next look

    def _wanted(self, offers: list[QoSProfile]) -> QoSProfile:
        wanted = qos.camera_in(self._depth, all(o.reliability == ReliabilityPolicy.RELIABLE for o in offers))
        if all(o.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offers):
            wanted.durability = DurabilityPolicy.TRANSIENT_LOCAL
        return wanted

    def _differs(self, offers: list[QoSProfile]) -> bool:
        wanted, now = self._wanted(offers), self.profile
        return (wanted.reliability, wanted.durability) != (now.reliability, now.durability)

    def destroy(self) -> None:
        """End the subscription."""
        for subscription in (self._before, self._present):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._before = None

    def _subscribe(self, profile: QoSProfile) -> Subscription:
        # Without event handlers: an executor that waits while one of those is destroyed ends with InvalidHandle (rclpy 9.1).
        self._generation += 1
        taker = functools.partial(self._take, self._generation)
        silent = SubscriptionEventCallbacks(use_default_callbacks=False)
        return self._node.create_subscription(
            self._kind, self._topic, taker, profile, callback_group=self._group, event_callbacks=silent
        )

    def _take(self, generation: int, message: Any) -> None:
        self._heard = max(self._heard, generation)
        header = getattr(message, "header", None)
        if header is not None:
            stamp = (header.stamp.sec, header.stamp.nanosec)
            if (self._overlap or self._before is not None) and stamp in self._stamps:
                return
            self._stamps.append(stamp)
        self._taker(message)
