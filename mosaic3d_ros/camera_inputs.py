"""The cameras of the node: subscriptions, pairing, and frames that wait for their pose."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mosaic3d_core.imaging import FrameReader
from mosaic3d_core.imaging.frame_reader import is_rectified_topic
from mosaic3d_ros import qos
from mosaic3d_ros.camera_settings import CameraSettings, camera_settings
from mosaic3d_ros.frame_counters import FrameCounters
from mosaic3d_ros.frame_intake import FrameIntake, PendingFrames
from mosaic3d_ros.frames import PosedFrame
from mosaic3d_ros.matched_subscription import MatchedSubscription
from mosaic3d_ros.pose_inputs import PoseInputs
from mosaic3d_ros.pose_source import StaticPoseSource
from mosaic3d_ros.self_check import Watch, unwatched

_MATCH_PERIOD_S = 0.5


class CameraInput:
    """One camera: its four topics, its pairing and its waiting queue.

    Args:
        node: Creates the subscriptions.
        settings: What the parameters say about this camera.
        values: The node's parameters.
        group: Callback group of the subscriptions.
        poses: Where poses and extrinsics come from.
        counters: Where everything is counted.
        on_frame: Called with each frame that has its pose.
        on_drop: Called with (reason, sentence, camera) for each frame that is dropped.
        on_jump: Called with the size of a jump back in time, seconds.
        watch: Looks at the messages of each input.
    """

    def __init__(
        self,
        node: Node,
        settings: CameraSettings,
        values: Mapping[str, Any],
        group: CallbackGroup,
        poses: PoseInputs,
        counters: FrameCounters,
        on_frame: Callable[[PosedFrame], None],
        on_drop: Callable[[str, str, str], None],
        on_jump: Callable[[float], None],
        watch: Watch = unwatched,
    ) -> None:
        self.name = settings.name
        images = {topic: node.resolve_topic_name(settings.prefix + topic) for topic in ("depth/image", "rgb/image")}
        self.pending = PendingFrames(
            poses.source if settings.static_pose is None else StaticPoseSource(settings.static_pose),
            poses.buffer,
            values["pending_frames"],
            values["pose_timeout_s"],
            on_frame,
            functools.partial(_with_camera, on_drop, self.name),
            settings.T_color_depth,
        )
        self.intake = FrameIntake(
            self.pending,
            counters,
            values["sync_slop_s"],
            values["sync_queue_size"],
            values["jump_back_s"],
            on_jump,
            self.name,
            FrameReader(
                _are_rectified(values["images_are"], images["rgb/image"]),
                _are_rectified(values["images_are"], images["depth/image"]),
            ),
        )
        takers = {
            "depth/camera_info": (CameraInfo, "raw", self.intake.add_depth_info),
            "rgb/camera_info": (CameraInfo, "raw", self.intake.add_color_info),
            "depth/image": (Image, values["depth_transport"], self.intake.add_depth),
            "rgb/image": (Image, values["rgb_transport"], self.intake.add_color),
        }
        reliable = values["reliable_images"]
        profile = qos.camera_in(values["image_queue_size"], reliable)
        self.topics: dict[str, str] = {}
        """Resolved topic names by their short names."""
        self._subscriptions: list[MatchedSubscription] = []
        for topic, (kind, transport, taker) in takers.items():
            name = _transport_topic(node, settings.prefix + topic, transport)
            self.topics[topic] = name
            message = kind if transport == "raw" else CompressedImage
            watched = watch(settings.prefix + topic, taker)
            self._subscriptions.append(MatchedSubscription(node, message, name, watched, profile, group, reliable))

    def match_qos(self) -> None:
        """Let the subscriptions follow what the publishers offer."""
        for subscription in self._subscriptions:
            subscription.match()

    def destroy(self) -> None:
        """End the subscriptions; what waits is dropped and counted as ``stopped``."""
        for subscription in self._subscriptions:
            subscription.destroy()
        self._subscriptions.clear()
        self.intake.stop()


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
        watch: Looks at the messages of each input.

    Raises:
        ValueError: One sentence that names a parameter with an impossible value.
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
        watch: Watch = unwatched,
    ) -> None:
        self._node = node
        self._poses = poses
        self.cameras = [
            CameraInput(node, settings, values, group, poses, counters, on_frame, on_drop, on_jump, watch)
            for settings in camera_settings(values)
        ]
        # by a clock that goes on where simulated time stands still: before a bag begins
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_MATCH_PERIOD_S, self._match_qos, callback_group=group, clock=steady)

    @property
    def topics(self) -> dict[str, str]:
        """Resolved topic names by short name, with the name of the camera before it where it has one."""
        return {
            (f"{camera.name}/{topic}" if camera.name else topic): name
            for camera in self.cameras
            for topic, name in camera.topics.items()
        }

    def __len__(self) -> int:
        """Frames that wait for their pose."""
        return sum(len(camera.pending) for camera in self.cameras)

    @property
    def waiting(self) -> dict[str, int]:
        """Depth images that wait, for whatever, by camera."""
        return {camera.name: camera.intake.waiting for camera in self.cameras}

    @property
    def last_problem(self) -> str:
        """Why the first frame that waits for its pose has to wait."""
        return next((camera.pending.last_problem for camera in self.cameras if len(camera.pending)), "")

    def poll(self) -> None:
        """Pass on the frames whose pose has come; drop those that waited too long."""
        for camera in self.cameras:
            camera.intake.poll()

    def destroy(self) -> None:
        """End the subscriptions; what waits is dropped and counted as ``stopped``."""
        self._node.destroy_timer(self._timer)
        for camera in self.cameras:
            camera.destroy()

    def _match_qos(self) -> None:
        self._poses.match_qos()
        for camera in self.cameras:
            camera.match_qos()


def _with_camera(on_drop: Callable[[str, str, str], None], camera: str, reason: str, text: str) -> None:
    on_drop(reason, text, camera)


def _are_rectified(images_are: str, topic: str) -> bool:
    return is_rectified_topic(topic) if images_are == "auto" else images_are == "rectified"


def _transport_topic(node: Node, topic: str, transport: str) -> str:
    """The topic that really carries the images, as image_transport names it: the resolved base topic and the transport.

    A remapping of ``rgb/image`` therefore holds for ``rgb/image/compressed``, too; one of the latter itself goes first.
    """
    base = str(node.resolve_topic_name(topic))
    if transport == "raw":
        return base
    own = f"{topic}/{transport}"
    resolved = str(node.resolve_topic_name(own))
    return resolved if resolved != node.resolve_topic_name(own, only_expand=True) else f"{base}/{transport}"
