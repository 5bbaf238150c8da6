"""Subscriptions that feed transforms and poses into the pose source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose, PoseStamped
from nav_msgs.msg import Odometry
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.transform_buffer import TransformBuffer
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import qos
from mosaic3d_ros.matched_subscription import MatchedSubscription
from mosaic3d_ros.pose_source import PoseSource, StaticPoseSource, TfPoseSource, TopicPoseSource
from mosaic3d_ros.self_check import Watch, unwatched


class PoseInputs:
    """TF always (for camera extrinsics and reply frames), plus the topic of the chosen pose source.

    Args:
        node: Creates the subscriptions.
        values: The node's parameters.
        group: Callback group of the subscriptions.
        on_change: Called when new poses came.
        on_bad: Called with (reason, sentence) for a transform or pose that cannot be used.
        watch: Looks at the messages of each input.
    """

    def __init__(
        self,
        node: Node,
        values: Mapping[str, Any],
        group: CallbackGroup,
        on_change: Callable[[], None],
        on_bad: Callable[[str, str], None],
        watch: Watch = unwatched,
    ) -> None:
        self._on_change = on_change
        self._on_bad = on_bad
        self.buffer = TransformBuffer(values["tf_cache_s"], values["jump_back_s"], values["pose_max_gap_s"])
        self.source: PoseSource = TfPoseSource(self.buffer, values["map_frame"])
        # Bags may offer /tf_static without keeping it, to which the first of its two subscriptions does not connect.
        on_static = watch("tf_static", self._on_tf_static)
        self.topics = {"tf": "/tf", "tf_static": "/tf_static"}
        """Resolved topic names by role."""
        self._subscriptions = [
            MatchedSubscription(node, TFMessage, "/tf", watch("tf", self._on_tf), qos.TF, group),
            MatchedSubscription(node, TFMessage, "/tf_static", on_static, qos.TF_STATIC, group, fixed=True),
            MatchedSubscription(node, TFMessage, "/tf_static", on_static, qos.camera_in(100, False), group, fixed=True),
        ]
        topic = values["pose_source"]
        if topic == "static":
            self.source = StaticPoseSource(np.eye(4))  # each camera has its own, this one says where poses come from
        if topic not in ("pose", "odom"):
            return
        self._child_frame = values["pose_child_frame"]
        self._topic_source = TopicPoseSource(
            self.buffer,
            values["map_frame"],
            node.resolve_topic_name(topic),
            values["tf_cache_s"],
            values["jump_back_s"],
            values["pose_max_gap_s"],
        )
        self.source = self._topic_source
        kind, taker = (PoseStamped, self._on_pose) if topic == "pose" else (Odometry, self._on_odometry)
        profile = qos.camera_in(100, reliable=False)
        self.topics[topic] = node.resolve_topic_name(topic)
        self._subscriptions.append(MatchedSubscription(node, kind, topic, watch(topic, taker), profile, group))

    def match_qos(self) -> None:
        """Let the subscriptions follow what the publishers offer."""
        for subscription in self._subscriptions:
            subscription.match()

    def destroy(self) -> None:
        """End the subscriptions; what the buffer holds stays."""
        for subscription in self._subscriptions:
            subscription.destroy()
        self._subscriptions.clear()

    def _on_tf(self, message: TFMessage) -> None:
        self._take(message, is_static=False)

    def _on_tf_static(self, message: TFMessage) -> None:
        self._take(message, is_static=True)

    def _take(self, message: TFMessage, is_static: bool) -> None:
        for item in message.transforms:
            parent, child, stamp_ns = item.header.frame_id, item.child_frame_id, convert.stamp_to_ns(item.header.stamp)
            try:
                self.buffer.set(parent, child, stamp_ns, convert.matrix_from_transform(item.transform), is_static)
            except FrameError as error:
                self._on_bad(error.reason, f"'{parent[:80]}' <- '{child[:80]}': {error}")
        self._on_change()

    def _on_pose(self, message: PoseStamped) -> None:
        self._add(message.header, self._child_frame, message.pose)

    def _on_odometry(self, message: Odometry) -> None:
        self._add(message.header, message.child_frame_id, message.pose.pose)

    def _add(self, header: Header, child_frame_id: str, pose: Pose) -> None:
        try:
            matrix = convert.matrix_from_pose(pose)
        except FrameError as error:
            self._on_bad(error.reason, str(error))
            return
        self._topic_source.add(convert.stamp_to_ns(header.stamp), header.frame_id, child_frame_id, matrix)
        self._on_change()
