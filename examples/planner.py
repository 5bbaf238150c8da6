#!/usr/bin/env python3
"""A planner's side of the interface: asks for an object by words, then for a goal in front of it, and prints both.

    python examples/planner.py "the chair near the window" --robot-frame base_link
    python examples/planner.py sofa --ros-args -r __ns:=/robot1

Exit code: 0 with a goal, 1 when there is no such object or no free place, 2 when a service does not answer. docs/planner.md
explains it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any

import rclpy
from geometry_msgs.msg import PoseStamped
from mosaic3d_msgs.srv import QueryGoal, QueryObjects
from rclpy.node import Node
from rclpy.utilities import remove_ros_args


class NoAnswerError(RuntimeError):
    """A service is absent or silent."""


class Planner(Node):
    """Calls the two services, with a time limit.

    Args:
        timeout_s: Longest time to wait for a service to appear, and again for its reply.
    """

    def __init__(self, timeout_s: float) -> None:
        super().__init__("planner")
        self._timeout_s = timeout_s
        self._objects = self.create_client(QueryObjects, "query_objects")
        self._goals = self.create_client(QueryGoal, "query_goal")

    def find(self, text: str, robot_frame: str) -> QueryObjects.Response:
        """The objects that a text describes, in the map frame, best first."""
        return self._call(self._objects, QueryObjects.Request(texts=[text], viewpoint_frame=robot_frame))

    def goal(self, text: str, object_id: int, robot_frame: str, robot_radius: float) -> QueryGoal.Response:
        """Where to stand for one of them."""
        request = QueryGoal.Request(text=text, object_id=object_id, robot_frame=robot_frame, robot_radius=robot_radius)
        return self._call(self._goals, request)

    def _name_of(self, client: Any) -> str:
        return self.resolve_service_name(client.srv_name)

    def _call(self, client: Any, request: Any) -> Any:
        if not client.wait_for_service(self._timeout_s):
            raise NoAnswerError(
                f"Service {self._name_of(client)} did not appear within {self._timeout_s:g} s; is perception_node running, in"
                " this namespace and ROS_DOMAIN_ID?"
            )
        future = client.call_async(request)
        end = time.monotonic() + self._timeout_s
        while not future.done() and time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.1)
        if not future.done():
            raise NoAnswerError(f"Service {self._name_of(client)} did not reply within {self._timeout_s:g} s.")
        return future.result()


def describe(goal: PoseStamped) -> str:
    """A goal as text: frame, position in metres, heading in degrees."""
    place, turn = goal.pose.position, goal.pose.orientation
    yaw = math.atan2(2 * (turn.w * turn.z + turn.x * turn.y), 1 - 2 * (turn.y**2 + turn.z**2))
    return (
        f"goal frame: {goal.header.frame_id}\n"
        f"goal position: {place.x:.3f} {place.y:.3f} {place.z:.3f} m\n"
        f"goal heading: {math.degrees(yaw):.1f} degrees"
    )


def run(node: Planner, arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    found = node.find(arguments.text, arguments.robot_frame)
    if not found.success:
        print(found.message, file=sys.stderr)
        return 1
    print(f"understood: {found.understood[0]}")
    if not found.objects:
        print(f'Nothing fits "{arguments.text}": {found.message}', file=sys.stderr)
        return 1
    for thing in found.objects:
        place = thing.pose.position
        print(f"object {thing.id}: score {thing.score:.2f} at {place.x:.2f} {place.y:.2f} {place.z:.2f} m  {thing.reason}")
    reply = node.goal(arguments.text, 0, arguments.robot_frame, arguments.robot_radius)
    if not reply.success:
        print(reply.message, file=sys.stderr)
        return 1
    print(reply.message)
    print(describe(reply.goal))
    # A navigation stack takes it from here, for example Nav2: BasicNavigator().goToPose(reply.goal)
    return 0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Ask for an object by words and for a goal in front of it.")
    parser.add_argument("text", help='what to go to: "chair", "the lamp on the table", "nearest to me"')
    parser.add_argument("--robot-frame", default="", help="TF frame of the robot (default: unknown, the way is not checked)")
    parser.add_argument("--robot-radius", type=float, default=0.0, help="metres (default: that of the node)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for each service and reply (default: 10)")
    arguments = parser.parse_args(remove_ros_args(sys.argv)[1:])
    rclpy.init()
    node = Planner(arguments.timeout)
    try:
        return run(node, arguments)
    except NoAnswerError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
