"""Names that moved between ROS 2 distributions."""

from __future__ import annotations

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks  # from Iron on
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks  # type: ignore[no-redef]

__all__ = ["PublisherEventCallbacks", "SubscriptionEventCallbacks"]
