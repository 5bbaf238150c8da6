"""Turns messages into observations: of a live graph, of a bag, and of the node itself.

Messages are read by their fields alone, so that those of rclpy and those of the package rosbags both do. Reading one costs some
microseconds: the node does it for every message that it gets.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mosaic3d_core.doctor.observations import (
    Calibration,
    ClockObservation,
    DepthValues,
    EdgeObservation,
    PoseObservation,
    TopicObservation,
    role_kinds,
)
from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.distortion import Distortion
from mosaic3d_core.imaging.calibration import read_calibration
from mosaic3d_core.imaging.raw_images import BAYER_ENCODINGS, COLOR_ENCODINGS, DEPTH_ENCODINGS, YUV_ENCODINGS

_SECOND = 1_000_000_000
# More would only be kept where messages come at several kHz; a bag is read once and may be long.
_MOST_SAMPLES = 200_000
_MOST_EDGES = 20_000
_LONGEST_NAME = 200
_PIXEL_BYTES = {
    **{encoding: channels for encoding, (channels, _) in COLOR_ENCODINGS.items()},
    **dict.fromkeys(BAYER_ENCODINGS, 1),
    **dict.fromkeys(YUV_ENCODINGS, 2),
    **{encoding: np.dtype(kind).itemsize for encoding, (kind, _) in DEPTH_ENCODINGS.items()},
}
_DEPTH_STRIDE = 61  # prime, so that it walks through all columns
_SLOW_PERIOD_S = 1.0  # what costs more than a microsecond or two is looked at this often
_SMALLEST_QUATERNION = 1e-6  # other lengths are normalised, see geometry.transforms


@dataclass
class _Sample:
    arrival_s: float
    stamp_ns: int | None
    age_s: float | None
    frame_id: str
    encoding: str
    size: tuple[int, int] | None
    num_bytes: int


@dataclass
class _Track:
    """What is kept of one role."""

    samples: deque[_Sample] = field(default_factory=lambda: deque(maxlen=_MOST_SAMPLES))
    total: int = 0
    problem: str = ""
    problem_s: float = -math.inf
    max_bytes: int = 0
    calibration: Calibration | None = None
    depth: DepthValues | None = None
    slow_s: float = -math.inf


@dataclass
class _Times:
    """Stamps of a stream of transforms or poses."""

    count: int = 0
    oldest_ns: int = 0
    newest_ns: int = 0
    max_gap_ns: int = 0
    problem: str = ""

    def add(self, stamp_ns: int, problem: str, jump_ns: int) -> None:
        self.problem = problem or self.problem
        if problem:
            return
        if self.count and stamp_ns < self.newest_ns - jump_ns:  # time started anew: what was before does not count
            self.count = 0
        if self.count == 0:
            self.oldest_ns, self.newest_ns, self.max_gap_ns = stamp_ns, stamp_ns, 0
        self.max_gap_ns = max(self.max_gap_ns, stamp_ns - self.newest_ns)
        self.oldest_ns, self.newest_ns = min(self.oldest_ns, stamp_ns), max(self.newest_ns, stamp_ns)
        self.count += 1


class Recorder:
    """Collects observations. Thread-safe.

    Args:
        window_s: How long a message counts, in seconds of the clock that gives ``arrival_s``; infinite for a bag.
        jump_back_s: A transform or pose this much older than the newest means that time started anew, seconds.
    """

    def __init__(self, window_s: float = math.inf, jump_back_s: float = 0.5) -> None:
        self._window_s = window_s
        self._jump_ns = round(jump_back_s * _SECOND)
        self._lock = threading.Lock()
        self._tracks: dict[str, _Track] = {}
        self._edges: dict[tuple[str, str, bool], _Times] = {}
        self._poses: _Times | None = None
        self._pose_frames = ("", "")
        self._clock: deque[tuple[float, int]] = deque(maxlen=_MOST_SAMPLES)

    def forget_topics(self) -> None:
        """Forget images, calibrations and counts of messages; transforms, poses and the clock stay."""
        with self._lock:
            self._tracks.clear()

    # Taking messages ----------------------------------------------------------------------------------------

    def see(self, role: str, message: Any, arrival_s: float, now_ns: int | None = None) -> None:
        """Take a message of any role.

        Args:
            role: See :mod:`mosaic3d_core.doctor.observations`.
            message: The message; only its fields are read.
            arrival_s: When it came, seconds of a clock that never jumps.
            now_ns: The observer's clock, to compare with stamps; None = there is none.
        """
        if role in ("tf", "tf_static"):
            self._see_transforms(role, message, arrival_s)
            return
        stamp_ns = stamp_of(message.header)
        sample = _Sample(
            arrival_s,
            stamp_ns,
            None if now_ns is None or stamp_ns == 0 else (now_ns - stamp_ns) * 1e-9,
            _name(message.header.frame_id),
            "",
            None,
            0,
        )
        with self._lock:
            track = self._tracks.setdefault(role, _Track())
            if role.endswith("camera_info"):
                if sample.arrival_s >= track.slow_s + _SLOW_PERIOD_S:
                    track.slow_s = sample.arrival_s
                    track.calibration = _calibration(message)
            elif role.endswith("image"):
                self._read_image(track, sample, message, is_depth=role.endswith("depth/image"))
            else:
                self._see_pose(message, stamp_ns)
            self._keep(track, sample)

    def see_clock(self, stamp_ns: int, arrival_s: float) -> None:
        """Take a message of ``/clock``."""
        with self._lock:
            self._clock.append((arrival_s, stamp_ns))
            while self._clock[0][0] < arrival_s - self._window_s:
                self._clock.popleft()

    def _keep(self, track: _Track, sample: _Sample) -> None:
        track.total += 1
        track.max_bytes = max(track.max_bytes, sample.num_bytes)
        track.samples.append(sample)
        self._forget(track, sample.arrival_s)

    def _forget(self, track: _Track, now_s: float) -> None:
        while track.samples and track.samples[0].arrival_s < now_s - self._window_s:
            track.samples.popleft()

    def _read_image(self, track: _Track, sample: _Sample, message: Any, is_depth: bool) -> None:
        sample.num_bytes = len(message.data)
        if not hasattr(message, "encoding"):  # CompressedImage
            sample.encoding = _name(message.format)
            problem = "" if sample.num_bytes else "it is compressed and carries no bytes"
        else:
            sample.encoding = _name(message.encoding)
            sample.size = (int(message.width), int(message.height))
            problem = _size_problem(message)
            if is_depth and not problem and sample.arrival_s >= track.slow_s + _SLOW_PERIOD_S:
                track.slow_s = sample.arrival_s
                track.depth = _sample_depth(message) or track.depth
        if problem:
            track.problem, track.problem_s = problem, sample.arrival_s

    def _see_transforms(self, role: str, message: Any, arrival_s: float) -> None:
        is_static = role == "tf_static"
        with self._lock:
            track = self._tracks.setdefault(role, _Track())
            self._keep(track, _Sample(arrival_s, None, None, "", "", None, 0))
            for item in message.transforms:
                parent, child = _name(item.header.frame_id).lstrip("/"), _name(item.child_frame_id).lstrip("/")
                key = (child, parent, is_static)
                if key not in self._edges and len(self._edges) >= _MOST_EDGES:
                    continue
                times = self._edges.setdefault(key, _Times())
                problem = _pose_problem(item.transform.translation, item.transform.rotation)
                if not parent or not child or parent == child:
                    problem = "it needs two different frame names"
                times.add(0 if is_static else stamp_of(item.header), problem, self._jump_ns)

    def _see_pose(self, message: Any, stamp_ns: int) -> None:
        body = message.pose.pose if hasattr(message.pose, "pose") else message.pose
        self._pose_frames = (_name(message.header.frame_id), _name(getattr(message, "child_frame_id", "")))
        self._poses = self._poses or _Times()
        self._poses.add(stamp_ns, _pose_problem(body.position, body.orientation), self._jump_ns)

    # Giving observations ------------------------------------------------------------------------------------

    def topics(self, names: Mapping[str, str], now_s: float, window_s: float) -> dict[str, TopicObservation]:
        """What came on the inputs; publishers are for the caller to add.

        Args:
            names: Name of the topic by role.
            now_s: Present time of the clock of ``arrival_s``.
            window_s: Length of the window, for rates, seconds.
        """
        with self._lock:
            return {role: self._topic(role, name, now_s, window_s) for role, name in names.items()}

    def _topic(self, role: str, name: str, now_s: float, window_s: float) -> TopicObservation:
        base = TopicObservation(role, name, role_kinds(role))
        track = self._tracks.get(role)
        if track is None:
            return base
        self._forget(track, now_s)
        samples = list(track.samples)
        span_s = samples[-1].arrival_s - samples[0].arrival_s if samples else 0.0
        # A stream that began or stopped within the window has the rate it had while it came.
        rate_hz = (len(samples) - 1) / span_s if span_s > 0 else (len(samples) / window_s if samples and window_s else None)
        return replace(
            base,
            count=len(samples),
            total=track.total,
            rate_hz=rate_hz,
            stamps_ns=tuple(s.stamp_ns for s in samples if s.stamp_ns is not None),
            ages_s=tuple(s.age_s for s in samples if s.age_s is not None),
            frame_ids=tuple(dict.fromkeys(s.frame_id for s in samples)),
            encodings=tuple(dict.fromkeys(s.encoding for s in samples if s.encoding)),
            sizes=tuple(dict.fromkeys(s.size for s in samples if s.size)),
            problem=track.problem if now_s - track.problem_s <= self._window_s else "",
            max_bytes=track.max_bytes,
            calibration=track.calibration,
            depth=track.depth,
        )

    def edges(self) -> tuple[EdgeObservation, ...]:
        """The transforms seen since the beginning."""
        with self._lock:
            return tuple(
                EdgeObservation(parent, child, is_static, t.count, t.oldest_ns, t.newest_ns, t.max_gap_ns / _SECOND, t.problem)
                for (child, parent, is_static), t in sorted(self._edges.items())
            )

    def pose(self) -> PoseObservation | None:
        """The poses seen since the beginning; None without any."""
        with self._lock:
            t = self._poses
            if t is None:
                return None
            return PoseObservation(*self._pose_frames, t.oldest_ns, t.newest_ns, t.max_gap_ns / _SECOND, t.problem)

    def clock(self, publishers: int) -> ClockObservation:
        """What came on ``/clock``."""
        with self._lock:
            advanced = (self._clock[-1][1] - self._clock[0][1]) / _SECOND if self._clock else 0.0
            return ClockObservation(publishers, len(self._clock), advanced)


def stamp_of(header: Any) -> int:
    """Stamp of a header in nanoseconds."""
    return int(header.stamp.sec) * _SECOND + int(header.stamp.nanosec)


def _name(text: Any) -> str:
    """A name out of a message, cut to what a name can be."""
    return str(text)[:_LONGEST_NAME]


def _calibration(message: Any) -> Calibration:
    size = (int(message.width), int(message.height))
    try:
        read = read_calibration(message, rectified=True)
    except FrameError as error:
        return Calibration(size, reason=error.reason, problem=str(error))
    problem = ""
    try:
        Distortion.from_message(str(message.distortion_model), message.d)
    except FrameError as error:
        problem = str(error)
    return Calibration(read.raw_size, float(read.camera.fx), distortion_problem=problem)


def _size_problem(message: Any) -> str:
    width, height, step, num_bytes = int(message.width), int(message.height), int(message.step), len(message.data)
    row = width * _PIXEL_BYTES.get(message.encoding, 1)
    if width == 0 or height == 0:
        return f"its size is {width}x{height}"
    if step < row or num_bytes < step * height:
        return (
            f"{width}x{height} {message.encoding} with {step} bytes per row carries {num_bytes} bytes instead of at least "
            f"{max(step, row) * height}"
        )
    return ""


def _sample_depth(message: Any) -> DepthValues | None:
    if message.encoding not in DEPTH_ENCODINGS:
        return None
    kind, _ = DEPTH_ENCODINGS[message.encoding]
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    data = np.frombuffer(message.data, np.uint8)
    values = data[: data.size - data.size % dtype.itemsize].view(dtype)[::_DEPTH_STRIDE].astype(np.float64)
    valid = values[np.isfinite(values) & (values > 0)]
    return DepthValues(valid.size / max(values.size, 1), float(np.median(valid)) if valid.size else math.nan)


def _pose_problem(position: Any, rotation: Any) -> str:
    numbers = (position.x, position.y, position.z, rotation.x, rotation.y, rotation.z, rotation.w)
    if not all(map(math.isfinite, numbers)):
        return "it holds NaN or infinite values"
    norm = math.sqrt(sum(q * q for q in numbers[3:]))
    if norm < _SMALLEST_QUATERNION:
        return "its quaternion is all zero: it was never set"
    return ""
