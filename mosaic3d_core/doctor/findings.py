"""Findings of the doctor, and the list of all codes in the order in which they are told: first causes first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
Area = Literal["node", "inputs", "poses", "map"]


@dataclass(frozen=True)
class Code:
    """One kind of finding.

    Attributes:
        code: Stable name, for scripts.
        severity: ``error``: no map, or a wrong one. ``warning``: it works, but worse than it could, or not for long.
        area: Part of the node's diagnostics under which it is published.
        title: A few words, for docs.
    """

    code: str
    severity: Severity
    area: Area
    title: str


CODES: tuple[Code, ...] = (
    Code("no_graph", "error", "node", "no other ROS 2 node in sight"),
    Code("node_absent", "error", "node", "perception_node does not run"),
    Code("node_silent", "warning", "node", "perception_node does not answer"),
    Code("node_inactive", "error", "node", "perception_node is not active"),
    Code("model_not_loaded", "error", "node", "the encoder is not loaded"),
    Code("node_paused", "warning", "node", "fusion is paused"),
    Code("transport_profile", "warning", "node", "the Fast DDS profile cannot be used"),
    Code("transport_small", "warning", "node", "shared memory too small for images and clouds"),
    Code("clock_absent", "error", "node", "simulated time without /clock"),
    Code("clock_stopped", "warning", "node", "/clock stands still"),
    Code("clock_unused", "warning", "node", "/clock is published but not used"),
    Code("topic_absent", "error", "inputs", "nobody publishes an input"),
    Code("topic_type", "error", "inputs", "an input has another message type"),
    Code("qos_incompatible", "error", "inputs", "publisher and node do not connect"),
    Code("topic_silent", "error", "inputs", "a publisher sends nothing"),
    Code("rate_low", "warning", "inputs", "images come slowly"),
    Code("image_malformed", "error", "inputs", "an image does not carry what it says"),
    Code("encoding_unsupported", "error", "inputs", "an encoding the node does not read"),
    Code("depth_empty", "warning", "inputs", "depth images without depth"),
    Code("depth_units", "warning", "inputs", "depth looks like millimetres in 32FC1"),
    Code("info_uncalibrated", "error", "inputs", "camera_info with K = 0"),
    Code("info_unusable", "error", "inputs", "camera_info that cannot be used"),
    Code("info_size", "error", "inputs", "image and camera_info differ in size"),
    Code("frame_empty", "error", "inputs", "images without a frame"),
    Code("frame_slash", "warning", "inputs", "a frame with a leading slash"),
    Code("frame_differs", "warning", "inputs", "image and camera_info differ in frame"),
    Code("stamp_zero", "error", "inputs", "messages without a time"),
    Code("stamp_age", "warning", "inputs", "stamps far from the clock"),
    Code("stamp_backwards", "warning", "inputs", "time jumps back"),
    Code("stamps_unsynchronised", "error", "inputs", "colour and depth do not pair"),
    Code("stamps_partly_unsynchronised", "warning", "inputs", "many images stay without partner"),
    Code("pose_invalid", "error", "poses", "a pose or transform with NaN, or no rotation"),
    Code("tf_absent", "error", "poses", "no transforms at all"),
    Code("tf_several_parents", "error", "poses", "a frame with two parents"),
    Code("tf_unknown_frame", "error", "poses", "a frame that TF does not know"),
    Code("tf_disconnected", "error", "poses", "TF consists of two trees"),
    Code("tf_gap", "error", "poses", "a transform is older or newer than the images"),
    Code("tf_sparse", "warning", "poses", "long gaps between transforms"),
    Code("pose_gap", "error", "poses", "poses are older or newer than the images"),
    Code("worker_failed", "error", "map", "fusion or encoding failed"),
    Code("nothing_fused", "error", "map", "images come but none is used"),
    Code("frames_dropped", "warning", "map", "some frames are dropped"),
)
"""All codes, in the order of docs/troubleshooting.md."""

_BY_NAME = {entry.code: entry for entry in CODES}
_RANK = {entry.code: rank for rank, entry in enumerate(CODES)}


@dataclass(frozen=True)
class Finding:
    """Something that is missing or does not match.

    Attributes:
        code: One of :data:`CODES`.
        subject: What it is about: a topic, a frame, a node.
        problem: One sentence: what is wrong.
        remedy: One sentence: what to do.
    """

    code: str
    subject: str
    problem: str
    remedy: str

    def __post_init__(self) -> None:
        if self.code not in _BY_NAME:
            raise ValueError(f"'{self.code}' is not a code of the doctor; add it to CODES in {__name__}.")

    @property
    def severity(self) -> Severity:
        """Severity of its code."""
        return _BY_NAME[self.code].severity

    @property
    def area(self) -> Area:
        """Area of its code."""
        return _BY_NAME[self.code].area

    @property
    def rank(self) -> int:
        """Place in the order of :data:`CODES`."""
        return _RANK[self.code]
