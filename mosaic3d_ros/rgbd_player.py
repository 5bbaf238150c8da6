"""rgbd_player: plays a posed RGB-D sequence, or a generated room, as a camera driver would publish it."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_msgs.msg import UInt64
from tf2_msgs.msg import TFMessage

from mosaic3d_core.data.sequences import open_sequence, reader_options
from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.transforms import invert_transform
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import parameters, qos
from mosaic3d_ros.driver_images import DriverImages
from mosaic3d_ros.runtime import ClosableNode, install_log_handler, run_node
from mosaic3d_ros.self_check import transport_warning

_SUBSCRIBER_POLL_S = 0.05


class FramePublisher:
    """Publishes a frame: images, calibration, pose and, for unregistered colour, the cameras' transform.

    Args:
        node: Creates the publishers.
        values: The player's parameters.
    """

    def __init__(self, node: Node, values: dict[str, Any]) -> None:
        self._values = values
        self._driver = DriverImages(values)
        prefix = f"{values['camera']}/" if values["camera"] else ""
        profile = qos.camera_out(values["best_effort"])
        self._images: dict[str, Any] = {
            topic: node.create_publisher(kind, node.resolve_topic_name(prefix + topic) + ending, profile)
            for topic, (kind, ending) in self._driver.topics.items()
        }
        self._tf = node.create_publisher(TFMessage, "/tf", qos.TF)
        self._tf_static = node.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
        self._pose = node.create_publisher(PoseStamped, "pose", qos.CAMERA_OUT) if values["pose_output"] == "pose" else None
        self._odom = node.create_publisher(Odometry, "odom", qos.CAMERA_OUT) if values["pose_output"] == "odom" else None
        self._clock = node.create_publisher(Clock, "/clock", qos.CAMERA_OUT) if values["publish_clock"] else None
        self._extrinsics: NDArray[np.float64] | None = None

    def subscribers(self) -> int:
        """Subscribers that both image topics have."""
        return min(self._images[topic].get_subscription_count() for topic in ("rgb/image", "depth/image"))

    def publish(self, frame: RGBDFrame, stamp_ns: int) -> None:
        """Send one frame under the given time."""
        registered = frame.color_camera is None
        depth_frame = self._values["depth_frame"]
        color_frame = depth_frame if registered else self._values["color_frame"]
        if self._clock is not None:
            self._clock.publish(Clock(clock=convert.ns_to_stamp(stamp_ns)))
        if not registered:
            self._publish_extrinsics(frame, stamp_ns)
        self._publish_pose(frame, stamp_ns)
        depth_header = convert.make_header(depth_frame, stamp_ns)
        color_header = convert.make_header(color_frame, stamp_ns)
        color_camera = frame.color_camera or frame.depth_camera
        driver = self._driver
        self._images["depth/camera_info"].publish(driver.camera_info(frame.depth_camera, depth_header))
        self._images["rgb/camera_info"].publish(driver.camera_info(color_camera, color_header))
        self._images["rgb/image"].publish(driver.color(frame.color, color_camera, color_header))
        self._images["depth/image"].publish(driver.depth(frame.depth, frame.depth_camera, depth_header))

    def _publish_extrinsics(self, frame: RGBDFrame, stamp_ns: int) -> None:
        between = np.eye(4) if frame.T_color_depth is None else frame.T_color_depth
        if self._extrinsics is not None and np.array_equal(self._extrinsics, between):
            return
        self._extrinsics = between
        message = self._transform(self._values["depth_frame"], self._values["color_frame"], invert_transform(between), stamp_ns)
        self._tf_static.publish(TFMessage(transforms=[message]))

    def _publish_pose(self, frame: RGBDFrame, stamp_ns: int) -> None:
        parent, child = self._values["map_frame"], self._values["depth_frame"]
        header = convert.make_header(parent, stamp_ns)
        pose = convert.pose_from_matrix(frame.T_world_camera)
        if self._pose is not None:
            self._pose.publish(PoseStamped(header=header, pose=pose))
        elif self._odom is not None:
            odometry = Odometry(header=header, child_frame_id=child)
            odometry.pose.pose = pose
            self._odom.publish(odometry)
        elif self._values["pose_output"] == "tf":
            self._tf.publish(TFMessage(transforms=[self._transform(parent, child, frame.T_world_camera, stamp_ns)]))

    @staticmethod
    def _transform(parent: str, child: str, pose: NDArray[np.float64], stamp_ns: int) -> TransformStamped:
        header = convert.make_header(parent, stamp_ns)
        return TransformStamped(header=header, child_frame_id=child, transform=convert.transform_from_matrix(pose))


class RgbdPlayer(ClosableNode):
    """See the module. The frames are published from a thread of their own, at a steady rate."""

    def __init__(self) -> None:
        super().__init__("rgbd_player")
        install_log_handler(self)
        self._values = parameters.declare(self, parameters.PLAYER)
        options = reader_options(self._values["sequence_options"])
        self._sequence = open_sequence(self._values["sequence"], **options)
        if len(self._sequence) == 0:
            raise ValueError(f"The sequence '{self._values['sequence']}' has no frames.")
        count = self._values["max_frames"]
        self._count = min(count, len(self._sequence)) if count else len(self._sequence)
        self._publisher = FramePublisher(self, self._values)
        self._progress = self.create_publisher(UInt64, "~/frames_published", qos.LATCHED)
        self._loaded = self.create_publisher(UInt64, "~/frames_loaded", qos.LATCHED)
        self._started = self.create_publisher(Time, "~/started", qos.LATCHED)
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self.published = 0
        self._thread = threading.Thread(target=self._play, name="player", daemon=True)
        warning = transport_warning()
        if warning:
            self.get_logger().warning(warning)
        self._thread.start()

    def _play(self) -> None:
        try:
            frames = self._load()
            self._wait_for_subscribers()
            rounds = itertools.count() if self._values["loop"] else range(1)
            for _ in rounds:
                self._play_round(frames)
                if self._stopping.is_set():
                    break
        except Exception as error:  # reported by the main thread as the reason of the end
            if self.context.ok():  # otherwise it is only the end of the process, in the middle of a message
                self._failure = error
                self.get_logger().error(f"The sequence cannot be played: {error}")
        finally:
            if not self._stopping.is_set() and self.context.ok():
                self.get_logger().info(f"Published {self.published} frames.")
                # The process ends now; what is still on its way must arrive first.
                for publisher in self.publishers:
                    publisher.wait_for_all_acked(Duration(seconds=2.0))
                self.context.try_shutdown()

    def _load(self) -> list[RGBDFrame] | None:
        if not self._values["preload"]:
            return None
        self.get_logger().info(f"Loading {self._count} frames before the first is published ...")
        began = time.monotonic()
        frames = []
        for index in range(self._count):
            if self._stopping.is_set():
                break
            frames.append(self._sequence[index])
            self._loaded.publish(UInt64(data=len(frames)))
        self.get_logger().info(f"Loaded {len(frames)} frames in {time.monotonic() - began:.1f} s.")
        return frames

    def _wait_for_subscribers(self) -> None:
        deadline = time.monotonic() + self._values["wait_for_subscribers_s"]
        while time.monotonic() < deadline and self._publisher.subscribers() == 0:
            if self._stopping.wait(_SUBSCRIBER_POLL_S):
                return

    def _frames(self, frames: list[RGBDFrame] | None) -> Iterator[RGBDFrame]:
        return iter(frames) if frames is not None else (self._sequence[index] for index in range(self._count))

    def _play_round(self, frames: list[RGBDFrame] | None) -> None:
        period = 1.0 / self._values["rate"]
        due = time.monotonic()
        for frame in self._frames(frames):
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            if self.published == 0:
                self._started.publish(convert.make_header("", time.time_ns()).stamp)
            now = self.get_clock().now().nanoseconds
            self._publisher.publish(frame, now if self._values["stamps"] == "now" else frame.stamp_ns)
            self.published += 1
            self._progress.publish(UInt64(data=self.published))
            # After a stall go on at the rate from now, instead of sending what is late in one burst.
            due = max(due + period, time.monotonic() - period)

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(10.0)

    @property
    def exit_code(self) -> int:
        """0, or 1 when the sequence could not be played to its end."""
        return 1 if self._failure else 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable ``rgbd_player``."""
    return run_node(RgbdPlayer, args, threads=1)


if __name__ == "__main__":
    sys.exit(main())
