"""Checks of where poses come from: TF as a tree, the topic of poses, and both against the stamps of the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from mosaic3d_core.doctor.check_times import duration
from mosaic3d_core.doctor.findings import Finding
from mosaic3d_core.doctor.observations import ODOMETRY, POSE, EdgeObservation, Observations, TopicObservation

_PART_OUTSIDE = 0.05
"""Part of a bag's images that may lie outside the time of the poses: one of the two always begins first."""


@dataclass(frozen=True)
class _Need:
    """A transform that the node will look up."""

    target: str
    source: str
    why: str
    images: TopicObservation


class _Tree:
    """The transforms as a tree: one parent for each child."""

    def __init__(self, edges: tuple[EdgeObservation, ...]) -> None:
        self.edges = {edge.child: edge for edge in edges if edge.count}
        self.frames = sorted(set(self.edges) | {edge.parent for edge in self.edges.values()})

    def chain(self, frame: str) -> list[str]:
        """The frame and its ancestors; ends where a wrong tree repeats itself."""
        chain = [frame]
        while chain[-1] in self.edges and self.edges[chain[-1]].parent not in chain:
            chain.append(self.edges[chain[-1]].parent)
        return chain

    def path(self, target: str, source: str) -> list[EdgeObservation] | None:
        """The transforms between two frames, None where nothing connects them."""
        up_source, up_target = self.chain(source), self.chain(target)
        shared = next((frame for frame in up_source if frame in up_target), None)
        if shared is None:
            return None
        below = [*up_source[: up_source.index(shared)], *up_target[: up_target.index(shared)]]
        return [self.edges[frame] for frame in below]


def check_poses(seen: Observations) -> Iterator[Finding]:
    """Everything between the map frame and the cameras."""
    yield from _check_values(seen)
    parents = list(_check_parents(seen))
    yield from parents
    tree = _Tree(seen.edges)
    needs = list(_needs(seen)) if seen.is_settled else []
    if not tree.edges:
        if needs and not any(edge.problem for edge in seen.edges):
            yield _no_tf(seen, needs[0])
    elif not parents:  # with two parents nothing more can be said of a chain
        yield from _check_needs(seen, tree, needs)
    yield from _check_pose_times(seen)


def newest_pose_ns(seen: Observations) -> int | None:
    """Time of the newest pose that the first camera has; None where there is none yet, or all of it is static."""
    if seen.settings.pose_source in ("pose", "odom"):
        return seen.pose.newest_ns if seen.pose else None
    tree = _Tree(seen.edges)
    need = next((need for need in _needs(seen) if need.target == seen.settings.map_frame), None)
    path = tree.path(need.target, need.source) if need else None
    return min((edge.newest_ns for edge in path or () if not edge.is_static), default=None)


def _check_values(seen: Observations) -> Iterator[Finding]:
    bad = [(f"'{edge.parent}' <- '{edge.child}'", edge.problem) for edge in seen.edges if edge.problem]
    if seen.pose and seen.pose.problem and seen.settings.pose_source in seen.topics:
        bad.append((f"pose on '{seen.topics[seen.settings.pose_source].name}'", seen.pose.problem))
    for subject, problem in bad:
        yield Finding(
            "pose_invalid",
            subject,
            f"The {'' if subject.startswith('pose') else 'transform '}{subject} cannot be used: {problem}.",
            "Look at the localisation that publishes it; such poses are dropped.",
        )


def _check_parents(seen: Observations) -> Iterator[Finding]:
    parents: dict[str, set[str]] = {}
    for edge in seen.edges:
        parents.setdefault(edge.child, set()).add(edge.parent)
    for child, names in parents.items():
        if len(names) > 1:
            listing = "' and '".join(sorted(names))
            yield Finding(
                "tf_several_parents",
                child,
                f"Frame '{child}' has several parents in TF: '{listing}'; its pose flips between them.",
                f"Let only one node publish a transform to '{child}' ('ros2 run tf2_tools view_frames' shows who does).",
            )


def _needs(seen: Observations) -> Iterator[_Need]:
    """The transforms that the node looks up, from the frames of the images that came."""
    settings = seen.settings
    for camera in seen.cameras():
        depth, color = seen.topics[f"{camera}depth/image"], seen.topics.get(f"{camera}rgb/image")
        for frame in _frames(depth):
            if settings.pose_source == "tf":
                yield _Need(settings.map_frame, frame, "the pose of the camera", depth)
            elif settings.pose_source in ("pose", "odom") and seen.pose is not None:
                parent = seen.pose.frame_id.lstrip("/")
                child = (seen.pose.child_frame_id or settings.pose_child_frame).lstrip("/")
                if parent not in ("", settings.map_frame):
                    yield _Need(settings.map_frame, parent, "from the poses to the map", depth)
                if child not in ("", frame):
                    yield _Need(child, frame, "from the poses to the camera", depth)
            for other in _frames(color) if color and not settings.has_extrinsics else ():
                if other != frame:
                    yield _Need(other, frame, "between the two images", depth)


def _frames(topic: TopicObservation) -> list[str]:
    return [frame.lstrip("/") for frame in topic.frame_ids if frame]


def _no_tf(seen: Observations, need: _Need) -> Finding:
    publishers = sum(len(seen.topics[role].publishers) for role in ("tf", "tf_static") if role in seen.topics)
    what = "nothing came" if publishers else "nobody publishes"
    if seen.source == "bag":
        what = "the bag has nothing"
    others = [f"{word} for {name}" for word, kind in (("pose", POSE), ("odom", ODOMETRY)) for name in seen.offered.get(kind, ())]
    return Finding(
        "tf_absent",
        "/tf",
        f"No transforms: {what} on /tf and /tf_static, and the node waits for '{need.target}' <- '{need.source}' ({need.why}).",
        f"Take the poses from a topic: set pose_source to {', or '.join(others[:3])}."
        if others and seen.settings.pose_source == "tf"
        else "Start what localises the robot, or 'ros2 run tf2_ros static_transform_publisher' for a fixed camera.",
    )


def _check_needs(seen: Observations, tree: _Tree, needs: list[_Need]) -> Iterator[Finding]:
    told: set[tuple[str, str]] = set()
    for need in needs:
        for finding in _check_need(seen, tree, need):
            if (finding.code, finding.subject) not in told:
                told.add((finding.code, finding.subject))
                yield finding


def _check_need(seen: Observations, tree: _Tree, need: _Need) -> Iterator[Finding]:
    if need.target == need.source:
        return
    unknown = [frame for frame in (need.target, need.source) if frame not in tree.frames]
    for frame in unknown:
        close = get_close_matches(frame, tree.frames, 1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        yield Finding(
            "tf_unknown_frame",
            frame,
            f"Frame '{frame}' is unknown to TF, but needed for {need.why}; known frames: {_listing(tree.frames)}{hint}.",
            f"Publish its transform, or set the parameter map_frame (now '{frame}') to the fixed frame of your robot."
            if frame == seen.settings.map_frame
            else "Publish its transform (robot_state_publisher or the camera driver usually does).",
        )
    path = None if unknown else tree.path(need.target, need.source)
    if path is not None:
        yield from _check_path(seen, need, path)
    elif not unknown:
        one, other = tree.chain(need.target)[-1], tree.chain(need.source)[-1]
        yield Finding(
            "tf_disconnected",
            f"'{need.target}' <- '{need.source}'",
            f"TF does not connect '{need.target}' and '{need.source}' ({need.why}): one hangs below '{one}', the other below "
            f"'{other}'.",
            f"Publish the transform '{one}' <- '{other}' (localisation or SLAM usually does).",
        )


def _listing(names: list[str]) -> str:
    return ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")


def _check_path(seen: Observations, need: _Need, path: list[EdgeObservation]) -> Iterator[Finding]:
    stamps = [stamp for stamp in need.images.stamps_ns if stamp]
    for edge in path:
        if edge.is_static or not stamps:
            continue
        name = f"'{edge.parent}' <- '{edge.child}'"
        problem = _outside(seen, stamps, edge.oldest_ns, edge.newest_ns, f"transform {name}", need.images.name)
        if problem:
            yield Finding(
                "tf_gap",
                name,
                problem,
                f"See what publishes {name}: it must go on, with stamps of the same clock as the images (use_sim_time, chrony); "
                "a fixed transform belongs on /tf_static.",
            )
        elif edge.max_gap_s > seen.settings.pose_max_gap_s:
            yield Finding(
                "tf_sparse",
                name,
                f"The transform {name} has gaps of up to {duration(edge.max_gap_s)}, more than pose_max_gap_s: no poses between.",
                "Let it be published at 10 Hz or more.",
            )


def _outside(seen: Observations, stamps: list[int], oldest_ns: int, newest_ns: int, what: str, images: str) -> str:
    """A sentence where images lie outside the time of poses, else empty."""
    newest = max(stamps)
    late_s = (newest - newest_ns) * 1e-9
    early_s = (oldest_ns - newest) * 1e-9
    if late_s > seen.settings.pose_timeout_s:
        return f"The newest {what} is {duration(late_s)} older than the newest image on '{images}'."
    if early_s > 0:
        return f"The oldest {what} is {duration(early_s)} newer than every image on '{images}'."
    if seen.source == "bag":  # a graph was there before we began to look; of a bag we have seen everything
        outside = sum(not oldest_ns <= stamp <= newest_ns for stamp in stamps)
        if outside > _PART_OUTSIDE * len(stamps):
            return f"{outside} of {len(stamps)} images on '{images}' were taken before the first or after the last {what}."
    return ""


def _check_pose_times(seen: Observations) -> Iterator[Finding]:
    pose, settings = seen.pose, seen.settings
    if pose is None or settings.pose_source not in seen.topics or pose.newest_ns == 0:
        return
    name = seen.topics[settings.pose_source].name
    for camera in seen.cameras():
        images = seen.topics[f"{camera}depth/image"]
        stamps = [stamp for stamp in images.stamps_ns if stamp]
        if not stamps:
            continue
        problem = _outside(seen, stamps, pose.oldest_ns, pose.newest_ns, f"pose on '{name}'", images.name)
        if not problem and pose.max_gap_s > settings.pose_max_gap_s:
            problem = f"Poses on '{name}' have gaps of up to {duration(pose.max_gap_s)}, more than pose_max_gap_s."
        if problem:
            yield Finding(
                "pose_gap",
                name,
                problem,
                "See what publishes them: it must go on, with stamps of the same clock as the images.",
            )
