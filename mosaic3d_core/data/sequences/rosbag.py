"""ROS 2 bags (MCAP and sqlite3) as posed RGB-D, read with the `rosbags` package; no ROS needed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.sequences.pose_tree import PoseTree
from mosaic3d_core.errors import FrameError, MissingDependencyError, SequenceError
from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.transforms import pose_to_matrix
from mosaic3d_core.imaging import FrameReader
from mosaic3d_core.imaging.frame_reader import is_rectified_topic

_log = logging.getLogger(__name__)
_IMAGE, _COMPRESSED, _INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
_TF, _POSE, _ODOM = "tf2_msgs/msg/TFMessage", "geometry_msgs/msg/PoseStamped", "nav_msgs/msg/Odometry"


def open_bag(path: Path, **options: Any) -> BagSequence:
    """Open a bag file or folder; see `BagSequence` for the options.

    Raises:
        MissingDependencyError: Without the `rosbags` package.
        SequenceError: When the bag cannot be read or lacks images, camera infos or poses.
    """
    return BagSequence(path, **options)


class BagSequence:
    """Frames of one bag: each depth image with the colour image nearest in time and the pose at its stamp.

    Images are paired, read and placed as perception_node does it, so that both make the same map of a bag.

    Args:
        path: Bag folder or file.
        color_topic: Colour images; found by name and type when None.
        depth_topic: Depth images, 16UC1 in mm or 32FC1 in m; found when None.
        color_info_topic: Found beside the colour images when None.
        depth_info_topic: Found beside the depth images when None.
        pose_topic: PoseStamped or Odometry; None uses /tf, or where there is none the only topic of these kinds. TF connects
            its frames with the map and the camera.
        pose_child_frame: Frame whose pose a PoseStamped is; None is the depth camera.
        map_frame: World frame of the poses; None takes the root of the transform tree.
        max_difference_s: Largest time between colour and depth. A colour image serves one depth image.
        align_gravity: Accepted for symmetry with the other readers; a bag's map frame has z up already.
    """

    def __init__(
        self,
        path: Path,
        color_topic: str | None = None,
        depth_topic: str | None = None,
        color_info_topic: str | None = None,
        depth_info_topic: str | None = None,
        pose_topic: str | None = None,
        map_frame: str | None = None,
        max_difference_s: float = 0.02,
        align_gravity: bool = True,
        pose_child_frame: str | None = None,
    ) -> None:
        self.name, self._path = path.name, path
        self.gravity_up: NDArray[np.float64] | None = np.array([0.0, 0.0, 1.0]) if align_gravity else None
        self.skipped: dict[str, int] = {}
        self._map_frame, self._pose_topic = map_frame, pose_topic
        self._reader = _open_reader(path)
        kinds = {c.topic: c.msgtype for c in self._reader.connections}
        images = [t for t, kind in kinds.items() if kind in (_IMAGE, _COMPRESSED)]
        self._depth_topic = depth_topic or _one(path, "depth image", [t for t in images if "depth" in t], kinds)
        self._color_topic = color_topic or _one(path, "colour image", [t for t in images if "depth" not in t], kinds)
        self._infos = {
            self._depth_topic: self._first_info(depth_info_topic or _beside(self._depth_topic, kinds, path)),
            self._color_topic: self._first_info(color_info_topic or _beside(self._color_topic, kinds, path)),
        }
        self._images = FrameReader(is_rectified_topic(self._color_topic), is_rectified_topic(self._depth_topic))
        self._tree, self._topic_poses = PoseTree(), PoseTree()
        self._pose_frames = ("", pose_child_frame or "")
        self._read_poses(kinds)
        self._depth_stamps = self._stamps(self._depth_topic)
        self._color_stamps = self._stamps(self._color_topic)
        if not self._depth_stamps:
            raise SequenceError(f"bag {path} has no message on {self._depth_topic}")
        self._max_difference_ns = round(max_difference_s * 1e9)
        self._partners = self._pair()

    def __len__(self) -> int:
        return len(self._depth_stamps)

    def __getitem__(self, index: int) -> RGBDFrame:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of a bag with {len(self)}")
        depth = self._message(self._depth_topic, *self._depth_stamps[index])
        stamp = _stamp(depth.header)
        nearest = self._partners[index]
        if nearest is None:
            raise FrameError(f"no colour image within {self._max_difference_ns / 1e9} s of {stamp / 1e9:.3f} s", "missing_color")
        color = self._message(self._color_topic, *nearest)
        return self._assemble(stamp, depth, color)

    def __iter__(self) -> Iterator[RGBDFrame]:
        used = 0
        last = ""
        for index in range(len(self)):
            try:
                frame = self[index]
            except FrameError as error:
                self.skipped[error.reason] = self.skipped.get(error.reason, 0) + 1
                _log.warning("frame %d of %s is skipped: %s", index, self.name, error)
                last = str(error)
                continue
            used += 1
            yield frame
        if not used:
            raise SequenceError(f"none of the {len(self)} depth images of bag {self.name} can be used; the last one: {last}")

    def _assemble(self, stamp: int, depth: Any, color: Any) -> RGBDFrame:
        values, depth_camera = self._images.depth(depth, self._infos[self._depth_topic])
        pixels, color_camera = self._images.color(color, self._infos[self._color_topic])
        depth_frame, color_frame = depth.header.frame_id, color.header.frame_id
        T_world_camera = self._pose(depth_frame, stamp)
        T_color_depth = self._connect(color_frame, depth_frame, stamp) if color_frame and color_frame != depth_frame else None
        registered = T_color_depth is None and color_camera == depth_camera
        return RGBDFrame(stamp, pixels, values, depth_camera, T_world_camera, None if registered else color_camera, T_color_depth)

    def _pair(self) -> list[tuple[int, int] | None]:
        """Colour image of each depth image: the nearest of those after the last one used, as a live stream is paired."""
        out: list[tuple[int, int] | None] = []
        free = 0
        for stamp, _ in self._depth_stamps:
            rest = range(free, len(self._color_stamps))
            nearest = min(rest, key=lambda k: abs(self._color_stamps[k][0] - stamp), default=None)
            if nearest is None or abs(self._color_stamps[nearest][0] - stamp) > self._max_difference_ns:
                out.append(None)
                continue
            out.append(self._color_stamps[nearest])
            free = nearest + 1
        return out

    def _pose(self, depth_frame: str, stamp: int) -> NDArray[np.float64]:
        if self._pose_topic is None:
            return self._tree.lookup(self._map_frame or self._tree.root(depth_frame), depth_frame, stamp)
        parent, child = self._pose_frames
        to_map = self._connect(self._map_frame or self._tree.root(parent), parent, stamp)
        return to_map @ self._topic_poses.lookup(_POSE_PARENT, _POSE_CHILD, stamp) @ self._connect(child, depth_frame, stamp)

    def _connect(self, target: str, source: str, stamp: int) -> NDArray[np.float64]:
        """`T_target_source` from TF; an empty name needs nothing."""
        return np.eye(4) if not target or not source or target == source else self._tree.lookup(target, source, stamp)

    def _read_poses(self, kinds: dict[str, str]) -> None:
        # static transforms alone place no moving camera
        if self._pose_topic is None and not any(kind == _TF and not t.endswith("tf_static") for t, kind in kinds.items()):
            found = [t for t, kind in kinds.items() if kind in (_POSE, _ODOM)]
            if len(found) != 1:
                raise SequenceError(
                    f"bag {self._path} has no poses: no /tf, and {len(found)} PoseStamped or Odometry topics; "
                    "name one as pose_topic"
                )
            self._pose_topic = found[0]
        if self._pose_topic is not None and kinds.get(self._pose_topic) not in (_POSE, _ODOM):
            raise SequenceError(
                f"bag {self._path}: {self._pose_topic} is not a PoseStamped or Odometry topic "
                f"(its topics: {', '.join(sorted(kinds))})"
            )
        wanted = [c for c in self._reader.connections if c.msgtype == _TF or c.topic == self._pose_topic]
        for connection, _, raw in self._reader.messages(connections=wanted):
            message = self._reader.deserialize(raw, connection.msgtype)
            try:
                if connection.msgtype == _TF:
                    for t in message.transforms:
                        move, turn = t.transform.translation, t.transform.rotation
                        pose = pose_to_matrix((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
                        self._tree.add(
                            t.header.frame_id, t.child_frame_id, _stamp(t.header), pose, connection.topic.endswith("tf_static")
                        )
                else:
                    odometry = connection.msgtype == _ODOM
                    body = message.pose.pose if odometry else message.pose
                    p, q = body.position, body.orientation
                    self._pose_frames = (message.header.frame_id, message.child_frame_id if odometry else self._pose_frames[1])
                    self._topic_poses.add(
                        _POSE_PARENT, _POSE_CHILD, _stamp(message.header), pose_to_matrix((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
                    )
            except FrameError as error:
                self.skipped[error.reason] = self.skipped.get(error.reason, 0) + 1
        if not (self._tree if self._pose_topic is None else self._topic_poses).frames:
            raise SequenceError(f"bag {self._path} has no usable pose on {self._pose_topic or '/tf'}")

    def _first_info(self, topic: str) -> Any:
        for connection, _, raw in self._reader.messages(connections=[c for c in self._reader.connections if c.topic == topic]):
            return self._reader.deserialize(raw, connection.msgtype)
        raise SequenceError(f"bag {self._path} has no message on {topic}")

    def _stamps(self, topic: str) -> list[tuple[int, int]]:
        """(header stamp, bag time) of every message of an image topic."""
        out = []
        for connection, time, raw in self._reader.messages(connections=[c for c in self._reader.connections if c.topic == topic]):
            out.append((_stamp(self._reader.deserialize(raw, connection.msgtype).header), time))
        return sorted(out)

    def _message(self, topic: str, stamp: int, time: int) -> Any:
        connections = [c for c in self._reader.connections if c.topic == topic]
        for connection, _, raw in self._reader.messages(connections=connections, start=time, stop=time + 1):
            message = self._reader.deserialize(raw, connection.msgtype)
            if _stamp(message.header) == stamp:
                return message
        raise FrameError(f"{topic} at {stamp / 1e9:.3f} s cannot be read again", "bad_image")


_POSE_PARENT, _POSE_CHILD = "<pose topic>", "<camera>"


def _open_reader(path: Path) -> Any:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingDependencyError("reading ROS bags needs the package rosbags: pip install rosbags") from error
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
    except Exception as error:  # rosbags raises many kinds for a damaged file
        raise SequenceError(
            f"bag {path} cannot be read ({type(error).__name__}: {error}): is it complete? 'ros2 bag reindex' may help"
        ) from error
    return reader


def _one(path: Path, what: str, found: list[str], kinds: dict[str, str]) -> str:
    raw = [t for t in found if kinds[t] == _IMAGE] or found
    if len(raw) == 1:
        return raw[0]
    option = "depth_topic" if "depth" in what else "color_topic"
    problem = "no" if not raw else f"{len(raw)}"
    raise SequenceError(
        f"bag {path} has {problem} {what} topics ({', '.join(raw) or ', '.join(sorted(kinds))}): name one with {option}"
    )


def _beside(topic: str, kinds: dict[str, str], path: Path) -> str:
    """The CameraInfo topic in the same namespace as an image topic."""
    infos = [t for t, kind in kinds.items() if kind == _INFO]
    parts = topic.split("/")
    for depth in range(len(parts) - 1, 0, -1):
        prefix = "/".join(parts[:depth])
        near = [t for t in infos if t.startswith(prefix + "/")]
        if len(near) == 1:
            return near[0]
    raise SequenceError(f"bag {path} has no CameraInfo beside {topic} (found: {', '.join(infos) or 'none'}): name it")


def _stamp(header: Any) -> int:
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
