"""Query services of a true map over Fast DDS, without the mapping node: the node's parts, and a client."""

from __future__ import annotations

import itertools
import os
import threading

import numpy as np
import rclpy
from mosaic3d_msgs.srv import QueryGoal, QueryObjects
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor

from mosaic3d_core.geometry.transform_buffer import TransformBuffer
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import QueryEngine
from mosaic3d_core.query.sources import instances_of
from mosaic3d_ros.goal_service import GoalService
from mosaic3d_ros.map_session import EncodedMap
from mosaic3d_ros.query_service import QueryService

from .conftest import wait_until

_NUMBERS = itertools.count()


def pose(x=0.0, y=0.0, z=0.0, yaw=0.0, pitch=0.0):
    """T_parent_child of a place, a heading and a tilt."""
    c, s, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    out = np.eye(4)
    out[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    out[:3, 3] = x, y, z
    return out


class Services:
    """Both services on one encoded map, and what they need."""

    def __init__(self, snapshot: MapSnapshot | None, checkpoint=None, decoder=""):
        self.encoded = None
        self.answers = []
        self.buffer = TransformBuffer()
        if snapshot is not None:
            encoder = SceneEncoder.from_checkpoint(checkpoint)
            features = encoder.encode(snapshot)
            self.engine = QueryEngine(get_text_encoder(encoder.text_encoder_name))
            self.encoded = EncodedMap(features, instances_of(features, self.engine, decoder))
        self.queries = QueryService(lambda: self.engine, lambda: self.encoded, self.buffer, "map", self.answers.append)
        self.goals = GoalService(lambda: self.engine, lambda: self.encoded, self.buffer, "map")


class Served:
    """The services in a node of their own, and a client in another context."""

    def __init__(self, services: Services):
        self.services = services
        self.contexts = [Context(), Context()]
        for context in self.contexts:
            rclpy.init(args=[], context=context)
        # a namespace of its own: other processes of this domain may serve the same names
        self.namespace = f"/served_{os.getpid()}_{next(_NUMBERS)}"
        self.host = rclpy.create_node("served_room", namespace=self.namespace, context=self.contexts[0])
        group = ReentrantCallbackGroup()
        self.host.create_service(QueryObjects, "query_objects", services.queries.handle, callback_group=group)
        self.host.create_service(QueryGoal, "query_goal", services.goals.handle, callback_group=group)
        self.executor = MultiThreadedExecutor(2, context=self.contexts[0])
        self.executor.add_node(self.host)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()
        self.robot = rclpy.create_node("robot", namespace=self.namespace, context=self.contexts[1])
        self.spinner = SingleThreadedExecutor(context=self.contexts[1])
        self.spinner.add_node(self.robot)
        self.clients = {name: self.robot.create_client(kind, name) for kind, name in
                        ((QueryObjects, "query_objects"), (QueryGoal, "query_goal"))}  # fmt: skip
        for client in self.clients.values():
            assert client.wait_for_service(30.0)

    def call(self, name, request):
        future = self.clients[name].call_async(request)
        wait_until(future.done, lambda: self.spinner.spin_once(timeout_sec=0.1), 60.0, f"a reply of {name}")
        return future.result()

    def ask(self, *texts, **fields):
        return self.call("query_objects", QueryObjects.Request(texts=list(texts), **fields))

    def goal(self, text="", **fields):
        return self.call("query_goal", QueryGoal.Request(text=text, **fields))

    def close(self):
        self.executor.shutdown()
        self.thread.join(10.0)
        self.spinner.shutdown()
        self.host.destroy_node()
        self.robot.destroy_node()
        for context in self.contexts:
            rclpy.try_shutdown(context=context)
