"""A camera driver with faults, and a node with the inputs, parameters and diagnostics of perception_node but without a model."""

import threading
from dataclasses import dataclass, field, replace

import numpy as np
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import parameters, qos
from mosaic3d_ros.diagnostics import DiagnosticsPublisher
from mosaic3d_ros.doctor import graph
from mosaic3d_ros.self_check import NodeFacts, SelfCheck, settings_from

CAMERA = PinholeCamera(130.0, 130.0, 79.5, 59.5, 160, 120)
RATE_HZ = 20.0
INPUTS = {"rgb/image": Image, "depth/image": Image, "rgb/camera_info": CameraInfo, "depth/camera_info": CameraInfo}
BEST_EFFORT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


@dataclass
class Faults:
    """What the camera does wrong; nothing by default."""

    absent: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    best_effort: tuple[str, ...] = ()
    depth_encoding: str = "16UC1"
    depth_value: int = 1500
    info_fx: float = 130.0
    info_width: int = 160
    info_frame: str = "camera"
    frame: str = "camera"
    color_shift_s: float = 0.0
    all_shift_s: float = 0.0
    zero_stamps: bool = False
    edges: tuple[tuple[str, str, float], ...] = (("map", "base", 0.0), ("base", "camera", 0.0))  # parent, child, age in s
    clock: bool = False
    nan_tf: bool = False
    names: dict[str, str] = field(default_factory=dict)  # role -> topic


class FaultyCamera(Node):
    """Publishes RGB-D and TF at 20 Hz."""

    def __init__(self, faults, namespace=""):
        super().__init__("camera_driver", namespace=namespace)
        self.faults = faults
        self.out = {
            role: self.create_publisher(
                kind, faults.names.get(role, role), BEST_EFFORT if role in faults.best_effort else qos.CAMERA_OUT
            )
            for role, kind in INPUTS.items()
            if role not in faults.absent
        }
        self.tf = self.create_publisher(TFMessage, "/tf", qos.TF) if faults.edges else None
        self.clock = self.create_publisher(Clock, "/clock", qos.CAMERA_OUT) if faults.clock else None
        self.create_timer(1.0 / RATE_HZ, self.send)

    def send(self):
        faults, now = self.faults, self.get_clock().now().nanoseconds
        stamp = 0 if faults.zero_stamps else now + round(faults.all_shift_s * 1e9)
        header = convert.make_header(faults.frame, stamp)
        depth = convert.depth_message(np.full((120, 160), faults.depth_value / 1000, np.float32), header)
        depth.encoding = faults.depth_encoding
        info = convert.camera_info_message(CAMERA, convert.make_header(faults.info_frame, stamp))
        info.width = faults.info_width
        if faults.info_fx == 0.0:
            info.k, info.p = [0.0] * 9, [0.0] * 12
        color_header = convert.make_header(faults.frame, 0 if faults.zero_stamps else stamp + round(faults.color_shift_s * 1e9))
        color = convert.color_message(np.zeros((120, 160, 3), np.uint8), color_header)
        for role, message in (
            ("depth/camera_info", info), ("rgb/camera_info", info), ("rgb/image", color), ("depth/image", depth)
        ):  # fmt: skip
            if role in self.out and role not in faults.silent:
                self.out[role].publish(message)
        if self.clock:
            self.clock.publish(Clock(clock=convert.ns_to_stamp(now)))
        if self.tf:
            self.tf.publish(TFMessage(transforms=[self._transform(*edge, now) for edge in faults.edges]))

    def _transform(self, parent, child, age_s, now):
        item = TransformStamped(header=convert.make_header(parent, now - round(age_s * 1e9)), child_frame_id=child)
        item.transform.rotation.w = 1.0
        item.transform.translation.x = float("nan") if self.faults.nan_tf else 0.0
        return item


class StandIn(Node):
    """Subscribes, counts, checks itself and publishes diagnostics as perception_node does; every image counts as fused."""

    def __init__(self, reliable=False, facts=None, namespace="", name="perception_node", **values):
        overrides = [Parameter(key, value=value) for key, value in values.items()]
        super().__init__(name, namespace=namespace, parameter_overrides=overrides)
        self.values = parameters.declare(self, parameters.perception_specs())
        self.facts = NodeFacts(device="cpu", map_voxels=10, generation=2, encoded_generation=1, encode_ms=12.5)
        self.given_facts = facts or {}
        self.received, self.fused = {}, 0
        names = {role: self.resolve_topic_name(role) for role in INPUTS} | {"tf": "/tf", "tf_static": "/tf_static"}
        sim = self.get_parameter("use_sim_time").value
        self.check = SelfCheck(
            self.get_fully_qualified_name(),
            names,
            settings_from(self.values, sim),
            self.current_facts,
            lambda topic: graph.publishers_of(self, topic),
            lambda: self.get_clock().now().nanoseconds,
            lambda topic: graph.subscriptions_of(self, topic, self.get_fully_qualified_name()),
            window_s=2.0,
        )
        profile = qos.camera_in(10, reliable)
        for role, kind in INPUTS.items():
            self.create_subscription(kind, role, self.check.watch(role, self._taker(role)), profile)
        self.create_subscription(TFMessage, "/tf", self.check.watch("tf", lambda _message: None), qos.TF)
        self.create_subscription(TFMessage, "/tf_static", self.check.watch("tf_static", lambda _message: None), qos.TF_STATIC)
        self.diagnostics = DiagnosticsPublisher(self, self.check, period_s=0.2)

    def _taker(self, role):
        def take(_message):
            self.received[role] = self.received.get(role, 0) + 1
            self.fused += role == "depth/image"

        return take

    def current_facts(self):
        return replace(self.facts, **{"received": dict(self.received), "fused": self.fused, **self.given_facts})


class Graph:
    """Nodes that spin in the background."""

    def __init__(self):
        self.nodes = []

    def add(self, node):
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def _spin(self):
        while not self.stopping.is_set():
            self.executor.spin_once(timeout_sec=0.05)

    def __enter__(self):
        rclpy.init(args=[])
        self.executor = SingleThreadedExecutor()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_error):
        self.stopping.set()  # first the thread, then the executor: callbacks that still run need it
        self.thread.join(10.0)
        self.executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
        rclpy.try_shutdown()
