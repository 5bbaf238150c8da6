"""Checks of what images and calibrations carry: encodings, sizes, depth, intrinsics, frames."""

from __future__ import annotations

from collections.abc import Iterator

from mosaic3d_core.doctor.findings import Finding
from mosaic3d_core.doctor.observations import COMPRESSED, Calibration, Observations, TopicObservation
from mosaic3d_core.imaging.frame_reader import is_rectified_topic

_LEAST_VALID_DEPTH = 0.01
_FARTHEST_DEPTH_M = 100.0
"""No RGB-D camera sees farther; a median beyond means another unit."""


def check_images(seen: Observations) -> Iterator[Finding]:
    """Encodings, sizes and values of the images."""
    for topic in seen.topics.values():
        if not topic.role.endswith("image") or not topic.total:
            continue
        if topic.problem:
            yield Finding(
                "image_malformed",
                topic.name,
                f"An image on '{topic.name}' cannot be read: {topic.problem}.",
                "Fix the publisher: data must hold height x step bytes, and step at least width x bytes per pixel.",
            )
        is_depth = topic.role.endswith("depth/image")
        yield from _check_encoding(seen, topic, is_depth)
        if is_depth:
            yield from _check_depth(topic)


def _check_encoding(seen: Observations, topic: TopicObservation, is_depth: bool) -> Iterator[Finding]:
    if any(p.kind == COMPRESSED for p in topic.publishers):  # the format of those is free text
        return
    known = seen.settings.depth_encodings if is_depth else seen.settings.color_encodings
    for encoding in topic.encodings:
        if encoding not in known:
            what = "depth" if is_depth else "colour"
            swapped = encoding in (seen.settings.color_encodings if is_depth else seen.settings.depth_encodings)
            yield Finding(
                "encoding_unsupported",
                topic.name,
                f"The {what} images on '{topic.name}' have encoding '{encoding}'; the node reads {', '.join(known)}.",
                "Colour and depth seem to be exchanged: look at the remappings."
                if swapped
                else "Choose another encoding in the driver, or convert the images, for example with image_proc.",
            )


def _check_depth(topic: TopicObservation) -> Iterator[Finding]:
    if topic.depth is None:
        return
    if topic.depth.valid_share < _LEAST_VALID_DEPTH:
        yield Finding(
            "depth_empty",
            topic.name,
            f"{100 * topic.depth.valid_share:.1f} % of the pixels on '{topic.name}' have a depth.",
            "See whether the lens is covered, the projector is off, or everything is nearer than the camera can see.",
        )
    elif "32FC1" in topic.encodings and topic.depth.median > _FARTHEST_DEPTH_M:
        yield Finding(
            "depth_units",
            topic.name,
            f"The median depth on '{topic.name}' is {topic.depth.median:.0f} m: 32FC1 must be metres (REP-118).",
            "Let the driver publish metres, or 16UC1 for millimetres.",
        )


def check_calibrations(seen: Observations) -> Iterator[Finding]:
    """K of each camera_info, and its size against the images."""
    for camera in seen.cameras():
        for part in ("rgb", "depth"):
            info = seen.topics.get(f"{camera}{part}/camera_info")
            if info is None or info.calibration is None:
                continue
            image = seen.topics.get(f"{camera}{part}/image")
            yield from _check_calibration(seen, info, info.calibration, image)


def _check_calibration(
    seen: Observations, info: TopicObservation, calibration: Calibration, image: TopicObservation | None
) -> Iterator[Finding]:
    if calibration.reason == "bad_intrinsics":
        yield Finding(
            "info_uncalibrated",
            info.name,
            f"'{info.name}' has no usable K: {_lower(calibration.problem)}",
            "Publish its calibration: fx, fy, cx, cy in pixels in K (and in P for rectified images).",
        )
        return
    if calibration.problem:
        yield Finding(
            "info_unusable", info.name, f"'{info.name}' cannot be used: {_lower(calibration.problem)}", "Correct the driver."
        )
        return
    if image is None:
        return
    for other in image.sizes:
        if other != calibration.size:
            yield Finding(
                "info_size",
                image.name,
                f"Images on '{image.name}' are {other[0]}x{other[1]} but '{info.name}' says "
                f"{calibration.size[0]}x{calibration.size[1]}.",
                "Remap to the camera_info of these images; a resized image needs a resized K.",
            )
    raw = seen.settings.images_are == "raw" or (seen.settings.images_are == "auto" and not is_rectified_topic(image.name))
    if raw and calibration.distortion_problem:
        yield Finding(
            "info_unusable",
            info.name,
            f"The distortion in '{info.name}' cannot be undone: {_lower(calibration.distortion_problem)}",
            "Rectify the images (image_proc), or set images_are to rectified where they are.",
        )


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".") + "."


def check_frames(seen: Observations) -> Iterator[Finding]:
    """Frame names of images and calibrations."""
    for camera in seen.cameras():
        for part in ("rgb", "depth"):
            image, info = seen.topics.get(f"{camera}{part}/image"), seen.topics.get(f"{camera}{part}/camera_info")
            if image is None:
                continue
            yield from _check_names(image, needed=part == "depth")
            if info is None:
                continue
            a, b = ({frame.lstrip("/") for frame in topic.frame_ids if frame} for topic in (image, info))
            if a and b and a != b:
                yield Finding(
                    "frame_differs",
                    image.name,
                    f"Images on '{image.name}' are in frame '{_list(a)}' but '{info.name}' is in '{_list(b)}'.",
                    "Both must name the optical frame (z forward) of the same camera; the node takes that of the image.",
                )


def _list(names: set[str]) -> str:
    return "', '".join(sorted(names))


def _check_names(image: TopicObservation, needed: bool) -> Iterator[Finding]:
    if "" in image.frame_ids and needed:
        yield Finding(
            "frame_empty",
            image.name,
            f"Images on '{image.name}' have an empty frame_id: their pose cannot be looked up.",
            "Let the driver set header.frame_id to the optical frame of the camera.",
        )
    slashed = [frame for frame in image.frame_ids if frame.startswith("/")]
    if slashed:
        yield Finding(
            "frame_slash",
            image.name,
            f"Images on '{image.name}' are in frame '{slashed[0]}': names of TF2 frames have no leading slash.",
            f"Name it '{slashed[0].lstrip('/')}'; perception_node strips the slash, other nodes do not.",
        )
