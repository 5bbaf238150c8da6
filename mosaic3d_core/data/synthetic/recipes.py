"""What stands in a living room, bedroom, kitchen, office, bathroom or studio, and how it is grouped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from mosaic3d_core.data.synthetic.furniture import MAKERS
from mosaic3d_core.data.synthetic.furniture.model import ObjectModel
from mosaic3d_core.data.synthetic.layout import RoomPlan

Group = Callable[[RoomPlan], None]


def _make(plan: RoomPlan, name: str) -> ObjectModel:
    return MAKERS[name](plan.rng)


def _maybe(plan: RoomPlan, probability: float) -> bool:
    return bool(plan.rng.random() < probability)


def sleeping(plan: RoomPlan) -> None:
    """Bed with pillows, nightstands beside it, a lamp on one."""
    rng = plan.rng
    bed = _make(plan, "bed")
    index = plan.stand_at_wall(bed)
    if index is None:
        return
    for _ in range(2 if bed.size[0] > 1.2 else 1):
        plan.on_top(index, _make(plan, "pillow"))
    base = plan.placements[index]
    for side in (-1, 1):
        if not _maybe(plan, 0.75):
            continue
        stand = _make(plan, "nightstand")
        place = plan.relative(
            index,
            stand,
            side * (bed.size[0] / 2 + stand.size[0] / 2 + rng.uniform(0.04, 0.12)),
            -bed.size[1] / 2 + stand.size[1] / 2,
            0.0,
        )
        k = plan.put(place)
        if k is not None and _maybe(plan, 0.5):
            lamp = _make(plan, "lamp")
            if lamp.size[2] < 0.8:
                plan.on_top(k, lamp)
    if _maybe(plan, 0.4) and base.wall is not None:
        plan.put(plan.relative(index, _make(plan, "rug"), rng.normal(0, 0.2), bed.size[1] / 2 + 0.3, 0.0), solid=False)


def lounging(plan: RoomPlan) -> None:
    """Sofa with cushions, coffee table and rug in front, armchairs, a TV on a cabinet across."""
    rng = plan.rng
    sofa = _make(plan, "sofa")
    index = plan.stand_at_wall(sofa)
    if index is None:
        return
    for _ in range(int(rng.integers(0, 3))):
        plan.on_top(index, _make(plan, "pillow"))
    table = _make(plan, "coffee table")
    gap = sofa.size[1] / 2 + table.size[1] / 2 + rng.uniform(0.28, 0.5)
    if _maybe(plan, 0.6):
        plan.put(plan.relative(index, _make(plan, "rug"), 0.0, gap, 0.0), solid=False)
    if _maybe(plan, 0.85):
        plan.put(plan.relative(index, table, rng.normal(0, 0.1), gap, rng.normal(0, 0.05)), 0.05)
    for side in (-1, 1):
        if _maybe(plan, 0.4):
            chair = _make(plan, "armchair")
            plan.put(
                plan.relative(
                    index,
                    chair,
                    side * (sofa.size[0] / 2 + 0.6),
                    gap + rng.uniform(-0.1, 0.3),
                    -side * np.pi / 2 * rng.uniform(-1.1, -0.6),
                ),
                0.05,
            )
    wall = plan.placements[index].wall
    if wall is not None and _maybe(plan, 0.75):
        stand = plan.stand_at_wall(_make(plan, "cabinet"), wall=(wall + 2) % 4)
        if stand is not None:
            plan.on_top(stand, _make(plan, "tv"))


def dining(plan: RoomPlan) -> None:
    """A table with chairs (or stools) around it."""
    rng = plan.rng
    table = _make(plan, "table")
    index = plan.stand_free(table, margin=0.45, yaw=float(rng.choice([0, np.pi / 2]) + rng.normal(0, 0.06)))
    if index is None:
        return
    kind = "stool" if _maybe(plan, 0.12) else "chair"
    w, d = table.size[0], table.size[1]
    state = rng.bit_generator.state  # chairs of one table are alike: same generator state for each
    count = int(rng.integers(2, 7))
    for k in range(count):
        shape_rng = np.random.default_rng(0)
        shape_rng.bit_generator.state = state
        chair = MAKERS[kind](shape_rng)
        if table.size_word == "round":
            a = 2 * np.pi * k / count + 0.2
            place = plan.relative(
                index, chair, (w / 2 + 0.12) * np.cos(a), (w / 2 + 0.12) * np.sin(a), a + np.pi / 2 + rng.normal(0, 0.15)
            )
        else:
            side, per = (-1 if k % 2 else 1), max(1, (count + 1) // 2)
            x = -w / 2 + w * (k // 2 + 0.5) / per
            place = plan.relative(
                index, chair, x, side * (d / 2 + rng.uniform(0.0, 0.25)), (np.pi if side > 0 else 0.0) + rng.normal(0, 0.12)
            )
        # a chair may reach under the table: check it against everything but the table itself
        if all(
            p is plan.placements[index] or not _close(p.footprint, place.footprint)
            for p in plan.placements
            if p.model.class_name != "rug"
        ):
            plan.commit(place)


def _close(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def cooking(plan: RoomPlan) -> None:
    """Counter, stove and refrigerator in a row at one wall."""
    rng = plan.rng
    counter, stove, fridge = _make(plan, "kitchen counter"), _make(plan, "stove"), _make(plan, "refrigerator")
    index = plan.stand_at_wall(counter, gap=0.01)
    if index is None:
        return
    base = plan.placements[index]
    assert base.wall is not None
    origin, along, _ = plan.wall_frame(base.wall)
    s = float((base.position - origin) @ along)
    side = 1 if _maybe(plan, 0.5) else -1
    edge = counter.size[0] / 2 + 0.01
    order = [stove, fridge] if _maybe(plan, 0.5) else [fridge, stove]
    ends = {1: edge, -1: edge}
    for model in order:
        for direction in (side, -side):
            centre = s + direction * (ends[direction] + model.size[0] / 2)
            if plan.stand_at_wall(model, wall=base.wall, s=centre, gap=0.01) is not None:
                ends[direction] += model.size[0] + 0.02
                break
        else:
            plan.stand_at_wall(model)
        if _maybe(plan, 0.3):
            side = -side
    if _maybe(plan, 0.5):
        plan.on_top(index, _make(plan, "box"), face_front=False) if rng.random() < 0.2 else None


def working(plan: RoomPlan) -> None:
    """Desk with monitors and an office chair."""
    rng = plan.rng
    desk = _make(plan, "desk")
    index = (
        plan.stand_at_wall(desk)
        if _maybe(plan, 0.8)
        else plan.stand_free(desk, margin=0.5, yaw=float(rng.choice([0, np.pi / 2, np.pi])))
    )
    if index is None:
        return
    for _ in range(int(rng.integers(1, 3))):
        plan.on_top(index, _make(plan, "monitor"))
    if _maybe(plan, 0.3):
        lamp = _make(plan, "lamp")
        if lamp.size[2] < 0.8:
            plan.on_top(index, lamp)
    chair = _make(plan, "office chair" if _maybe(plan, 0.8) else "chair")
    plan.put(
        plan.relative(index, chair, rng.normal(0, 0.15), desk.size[1] / 2 + rng.uniform(0.3, 0.6), np.pi + rng.normal(0, 0.5))
    )


def washing(plan: RoomPlan) -> None:
    """Bathtub, toilet, washing machine."""
    for name, p in (("bathtub", 0.9), ("toilet", 0.95), ("washing machine", 0.75)):
        if _maybe(plan, p):
            plan.stand_at_wall(_make(plan, name))


def _at_wall(name: str) -> Group:
    return lambda plan: (plan.stand_at_wall(_make(plan, name)), None)[1]


def _free(name: str) -> Group:
    return lambda plan: (plan.stand_free(_make(plan, name)), None)[1]


def _small_near_wall(name: str) -> Group:
    """Small things mostly stand near a wall, sometimes in the open."""

    def place(plan: RoomPlan) -> None:
        model = _make(plan, name)
        if name == "lamp" and model.size[2] < 0.8:  # a table lamp looks for a surface
            for k, p in enumerate(plan.placements):
                if (
                    p.model.surfaces
                    and p.model.class_name in ("cabinet", "nightstand", "desk", "coffee table")
                    and plan.on_top(k, model) is not None
                ):
                    return
            return
        if _maybe(plan, 0.75):
            plan.stand_at_wall(model, gap=float(plan.rng.uniform(0.03, 0.2)))
        else:
            plan.stand_free(model)

    return place


def _on_wall(name: str, low: float, high: float) -> Group:
    return lambda plan: (plan.hang(_make(plan, name), float(plan.rng.uniform(low, high))), None)[1]


EXTRAS: Mapping[str, Group] = MappingProxyType(
    {
        "wardrobe": _at_wall("wardrobe"),
        "bookshelf": _at_wall("bookshelf"),
        "cabinet": _at_wall("cabinet"),
        "piano": _at_wall("piano"),
        "armchair": _at_wall("armchair"),
        "washing machine": _at_wall("washing machine"),
        "refrigerator": _at_wall("refrigerator"),
        "stool": _small_near_wall("stool"),
        "lamp": _small_near_wall("lamp"),
        "plant": _small_near_wall("plant"),
        "trash can": _small_near_wall("trash can"),
        "box": _small_near_wall("box"),
        "suitcase": _small_near_wall("suitcase"),
        "chair": _small_near_wall("chair"),
        "picture": _on_wall("picture", 1.2, 1.6),
        "whiteboard": _on_wall("whiteboard", 0.8, 1.05),
        "radiator": _on_wall("radiator", 0.0, 0.0),
        "rug": lambda plan: (plan.stand_free(_make(plan, "rug"), solid=False, yaw=0.0), None)[1],
    }
)

#: Per room kind: the groups in order, then extras with their probability.
RECIPES: Mapping[str, tuple[tuple[Group, ...], tuple[tuple[str, float], ...]]] = MappingProxyType(
    {
        "living room": (
            (lounging, dining),
            (
                ("bookshelf", 0.8),
                ("plant", 0.8),
                ("lamp", 0.8),
                ("piano", 0.4),
                ("cabinet", 0.3),
                ("armchair", 0.3),
                ("picture", 0.9),
                ("picture", 0.6),
                ("radiator", 0.6),
                ("stool", 0.3),
                ("box", 0.3),
                ("trash can", 0.3),
            ),
        ),
        "bedroom": (
            (sleeping, working),
            (
                ("wardrobe", 0.9),
                ("armchair", 0.3),
                ("lamp", 0.6),
                ("plant", 0.4),
                ("suitcase", 0.6),
                ("picture", 0.8),
                ("radiator", 0.6),
                ("box", 0.3),
                ("trash can", 0.4),
                ("rug", 0.3),
                ("bookshelf", 0.4),
                ("stool", 0.2),
            ),
        ),
        "kitchen": (
            (cooking, dining),
            (
                ("trash can", 0.8),
                ("stool", 0.5),
                ("cabinet", 0.6),
                ("plant", 0.4),
                ("washing machine", 0.4),
                ("radiator", 0.5),
                ("picture", 0.5),
                ("box", 0.5),
                ("chair", 0.2),
            ),
        ),
        "office": (
            (working, working),
            (
                ("whiteboard", 0.9),
                ("bookshelf", 0.8),
                ("cabinet", 0.7),
                ("plant", 0.6),
                ("trash can", 0.9),
                ("box", 0.7),
                ("chair", 0.5),
                ("lamp", 0.4),
                ("picture", 0.4),
                ("radiator", 0.6),
                ("suitcase", 0.2),
            ),
        ),
        "bathroom": (
            (washing,),
            (
                ("trash can", 0.8),
                ("cabinet", 0.6),
                ("rug", 0.7),
                ("radiator", 0.7),
                ("plant", 0.3),
                ("stool", 0.5),
                ("picture", 0.2),
                ("box", 0.2),
            ),
        ),
        "studio": (
            (sleeping, cooking, lounging, working),
            (
                ("wardrobe", 0.6),
                ("bookshelf", 0.6),
                ("suitcase", 0.6),
                ("plant", 0.6),
                ("lamp", 0.6),
                ("trash can", 0.7),
                ("picture", 0.8),
                ("whiteboard", 0.3),
                ("radiator", 0.6),
                ("piano", 0.25),
                ("box", 0.6),
                ("stool", 0.4),
                ("washing machine", 0.3),
            ),
        ),
        "mixed": (
            (),
            (
                ("piano", 0.5),
                ("wardrobe", 0.5),
                ("bookshelf", 0.5),
                ("armchair", 0.5),
                ("washing machine", 0.5),
                ("refrigerator", 0.4),
                ("cabinet", 0.5),
                ("suitcase", 0.6),
                ("plant", 0.6),
                ("lamp", 0.7),
                ("trash can", 0.6),
                ("picture", 0.8),
                ("whiteboard", 0.5),
                ("radiator", 0.6),
                ("box", 0.6),
                ("stool", 0.6),
                ("chair", 0.5),
                ("rug", 0.4),
            ),
        ),
    }
)

#: Floor area range (m^2) and aspect per kind.
AREA_M2: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "living room": (16, 26),
        "bedroom": (11, 18),
        "kitchen": (11, 20),
        "office": (11, 20),
        "bathroom": (6, 10),
        "studio": (22, 34),
        "mixed": (12, 22),
    }
)


def furnish(plan: RoomPlan, kind: str) -> None:
    """Fill a plan: openings first, then the recipe's groups, then its extras."""
    rng = plan.rng
    plan.add_opening(_make(plan, "door"))
    if _maybe(plan, 0.15):
        plan.add_opening(_make(plan, "door"))
    for _ in range(int(rng.integers(1, 3))):
        window = _make(plan, "window")
        sill = float(rng.uniform(0.75, 1.0))
        index = plan.add_opening(window, sill)
        if index is not None and _maybe(plan, 0.65) and kind != "bathroom":
            _curtains(plan, index, sill)
    groups, extras = RECIPES[kind]
    if kind == "mixed":
        pool: list[Group] = [sleeping, lounging, dining, cooking, working, washing]
        groups = tuple(pool[int(i)] for i in rng.permutation(len(pool))[:2])
    for group in groups:
        group(plan)
    for name, probability in extras:
        if _maybe(plan, probability):
            EXTRAS[name](plan)


def _curtains(plan: RoomPlan, window_index: int, sill: float) -> None:
    """Hang a curtain at one or both sides of a window."""
    window = plan.placements[window_index]
    assert window.wall is not None
    origin, along, _ = plan.wall_frame(window.wall)
    s = float((window.position - origin) @ along)
    curtain_rng_state = plan.rng.bit_generator.state
    sides = (-1, 1) if _maybe(plan, 0.7) else (1,)
    for side in sides:
        rng = np.random.default_rng(0)
        rng.bit_generator.state = curtain_rng_state
        curtain = MAKERS["curtain"](rng)
        drop = curtain.size[2]
        top = min(sill + window.model.size[2] + 0.1, plan.height - 0.05)
        z = max(0.02, top - drop)
        plan.hang(
            curtain,
            z,
            window.wall,
            s + side * (window.model.size[0] / 2 + 0.06 + curtain.size[0] / 2 * float(plan.rng.uniform(0.95, 1.0))),
        )
