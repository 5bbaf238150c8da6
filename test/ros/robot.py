"""A robot for tests: camera driver and client in one, on a node of its own."""

import json
import time

import numpy as np
import rclpy
import rclpy.context
from geometry_msgs.msg import TransformStamped
from mosaic3d_msgs.srv import QueryObjects
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import qos

from .conftest import wait_until

CAMERA = PinholeCamera(130.0, 130.0, 79.5, 59.5, 160, 120)


class Robot:
    """A camera driver and a client in one; in a namespace, with transforms of its own, if there are several."""

    def __init__(self, namespace=""):
        self.context = rclpy.context.Context()
        rclpy.init(args=[], context=self.context)
        self.node = rclpy.create_node("robot", namespace=namespace, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.progress = {"fused": 0, "dropped": {}}
        self.node.create_subscription(String, "perception_node/progress", self._on_progress, qos.LATCHED)
        kinds = {"rgb/image": Image, "depth/image": Image, "rgb/camera_info": CameraInfo, "depth/camera_info": CameraInfo}
        self.out = {topic: self.node.create_publisher(kind, topic, qos.CAMERA_OUT) for topic, kind in kinds.items()}
        self.tf = self.node.create_publisher(TFMessage, "tf" if namespace else "/tf", qos.TF)
        self.clients = {}

    def _on_progress(self, message):
        self.progress = json.loads(message.data)

    def spin(self, seconds=0.1):
        self.executor.spin_once(timeout_sec=seconds)

    def connected(self):
        return all(publisher.get_subscription_count() for publisher in [*self.out.values(), self.tf])

    def call(self, kind, name, request):
        client = self.clients.get(name) or self.clients.setdefault(name, self.node.create_client(kind, name))
        assert client.wait_for_service(60.0), f"no service {name}"
        future = client.call_async(request)
        wait_until(future.done, self.spin, 60.0, f"a reply of {name}")
        return future.result()

    def ask(self, *texts, **fields):
        return self.call(QueryObjects, "query_objects", QueryObjects.Request(texts=list(texts), **fields))

    def send_frame(self, encoding="16UC1", camera=CAMERA, pose=True):
        """A floor with a box, seen from above."""
        stamp = self.node.get_clock().now().nanoseconds
        header = convert.make_header("camera", stamp)
        depth = np.full((120, 160), 1.5, np.float32)
        depth[40:80, 60:100] = 1.1
        color = np.full((120, 160, 3), 120, np.uint8)
        color[40:80, 60:100] = (200, 30, 30)
        if pose:
            looking_down = np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1.5], [0, 0, 0, 1]], np.float64)
            message = TFMessage()
            transform = TransformStamped(header=convert.make_header("map", stamp), child_frame_id="camera")
            transform.transform = convert.transform_from_matrix(looking_down)
            message.transforms.append(transform)
            self.tf.publish(message)
        info = convert.camera_info_message(camera, header)
        self.out["depth/camera_info"].publish(info)
        self.out["rgb/camera_info"].publish(info)
        self.out["rgb/image"].publish(convert.color_message(color, header))
        message = convert.depth_message(depth, header)
        message.encoding = encoding
        self.out["depth/image"].publish(message)

    def send_until(self, condition, what, **frame):
        def step():
            self.send_frame(**frame)
            end = time.monotonic() + 0.15
            while time.monotonic() < end:
                self.spin(0.05)

        wait_until(condition, step, 60.0, what)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()
