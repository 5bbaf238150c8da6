"""Small rooms in which two things touch: what finds objects has to tell them apart.

Deterministic, as whole rooms are: the same kind and seed give the same two things in the same room, recorded the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mosaic3d_core.data.synthetic.furniture import MAKERS
from mosaic3d_core.data.synthetic.furniture.model import ObjectModel
from mosaic3d_core.data.synthetic.layout import RoomPlan
from mosaic3d_core.data.synthetic.mesh import rotation_z
from mosaic3d_core.data.synthetic.scene import assemble_room, room_rng
from mosaic3d_core.data.synthetic.sensor import SensorModel
from mosaic3d_core.data.synthetic.sequence import SequenceConfig, SyntheticSequence

#: First of the random streams of a seed that belong to staged rooms, one per kind.
_STREAM = 20
#: Room for both things and for someone who walks around them, metres.
_SIDE_M = (3.2, 4.2)
_TRIES = 100
#: What besides chairs is pushed together: classes of which several of one kind stand in many rooms.
_ALIKE = ("armchair", "stool", "office chair", "nightstand", "cabinet", "box", "suitcase", "trash can", "coffee table", "desk")
#: No table-top thing is always small: the smallest of so many draws is.
_SMALL_OF = 8


@dataclass(frozen=True, eq=False)
class StagedPair:
    """Two things that touch.

    Attributes:
        kind: One of `STAGED`.
        sequence: The recording of their room.
        first: Instance id of the one, of which the other stands on top or beside.
        second: Instance id of the other.
    """

    kind: str
    sequence: SyntheticSequence
    first: int
    second: int


def stage(kind: str, seed: int, split: str = "test", sensor: SensorModel | None = None, **options: float) -> StagedPair:
    """Set up and record two things that touch.

    Args:
        kind: One of `STAGED`: "chairs" (pushed together: side by side, back to back or head to tail, of one make or not), "on
            table" (a small box or lamp on a table, desk or coffee table), "pillow on bed" or "alike" (as chairs, two armchairs,
            stools, boxes and so on).
        seed: Any non-negative integer; it decides about shapes, colours, poses, the room and the recording.
        split: "train", "val" or "test".
        sensor: Noise model, default Kinect-like.
        **options: Fields of `SequenceConfig`.

    Raises:
        ValueError: For an unknown kind, split or option value, or a negative seed.
    """
    if kind not in STAGED:
        raise ValueError(f"unknown kind of staged room {kind!r}: expected one of {', '.join(STAGED)}")
    if seed < 0:
        raise ValueError(f"room seed must be >= 0, got {seed}")
    rng = room_rng(seed, split, _STREAM + list(STAGED).index(kind))
    room, place = STAGED[kind]
    for _ in range(_TRIES):
        width, depth = (float(side) for side in rng.uniform(*_SIDE_M, 2))
        plan = RoomPlan(width, depth, float(rng.uniform(2.35, 2.9)), rng)
        plan.add_opening(MAKERS["door"](rng))
        plan.add_opening(MAKERS["window"](rng), float(rng.uniform(0.75, 1.0)))
        pair = place(plan)
        if pair is not None:
            plan.hang(MAKERS["picture"](rng), float(rng.uniform(1.2, 1.6)))
            scene = assemble_room(plan, room, f"{split}-{kind.replace(' ', '-')}-{seed}", rng)
            shell = len(scene.instances) - len(plan.placements)
            first, second = (shell + index + 1 for index in pair)
            return StagedPair(kind, SyntheticSequence(scene, SequenceConfig(**options), sensor, (seed, split)), first, second)  # type: ignore[arg-type]
    raise RuntimeError(f"no room for {kind} in {_TRIES} tries with seed {seed}")


def _chairs(plan: RoomPlan) -> tuple[int, int] | None:
    return _pushed_together(plan, "chair")


def _alike(plan: RoomPlan) -> tuple[int, int] | None:
    return _pushed_together(plan, _ALIKE[int(plan.rng.integers(len(_ALIKE)))])


def _pushed_together(plan: RoomPlan, name: str) -> tuple[int, int] | None:
    rng = plan.rng
    one = MAKERS[name](rng)
    other = one if rng.random() < 0.5 else MAKERS[name](rng)
    index = plan.stand_free(one, margin=0.5)
    if index is None:
        return None
    axis, sign, yaw = ((0, 1, 0.0), (0, -1, 0.0), (0, 1, np.pi), (1, -1, np.pi))[int(rng.integers(4))]
    yaw += float(rng.normal(0, 0.04))
    away = sign * (_reach(one, axis, sign) + _reach(other, axis, -sign, yaw) + float(rng.uniform(0.0, 0.008)))
    beside = float(rng.normal(0, 0.03))
    place = plan.relative(index, other, *((away, beside) if axis == 0 else (beside, away)), yaw)
    x0, x1, y0, y1 = place.footprint
    clear = min(x0, plan.width - x1, y0, plan.depth - y1) > 0.1  # of what hangs on the walls
    return (index, plan.commit(place)) if clear else None


def _reach(model: ObjectModel, axis: int, sign: int, yaw: float = 0.0) -> float:
    """How far a turned thing extends from its origin along x or y, metres; its mesh, not the footprint it reserves."""
    vertices = model.mesh.merged()[0] @ rotation_z(yaw).T
    return float((sign * vertices[:, axis]).max())


def _on_table(plan: RoomPlan) -> tuple[int, int] | None:
    rng = plan.rng
    table = MAKERS[("table", "coffee table", "desk")[int(rng.integers(3))]](rng)
    drawn = [MAKERS[name](rng) for name in [("box", "lamp")[int(rng.integers(2))]] * _SMALL_OF]
    index = plan.stand_free(table, margin=0.4)
    if index is None:
        return None
    top = plan.on_top(index, min(drawn, key=lambda one: float(np.prod(one.size))), face_front=False)
    return None if top is None else (index, top)


def _pillow(plan: RoomPlan) -> tuple[int, int] | None:
    index = plan.stand_at_wall(MAKERS["bed"](plan.rng))
    if index is None:
        return None
    top = plan.on_top(index, MAKERS["pillow"](plan.rng))
    return None if top is None else (index, top)


#: Kinds of staged rooms: kind of the room, and what puts the two things into its plan.
STAGED: Mapping[str, tuple[str, Callable[[RoomPlan], tuple[int, int] | None]]] = MappingProxyType(
    {
        "chairs": ("living room", _chairs),
        "on table": ("office", _on_table),
        "pillow on bed": ("bedroom", _pillow),
        "alike": ("studio", _alike),
    }
)
