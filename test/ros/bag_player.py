"""Plays a bag over DDS with the arguments of `ros2 bag play` that perception.launch.py uses, and no others.

A stand-in for rosbag2, which does not come as a wheel: a process of its own that publishes the recorded bytes as they are, at
their times, with the recorded QoS. One argument is its own: ``--wait-for TOPIC`` starts when the topic has a subscriber, so that
tests lose no message.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

import rclpy
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock


def _message_class(name: str) -> type:
    package, kind, message = name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), message)


def _profile(connection) -> QoSProfile:
    recorded = connection.ext.offered_qos_profiles
    latched = bool(recorded) and recorded[0].durability.name == "TRANSIENT_LOCAL"
    reliable = not recorded or recorded[0].reliability.name != "BEST_EFFORT"
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=100,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


class Player:
    """See the module."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.node = rclpy.create_node("bag_player")
        self.reader = AnyReader([Path(arguments.bag)])
        self.reader.open()
        self.out = {
            connection.topic: self.node.create_publisher(
                _message_class(connection.msgtype), connection.topic, _profile(connection)
            )
            for connection in self.reader.connections
        }
        self.clock = self.node.create_publisher(Clock, "/clock", 10) if arguments.clock else None
        self.next_tick_ns = 0

    def tick(self, time_ns: int) -> None:
        """Publish /clock at the wanted rate of bag time."""
        if self.clock is None:
            return
        period = round(1e9 / self.arguments.clock)
        if not 0 <= self.next_tick_ns - time_ns <= period:
            self.next_tick_ns = time_ns
        if time_ns >= self.next_tick_ns:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(time_ns, 10**9)
            self.clock.publish(message)
            self.next_tick_ns += period

    def play(self) -> None:
        """One round."""
        time.sleep(self.arguments.delay)
        first = None
        for connection, time_ns, raw in self.reader.messages():
            if first is None:
                first, began = time_ns, time.monotonic()
            wait = (time_ns - first) * 1e-9 / self.arguments.rate - (time.monotonic() - began)
            if wait > 0:
                time.sleep(wait)
            self.tick(time_ns)
            self.out[connection.topic].publish(raw)

    def wait_for(self, topic: str) -> None:
        """Return once somebody listens to a topic."""
        while not self.out[topic].get_subscription_count():
            time.sleep(0.02)

    def finish(self) -> None:
        """What is on its way must arrive before the process ends."""
        for publisher in self.out.values():
            publisher.wait_for_all_acked(Duration(seconds=5.0))


def main() -> None:
    """Command line as that of `ros2 bag play`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bag")
    parser.add_argument("--clock", type=float, nargs="?", const=40.0, default=0.0)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--disable-keyboard-controls", action="store_true")
    parser.add_argument("--qos-profile-overrides-path")
    parser.add_argument("--wait-for-all-acked", type=int, default=-1)
    parser.add_argument("--wait-for", action="append", default=[])
    arguments = parser.parse_args()
    rclpy.init(args=[])
    player = Player(arguments)
    try:
        for topic in arguments.wait_for:
            player.wait_for(topic)
        player.play()
        while arguments.loop:
            player.play()
        player.finish()
    except KeyboardInterrupt:
        pass
    finally:
        player.node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
