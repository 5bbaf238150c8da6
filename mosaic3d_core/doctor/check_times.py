"""Checks of stamps: there, near the clock, forwards, and near enough between colour and depth."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from mosaic3d_core.doctor.findings import Finding
from mosaic3d_core.doctor.observations import Observations

_OLD_S = 2.0
"""Older than this on arrival: no transport takes so long, clocks differ."""
_FUTURE_S = 0.1
"""Newer than the clock by this: clocks of two machines differ."""
_FEW_PAIRS = 0.8
_HARDLY_ANY_PAIRS = 0.5
_JUMP_BACK_S = 0.5


@dataclass(frozen=True)
class Pairing:
    """How well two streams of images pair.

    Attributes:
        share: Part of the images of the rarer stream that have a partner, in [0, 1].
        offset_s: Median distance in time of those without one to the nearest of the other stream, seconds; 0 where all have one.
        count: Images that were compared.
    """

    share: float
    offset_s: float
    count: int


def pair(color_ns: Sequence[int], depth_ns: Sequence[int], slop_s: float) -> Pairing | None:
    """Compare two streams by their stamps.

    Images outside the time of the other stream are left out, as one of the two always begins first; where the streams do not
    overlap at all, all count.

    Args:
        color_ns: Stamps of one, nanoseconds, any order.
        depth_ns: Stamps of the other.
        slop_s: Largest distance of a pair, seconds.

    Returns:
        None where one of them is empty.
    """
    if not color_ns or not depth_ns:
        return None
    few, many = sorted((sorted(color_ns), sorted(depth_ns)), key=len)
    slop_ns = round(slop_s * 1e9)
    inside = [stamp for stamp in few if many[0] - slop_ns <= stamp <= many[-1] + slop_ns] or few
    offsets = [_distance(stamp, many) for stamp in inside]
    misses = [offset for offset in offsets if offset > slop_ns]
    return Pairing(1.0 - len(misses) / len(offsets), median(misses) * 1e-9 if misses else 0.0, len(offsets))


def _distance(stamp_ns: int, stamps_ns: Sequence[int]) -> int:
    at = bisect_left(stamps_ns, stamp_ns)
    return min(abs(other - stamp_ns) for other in stamps_ns[max(at - 1, 0) : at + 1])


def check_stamps(seen: Observations) -> Iterator[Finding]:
    """Stamps of each image topic by itself."""
    for topic in seen.topics.values():
        if not topic.role.endswith("image") or not topic.stamps_ns:
            continue
        if 0 in topic.stamps_ns:
            yield Finding(
                "stamp_zero",
                topic.name,
                f"Images on '{topic.name}' have stamp 0: they belong to no pose.",
                "Let the driver set header.stamp to the time at which the image was taken.",
            )
            continue
        if topic.ages_s:
            age_s = median(topic.ages_s)
            if age_s > _OLD_S or age_s < -_FUTURE_S:
                clock = "/clock" if seen.settings.use_sim_time else "this machine's clock"
                side = "behind" if age_s > 0 else "ahead of"
                yield Finding(
                    "stamp_age",
                    topic.name,
                    f"Stamps on '{topic.name}' are {duration(abs(age_s))} {side} {clock}.",
                    "Synchronise the clocks of the machines (chrony), or set use_sim_time everywhere where a bag or simulator "
                    "gives the time.",
                )
        steps = [b - a for a, b in zip(topic.stamps_ns, topic.stamps_ns[1:])]
        if steps and min(steps) < -_JUMP_BACK_S * 1e9:
            yield Finding(
                "stamp_backwards",
                topic.name,
                f"Stamps on '{topic.name}' jumped back by {duration(-min(steps) * 1e-9)}.",
                "That is normal where a bag loops; otherwise two drivers publish the same topic, or the clock was set.",
            )


def check_pairs(seen: Observations) -> Iterator[Finding]:
    """Stamps of colour against depth."""
    for camera in seen.cameras():
        color, depth = seen.topics.get(f"{camera}rgb/image"), seen.topics[f"{camera}depth/image"]
        if color is None or 0 in color.stamps_ns or 0 in depth.stamps_ns:
            continue
        slop_s = seen.settings.sync_slop_s
        found = pair(color.stamps_ns, depth.stamps_ns, slop_s)
        if found is None or found.count < 2 or found.share >= _FEW_PAIRS:
            continue
        hardly = found.share < _HARDLY_ANY_PAIRS
        yield Finding(
            "stamps_unsynchronised" if hardly else "stamps_partly_unsynchronised",
            depth.name,
            f"{100 * found.share:.0f} % of the images on '{color.name}' and '{depth.name}' pair within {slop_s * 1e3:g} ms; the "
            f"others are typically {duration(found.offset_s)} apart.",
            f"Synchronise the streams in the driver, or raise sync_slop_s above {found.offset_s:.3f} s if the camera is slow."
            if found.offset_s < 1.0
            else "Let both streams be stamped by the same clock.",
        )


def duration(seconds: float) -> str:
    """A time span for people, from milliseconds to days."""
    if seconds < 1.0:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 600.0:
        return f"{seconds:.1f} s"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
