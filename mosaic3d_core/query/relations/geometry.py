"""How far a relation holds between two things: a grade in [0, 1] from their voxels, and the words that say why.

Things have z up. Thresholds and their units: :class:`RelationConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.query.relations.config import RelationConfig
from mosaic3d_core.query.relations.shapes import Shape, bounds_distance, distance, outline_distance, outline_of, ways_from_outline
from mosaic3d_core.query.relations.viewpoint import Viewpoint
from mosaic3d_core.query.relations.words import Relation

# Edge of the columns in which an anchor's surface is looked for, metres.
_COLUMN_M = 0.05
# The lowest part of a thing is judged by about this many of its voxels.
_FOOT_POINTS = 200
# Of an anchor, only what is this close to a thing may carry it, metres.
_LOCAL_M = 0.5
# A carrying surface is free above: nothing of the anchor in this much, metres. A leg goes on upwards, a shelf's board does not.
_FREE_M = 0.15
# A wall is thin and tall, a ceiling is thin and lies flat, metres.
_THIN_M, _TALL_M = 0.3, 0.8
# What lies nearer to an outline is on it: which side the last digit falls on says nothing.
_ROUNDING_M = 1e-6


@dataclass(frozen=True)
class Graded:
    """A grade and its reason.

    Attributes:
        value: In [0, 1].
        words: What stands between the two names: ``is 0.31 m from {} (near)``; two places for two anchors.
    """

    value: float
    words: str


def ramp(value: float, limits: tuple[float, float]) -> float:
    """1 at ``limits[0]`` and beyond, 0 at ``limits[1]`` and beyond, linear between them."""
    full, none = limits
    return float(min(max((value - none) / (full - none), 0.0), 1.0))


def grade(relation: Relation, thing: Shape, anchor: Shape, view: Viewpoint | None, config: RelationConfig) -> Graded:
    """How far ``thing`` is in a relation to ``anchor``.

    Args:
        relation: Any with one anchor; ``FAR`` is about all anchors, it is no relation of two (``matching.py``).
        thing: What is looked for.
        anchor: What it is related to.
        view: For the directions; must be given for those.
        config: Thresholds.
    """
    if relation in _AXES:
        assert view is not None, "directions need a viewpoint"
        return _direction(relation, thing, anchor, view, config)
    return _GRADES[relation](thing, anchor, config)


def upper_bound(relation: Relation, thing: Shape, anchor: Shape, config: RelationConfig) -> float:
    """A grade that :func:`grade` does not exceed, from the bounds alone."""
    if relation in _BY_DISTANCE:
        return ramp(bounds_distance(thing, anchor), getattr(config, _BY_DISTANCE[relation]))
    apart = float(np.linalg.norm(np.maximum(0.0, np.maximum(thing.low - anchor.high, anchor.low - thing.high))[:2]))
    if relation in (Relation.UNDER, Relation.ABOVE):
        return ramp(apart, config.column_m)
    if relation in _AXES:
        return ramp(apart, config.direction_reach_m)
    return 1.0


def _near(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    apart = distance(thing, anchor)
    return Graded(ramp(apart, config.near_m), f"is {apart:.2f} m from {{}} (near)")


def _against(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    apart = distance(thing, anchor)
    return Graded(ramp(apart, config.against_m), f"is {apart:.2f} m from {{}} (against)")


def _beside(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    apart = distance(thing, anchor)
    value = ramp(apart, config.beside_m)
    if anchor.box is not None:  # a place has no height
        shared = (
            min(thing.high[2], anchor.high[2]) - max(thing.low[2], anchor.low[2]) + min(thing.voxel_size_m, anchor.voxel_size_m)
        )
        value = min(value, ramp(float(shared) / max(min(thing.height, anchor.height), 1e-9), config.beside_overlap))
    return Graded(value, f"is {apart:.2f} m from {{}} (next to)")


def _on(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    best = _mounted(thing, anchor, config)  # first: the noise of a wall can look like a ledge below a picture
    for other in (_supported, _hanging):
        if best.value < 1.0:
            best = max(best, other(thing, anchor, config), key=lambda one: one.value)
    return best


def _supported(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    """Standing on a surface: below the thing's lowest part, free above, and under enough of it."""
    nothing = Graded(0.0, "does not stand on {}")
    bottom = thing.bottom
    full, none = config.support_gap_m
    low, high = thing.low - _LOCAL_M, thing.high + _LOCAL_M
    low[2], high[2] = bottom - none, bottom + full + _FREE_M
    local = anchor.within(low, high)
    carrying, above = local[local[:, 2] <= bottom + full], local[local[:, 2] > bottom + full]
    carrying = carrying[~np.isin(_columns(carrying), _columns(above))]
    if len(carrying) == 0:
        return nothing
    foot = thing.points[thing.points[:, 2] <= bottom + config.support_layer_m][:, :2]
    foot = foot[:: max(1, len(foot) // _FOOT_POINTS)]
    share = float((outline_distance(outline_of(carrying[:, :2]), foot) <= thing.voxel_size_m).mean())
    gap = abs(bottom - float(np.quantile(carrying[:, 2], 0.9)))
    return Graded(min(ramp(gap, config.support_gap_m), ramp(share, config.support_share)), f"stands on {{}} (gap {gap:.2f} m)")


def _columns(points: NDArray[np.float64]) -> NDArray[np.int64]:
    cells = np.floor(points[:, :2] / _COLUMN_M).astype(np.int64)
    return np.asarray(cells[:, 0] * (1 << 32) + cells[:, 1])


def _mounted(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    """Fixed to something thin and tall, above where it begins."""
    nothing = Graded(0.0, "is not fixed to {}")
    if anchor.height < _TALL_M or len(anchor.points) < 3:
        return nothing
    flat = anchor.points[:, :2] - anchor.points[:, :2].mean(axis=0)
    _, axes = np.linalg.eigh(flat.T @ flat)
    across, along = anchor.points[:, :2] @ axes[:, 0], anchor.points[:, :2] @ axes[:, 1]
    back, front = (float(v) for v in np.quantile(across, [0.05, 0.95]))
    place = float(thing.center[:2] @ axes[:, 1])
    beyond = not along.min() <= place <= along.max() or not anchor.low[2] <= thing.center[2] <= anchor.high[2]
    if front - back > _THIN_M or beyond or thing.low[2] < anchor.low[2] + config.mounted_height_m:
        return nothing
    middle = float(np.median(thing.points[:, :2] @ axes[:, 0]))
    gap = max(0.0, back - middle, middle - front)
    return Graded(ramp(gap, config.mounted_gap_m), f"is mounted on {{}} ({gap:.2f} m from its plane)")


def _hanging(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    """Hanging from something flat above."""
    low, high = anchor.height_range
    gap = abs(low - float(thing.high[2]))
    within = ((thing.center >= anchor.low) & (thing.center <= anchor.high))[:2].all()
    wide = ((anchor.high - anchor.low)[:2] > _THIN_M).all()
    value = ramp(gap, config.support_gap_m) if high - low <= _THIN_M and within and wide and thing.center[2] < low else 0.0
    return Graded(value, f"hangs from {{}} (gap {gap:.2f} m)")


def _under(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    value, apart = _below(thing, anchor, config)
    return Graded(value, f"is under {{}} ({apart:.2f} m aside)")


def _above(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    value, apart = _below(anchor, thing, config)
    return Graded(value, f"is above {{}} ({apart:.2f} m aside)")


def _below(lower: Shape, upper: Shape, config: RelationConfig) -> tuple[float, float]:
    """Grade, and horizontal distance, of a thing and what of the other one is higher."""
    higher = upper.points[upper.points[:, 2] >= lower.high[2] - config.level_tolerance_m]
    if len(higher) == 0 or upper.center[2] <= lower.center[2]:
        return 0.0, float("inf")
    middle = (higher.min(axis=0) + higher.max(axis=0)) / 2
    outline = upper.outline if len(higher) == len(upper.points) else outline_of(higher[:, :2])
    apart = min(
        float(outline_distance(outline, lower.center[None, :2])[0]),
        float(outline_distance(lower.outline, middle[None, :2])[0]),
    )
    return ramp(apart, config.column_m), apart


def _in(thing: Shape, anchor: Shape, config: RelationConfig) -> Graded:
    if anchor.box is None or thing.box is None or thing.box.volume >= anchor.box.volume:
        return Graded(0.0, "is not inside {}")
    local = (thing.points - anchor.box.center) @ anchor.box.rotation
    share = float((np.abs(local) <= anchor.box.size / 2 + 0.5 * anchor.voxel_size_m).all(axis=1).mean())
    return Graded(ramp(share, config.inside_share), f"is inside {{}} ({share:.0%} of it)")


def _direction(relation: Relation, thing: Shape, anchor: Shape, view: Viewpoint, config: RelationConfig) -> Graded:
    axis = {"left": view.left, "forward": view.forward}[_AXES[relation][0]] * _AXES[relation][1]
    # "in front of the table" is on this side of it, "in front of me" is where I look to
    if anchor.box is None and _AXES[relation][0] == "forward":
        axis = -axis
    way, length = _way(anchor, thing)
    if length <= 0.0:
        return Graded(0.0, f"is not {relation.value} {{}}")
    off = float(np.degrees(np.arccos(np.clip(way @ axis / length, -1.0, 1.0))))
    value = min(ramp(off, config.direction_deg), ramp(length, config.direction_reach_m))
    return Graded(value, f"is {relation.value} {{}} ({length:.2f} m, {off:.0f} degrees off)")


def _way(anchor: Shape, thing: Shape) -> tuple[NDArray[np.float64], float]:
    """Horizontal way from the anchor's outline to the thing's centre; no length where the centre lies over the anchor."""
    way = ways_from_outline(anchor.outline, thing.center[None, :2])[0]
    length = float(np.linalg.norm(way))
    return way, length if length > _ROUNDING_M else 0.0


def grades_between(
    thing: Shape, first: Sequence[Shape], second: Sequence[Shape], config: RelationConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far ``thing`` is between two anchors, for all pairs of some.

    The angle at the thing's centre between the ways to both anchors counts, horizontally. A thing whose centre lies over an
    anchor is not between it and another.

    Returns:
        Grades in [0, 1] and angles in degrees, (len(first), len(second)) each.
    """
    sides = []
    for anchors in (first, second):
        ways = [_way(anchor, thing) for anchor in anchors]
        sides.append(np.array([way / length if length > 0 else (np.nan, np.nan) for way, length in ways]).reshape(-1, 2))
    angles = np.degrees(np.arccos(np.clip(sides[0] @ sides[1].T, -1.0, 1.0)))
    full, none = config.between_deg
    return np.nan_to_num(np.clip((angles - none) / (full - none), 0.0, 1.0), nan=0.0), angles


_AXES: Mapping[Relation, tuple[str, float]] = MappingProxyType(
    {
        Relation.LEFT: ("left", 1.0),
        Relation.RIGHT: ("left", -1.0),
        Relation.FRONT: ("forward", -1.0),
        Relation.BEHIND: ("forward", 1.0),
    }
)
_BY_DISTANCE: Mapping[Relation, str] = MappingProxyType(
    {Relation.NEAR: "near_m", Relation.BESIDE: "beside_m", Relation.AGAINST: "against_m"}
)
_GRADES: Mapping[Relation, Callable[[Shape, Shape, RelationConfig], Graded]] = MappingProxyType(
    {
        Relation.NEAR: _near,
        Relation.BESIDE: _beside,
        Relation.ON: _on,
        Relation.UNDER: _under,
        Relation.ABOVE: _above,
        Relation.IN: _in,
        Relation.AGAINST: _against,
    }
)
