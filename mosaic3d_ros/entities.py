"""Topics, services and timers that end together."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from mosaic3d_ros import qos
from mosaic3d_ros.distributions import PublisherEventCallbacks, SubscriptionEventCallbacks


class Entities:
    """Creates entities of a node and takes them down again, which a node does on its own only when it dies.

    Args:
        node: Owner of the entities.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self._destroy: list[Callable[[], object]] = []

    def create_publisher(self, *arguments: Any, **options: Any) -> Any:
        """As ``Node.create_publisher``."""
        options.setdefault("event_callbacks", PublisherEventCallbacks(use_default_callbacks=False))
        made = self.node.create_publisher(*arguments, **options)
        self._destroy.append(lambda: self.node.destroy_publisher(made))
        return made

    def create_subscription(self, *arguments: Any, **options: Any) -> Any:
        """As ``Node.create_subscription``, without rclpy's default event handlers: they can outlive it, and end the executor."""
        options.setdefault("event_callbacks", SubscriptionEventCallbacks(use_default_callbacks=False))
        made = self.node.create_subscription(*arguments, **options)
        self._destroy.append(lambda: self.node.destroy_subscription(made))
        return made

    def create_service(self, kind: Any, name: str, handle: Callable[[Any, Any], Any], **options: Any) -> Any:
        """As ``Node.create_service``, for services whose reply has ``success`` and ``message``.

        An error of the handler, which would leave the client without a reply, becomes a reply that says so.
        """
        guarded = functools.partial(self._guarded, name, handle)
        made = self.node.create_service(kind, name, guarded, qos_profile=qos.SERVICE, **options)
        self._destroy.append(lambda: self.node.destroy_service(made))
        return made

    def create_timer(self, *arguments: Any, **options: Any) -> Any:
        """As ``Node.create_timer``, but by a clock that goes on where simulated time stands still: at the end of a bag."""
        options.setdefault("clock", Clock(clock_type=ClockType.STEADY_TIME))
        made = self.node.create_timer(*arguments, **options)
        self._destroy.append(lambda: self.node.destroy_timer(made))
        return made

    def _guarded(self, name: str, handle: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
        try:
            return handle(request, response)
        except Exception as error:
            self.node.get_logger().error(f"Service {name} failed:\n{traceback.format_exc()}")
            blank = type(response)()
            blank.success = False
            blank.message = (
                f"The node failed to answer ({type(error).__name__}: {error}); its log says where. This is a fault of the node."
            )
            return blank

    def resolve_topic_name(self, name: str) -> str:
        """As ``Node.resolve_topic_name``."""
        return str(self.node.resolve_topic_name(name))

    def destroy(self) -> None:
        """Take down all that was created here, the last first."""
        while self._destroy:
            self._destroy.pop()()
