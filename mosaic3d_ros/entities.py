"""Topics, services and timers that end together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node


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
        made = self.node.create_publisher(*arguments, **options)
        self._destroy.append(lambda: self.node.destroy_publisher(made))
        return made

    def create_subscription(self, *arguments: Any, **options: Any) -> Any:
        """As ``Node.create_subscription``."""
        made = self.node.create_subscription(*arguments, **options)
        self._destroy.append(lambda: self.node.destroy_subscription(made))
        return made

    def create_service(self, *arguments: Any, **options: Any) -> Any:
        """As ``Node.create_service``."""
        made = self.node.create_service(*arguments, **options)
        self._destroy.append(lambda: self.node.destroy_service(made))
        return made

    def create_timer(self, *arguments: Any, **options: Any) -> Any:
        """As ``Node.create_timer``."""
        made = self.node.create_timer(*arguments, **options)
        self._destroy.append(lambda: self.node.destroy_timer(made))
        return made

    def resolve_topic_name(self, name: str) -> str:
        """As ``Node.resolve_topic_name``."""
        return str(self.node.resolve_topic_name(name))

    def destroy(self) -> None:
        """Take down all that was created here, the last first."""
        while self._destroy:
            self._destroy.pop()()
