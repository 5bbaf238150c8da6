"""The cameras of the node: subscriptions, pairing, and frames that wait for their pose."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image

from mosaic3d_ros import qos
from mosaic3d_ros.frame_intake import FrameCounters, FrameIntake, PendingFrames, PosedFrame
from mosaic3d_ros.pose_inputs import PoseInputs


class CameraInput:
    """One camera: its four topics, its pairing and its waiting queue.

    Args:
        node: Creates the subscriptions.
        name: Name of the camera; the empty name has topics without prefix.
        values: The node's parameters.
        group: Callback group of the subscriptions.
        poses: Where poses and extrinsics come from.
        counters: Where everything is counted.
        on_frame: Called with each frame that has its pose.
        on_drop: Called with (reason, sentence, camera) for each frame that is dropped.
        on_jump: Called with the size of a jump back in time, seconds.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        values: Mapping[str, Any],
        group: CallbackGroup,
        poses: PoseInputs,
        counters: FrameCounters,
        on_frame: Callable[[PosedFrame], None],
        on_drop: Callable[[str, str, str], None],
        on_jump: Callable[[float], None],
    ) -> None:
        self.name = name
        self._node = node
        drop = functools.partial(_with_camera, on_drop, name)
        self.pending = PendingFrames(
            poses.source, poses.buffer, values["pending_frames"], values["pose_timeout_s"], on_frame, drop
        )
        self.intake = FrameIntake(
            self.pending,
            counters,
            values["sync_slop_s"],
            values["sync_queue_size"],
            values["jump_back_s"],
            on_jump,
            camera=name,
        )
        profile = qos.camera_in(values["image_queue_size"], values["reliable_images"])
        takers = {
            "depth/camera_info": (CameraInfo, self.intake.add_depth_info),
            "rgb/camera_info": (CameraInfo, self.intake.add_color_info),
            "depth/image": (Image, self.intake.add_depth),
            "rgb/image": (Image, self.intake.add_color),
        }
        prefix = f"{name}/" if name else ""
        self.topics = {topic: node.resolve_topic_name(prefix + topic) for topic in takers}
        self._subscriptions: list[Subscription] = [
            node.create_subscription(kind, prefix + topic, taker, profile, callback_group=group)
            for topic, (kind, taker) in takers.items()
        ]

    def destroy(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()


class CameraInputs:
    """All cameras of the node, each with its own pairing and its own waiting queue.

    Args:
        node: Creates the subscriptions.
        values: The node's parameters; ``cameras`` names the cameras.
        group: Callback group of the subscriptions (mutually exclusive).
        poses: Where poses and extrinsics come from.
        counters: Where everything is counted.
        on_frame: Called with each frame that has its pose.
        on_drop: Called with (reason, sentence, camera) for each frame that is dropped.
        on_jump: Called with the size of a jump back in time, seconds.
    """

    def __init__(
        self,
        node: Node,
        values: Mapping[str, Any],
        group: CallbackGroup,
        poses: PoseInputs,
        counters: FrameCounters,
        on_frame: Callable[[PosedFrame], None],
        on_drop: Callable[[str, str, str], None],
        on_jump: Callable[[float], None],
    ) -> None:
        names = [name for name in values.get("cameras", ()) if name] or [""]
        self.cameras = [CameraInput(node, name, values, group, poses, counters, on_frame, on_drop, on_jump) for name in names]

    @property
    def topics(self) -> dict[str, str]:
        """Resolved topic names of the first camera by their short names."""
        return self.cameras[0].topics

    def __len__(self) -> int:
        """Frames that wait for their pose."""
        return sum(len(camera.pending) for camera in self.cameras)

    @property
    def last_problem(self) -> str:
        """Why the first frame that waits for its pose has to wait."""
        return next((camera.pending.last_problem for camera in self.cameras if len(camera.pending)), "")

    def poll(self) -> None:
        """Pass on the frames whose pose has come; drop those that waited too long."""
        for camera in self.cameras:
            camera.pending.poll()

    def destroy(self) -> None:
        """End the subscriptions; what waits is dropped and counted as ``stopped``."""
        for camera in self.cameras:
            camera.destroy()
            camera.intake.clear("stopped", "The node stopped listening to its cameras.")


def _with_camera(on_drop: Callable[[str, str, str], None], camera: str, reason: str, text: str) -> None:
    on_drop(reason, text, camera)
