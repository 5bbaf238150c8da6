"""Observations of a ROS 2 bag (MCAP or sqlite3), read with the package `rosbags`; no ROS needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mosaic3d_core.doctor.observations import (
    CAMERA_INFO,
    CAMERA_ROLES,
    COMPRESSED,
    IMAGE,
    ODOMETRY,
    POSE,
    TF_MESSAGE,
    Endpoint,
    Observations,
    Settings,
    TopicObservation,
)
from mosaic3d_core.doctor.recorder import Recorder
from mosaic3d_core.errors import MissingDependencyError, SequenceError


def observe_bag(
    path: str | Path,
    names: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    seconds: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> Observations:
    """Read a bag as the node would subscribe to it.

    Args:
        path: Bag folder or file.
        names: Topics by role; those that are not given are found by type and name.
        settings: What the node needs; ``pose_source`` pose or odom takes poses from a topic.
        seconds: Only this much of the beginning; None = all.
        progress: Called with the share that is done, in [0, 1].

    Raises:
        MissingDependencyError: Without the package `rosbags`.
        SequenceError: When it cannot be read, or several topics could be meant.
    """
    settings = settings or Settings()
    with _open(Path(path)) as reader:
        kinds = {connection.topic: str(connection.msgtype) for connection in reader.connections}
        roles = _assign(kinds, dict(names or {}), settings)
        start = reader.start_time
        stop = reader.end_time if seconds is None else min(reader.end_time, start + round(seconds * 1e9))
        length_s = max(stop - start, 0) * 1e-9
        recorder = Recorder()
        by_name = {name: role for role, name in roles.items()}
        wanted = [connection for connection in reader.connections if connection.topic in by_name]
        try:
            messages = reader.messages(connections=wanted, stop=stop + 1) if wanted else ()
            for count, (connection, time_ns, raw) in enumerate(messages):
                message = reader.deserialize(raw, connection.msgtype)
                recorder.see(by_name[connection.topic], message, time_ns * 1e-9)
                if progress is not None and count % 50 == 0 and length_s:
                    progress((time_ns - start) * 1e-9 / length_s)
        except Exception as error:  # rosbags raises many kinds for a damaged file
            raise _damaged(Path(path), error) from error
        topics = recorder.topics(roles, stop * 1e-9, length_s)
        return Observations(
            source="bag",
            window_s=length_s,
            topics={role: _with_endpoints(topic, reader.connections) for role, topic in topics.items()},
            edges=recorder.edges(),
            pose=recorder.pose(),
            settings=settings,
            offered=_by_kind(kinds),
        )


def _open(path: Path) -> Any:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingDependencyError("reading ROS bags needs the package rosbags: pip install rosbags") from error
    if not path.exists():
        raise SequenceError(f"'{path}' does not exist: give the folder or file of a ROS 2 bag, or no argument for the live graph")
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
    except Exception as error:
        raise _damaged(path, error) from error
    return _Closing(reader)


class _Closing:
    """An open reader as a context."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __enter__(self) -> Any:
        return self._reader

    def __exit__(self, *_error: object) -> None:
        self._reader.close()


def _damaged(path: Path, error: Exception) -> SequenceError:
    return SequenceError(
        f"bag {path} cannot be read ({type(error).__name__}: {error}): is it complete? 'ros2 bag reindex' may help"
    )


def _assign(kinds: Mapping[str, str], given: dict[str, str], settings: Settings) -> dict[str, str]:
    """Topic of every role: as given, else the one that fits, else the name that the node would have."""
    images = [topic for topic, kind in kinds.items() if kind in (IMAGE, COMPRESSED)]
    roles: dict[str, str] = {}
    for part, candidates in (
        ("depth", [t for t in images if "depth" in t]),
        ("rgb", [t for t in images if "depth" not in t]),
    ):
        image = given.get(f"{part}/image") or _only(part, candidates, kinds) or f"/{part}/image"
        roles[f"{part}/image"] = image
        roles[f"{part}/camera_info"] = given.get(f"{part}/camera_info") or _beside(image, kinds) or f"/{part}/camera_info"
    for role in ("tf", "tf_static"):
        roles[role] = given.get(role, f"/{role}")
    if settings.pose_source in ("pose", "odom"):
        kind = POSE if settings.pose_source == "pose" else ODOMETRY
        found = [topic for topic, other in kinds.items() if other == kind]
        roles[settings.pose_source] = given.get(settings.pose_source) or (
            found[0] if len(found) == 1 else f"/{settings.pose_source}"
        )
    return {role: roles[role] for role in (*CAMERA_ROLES, *(r for r in roles if r not in CAMERA_ROLES))}


def _only(part: str, candidates: list[str], kinds: Mapping[str, str]) -> str:
    raw = [topic for topic in candidates if kinds[topic] == IMAGE] or candidates
    if len(raw) > 1:
        raise SequenceError(
            f"the bag has {len(raw)} topics that may be {part} images ({', '.join(sorted(raw))}): name one with --{part}"
        )
    return raw[0] if raw else ""


def _beside(image: str, kinds: Mapping[str, str]) -> str:
    """The camera_info nearest to an image topic, empty where that is not clear."""
    infos = [topic for topic, kind in kinds.items() if kind == CAMERA_INFO]
    parts = image.split("/")
    for depth in range(len(parts) - 1, 0, -1):
        near = [topic for topic in infos if topic.startswith("/".join(parts[:depth]) + "/")]
        if len(near) == 1:
            return near[0]
    return ""


def _with_endpoints(topic: TopicObservation, connections: Iterable[Any]) -> TopicObservation:
    """The publishers that playing the bag would make."""
    publishers = [Endpoint("ros2 bag play", str(c.msgtype)) for c in connections if c.topic == topic.name]
    return replace(topic, publishers=tuple(publishers))


def _by_kind(kinds: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    offered: dict[str, list[str]] = {}
    for topic, kind in kinds.items():
        if kind in (IMAGE, COMPRESSED, CAMERA_INFO, POSE, ODOMETRY, TF_MESSAGE):
            offered.setdefault(kind, []).append(topic)
    return {kind: tuple(sorted(topics)) for kind, topics in offered.items()}
