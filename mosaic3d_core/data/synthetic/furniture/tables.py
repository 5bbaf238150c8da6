"""Dining tables, coffee tables and desks."""

from __future__ import annotations

import numpy as np

from mosaic3d_core.data.synthetic.furniture.model import ObjectModel, four_legs, size_word, uniform
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS, WOOD_COLORS, Material, metal, pick, plain, wood
from mosaic3d_core.data.synthetic.mesh import Mesh


def _top_material(rng: np.random.Generator) -> tuple[str, str, Material]:
    if rng.random() < 0.72:
        name, color = pick(WOOD_COLORS, rng)
        return ("white", "wooden", plain(color, rng)) if name == "white" else ("brown", name, wood(color, rng))
    name, color = pick(OBJECT_COLORS, rng, ("white", "black", "grey", "beige", "blue", "red", "green"))
    return name, "", plain(color, rng)


def _table(rng: np.random.Generator, w: float, d: float, height: float, round_: bool) -> tuple[Mesh, str, str]:
    color, word, top = _top_material(rng)
    legs = metal(rng) if rng.random() < 0.35 else top
    mesh = Mesh()
    thick = uniform(rng, 0.02, 0.06)
    if round_:
        mesh.cylinder((0, 0, height - thick), (0, 0, height), w / 2, top, segments=32)
    else:
        mesh.slab((-w / 2, w / 2), (-d / 2, d / 2), (height - thick, height), top)
    style = rng.random()
    if (round_ and style < 0.6) or style < 0.12:
        mesh.lathe([(0.0, 0.0), (0.3 * w, 0.0), (0.28 * w, 0.03), (0.05, 0.06), (0.045, height - thick)], (0, 0, 0), legs)
    elif style < 0.3:  # two panels or trestles
        for sx in (-1, 1):
            mesh.slab((sx * (w / 2 - 0.12) - 0.02, sx * (w / 2 - 0.12) + 0.02), (-d * 0.4, d * 0.4), (0, height - thick), legs)
    else:
        r, inset = uniform(rng, 0.015, 0.045), uniform(rng, 0.03, 0.08)
        inset = 0.16 * w if round_ else inset + r
        four_legs(mesh, w, d, height - thick, r, legs, inset, rng.random() < 0.4)
        if rng.random() < 0.5 and not round_:
            apron = uniform(rng, 0.05, 0.10)
            for sy in (-1, 1):
                mesh.slab(
                    (-w / 2 + inset, w / 2 - inset),
                    (sy * (d / 2 - inset) - 0.01, sy * (d / 2 - inset) + 0.01),
                    (height - thick - apron, height - thick),
                    top,
                )
    return mesh, color, word


def make_table(rng: np.random.Generator) -> ObjectModel:
    """A dining or kitchen table, rectangular or round."""
    round_ = rng.random() < 0.28
    w = uniform(rng, 0.8, 1.3) if round_ else uniform(rng, 1.0, 2.0)
    d = w if round_ else uniform(rng, 0.7, 1.0)
    h = uniform(rng, 0.70, 0.78)
    mesh, color, word = _table(rng, w, d, h, round_)
    k = 0.33 if round_ else 0.45
    shape = "round" if round_ else size_word(w, 1.0, 2.0)
    return ObjectModel("table", mesh, (w, d, h), color, word, shape, [(-w * k, w * k, -d * k, d * k, h)])


def make_coffee_table(rng: np.random.Generator) -> ObjectModel:
    """A low table in front of a sofa."""
    round_ = rng.random() < 0.3
    w = uniform(rng, 0.6, 0.95) if round_ else uniform(rng, 0.8, 1.35)
    d = w if round_ else uniform(rng, 0.45, 0.75)
    h = uniform(rng, 0.32, 0.48)
    mesh, color, word = _table(rng, w, d, h, round_)
    if not round_ and rng.random() < 0.4:
        mesh.slab((-w / 2 + 0.05, w / 2 - 0.05), (-d / 2 + 0.05, d / 2 - 0.05), (h * 0.35, h * 0.35 + 0.02), mesh.materials[0])
    k = 0.33 if round_ else 0.42
    return ObjectModel(
        "coffee table", mesh, (w, d, h), color, word, "round" if round_ else "low", [(-w * k, w * k, -d * k, d * k, h)]
    )


def make_desk(rng: np.random.Generator) -> ObjectModel:
    """A desk: top, a drawer pedestal or side panels, back panel towards the wall."""
    w, d, h = uniform(rng, 1.0, 1.7), uniform(rng, 0.55, 0.8), uniform(rng, 0.70, 0.77)
    color, word, top = _top_material(rng)
    legs = metal(rng) if rng.random() < 0.4 else top
    mesh = Mesh()
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2), (h - 0.03, h), top)
    if rng.random() < 0.75:
        side = 1 if rng.random() < 0.5 else -1
        pw = uniform(rng, 0.34, 0.45)
        x0 = side * (w / 2 - pw / 2 - 0.02)
        mesh.box((x0, 0, (h - 0.03) / 2), (pw, d - 0.06, h - 0.03), top)
        drawers = int(rng.integers(2, 5))
        for i in range(drawers):
            z = 0.06 + (h - 0.12) * (i + 0.5) / drawers
            mesh.box((x0, d / 2 - 0.025, z), (pw - 0.04, 0.02, (h - 0.14) / drawers - 0.02), top)
            mesh.box((x0, d / 2 - 0.005, z), (0.12, 0.025, 0.015), legs)
        x1 = -side * (w / 2 - 0.03)
        if rng.random() < 0.5:
            mesh.slab((x1 - 0.015, x1 + 0.015), (-d / 2 + 0.03, d / 2 - 0.03), (0, h - 0.03), legs)
        else:
            for sy in (-1, 1):
                mesh.cylinder((x1, sy * (d / 2 - 0.06), 0), (x1, sy * (d / 2 - 0.06), h - 0.03), 0.022, legs, segments=10)
    else:
        for sx in (-1, 1):
            mesh.slab(
                (sx * (w / 2 - 0.04) - 0.02, sx * (w / 2 - 0.04) + 0.02), (-d / 2 + 0.03, d / 2 - 0.03), (0, h - 0.03), legs
            )
    if rng.random() < 0.7:
        mesh.slab((-w / 2 + 0.05, w / 2 - 0.05), (-d / 2 + 0.02, -d / 2 + 0.04), (h * 0.45, h - 0.03), top)
    return ObjectModel(
        "desk", mesh, (w, d, h), color, word, size_word(w, 1.0, 1.7), [(-w * 0.45, w * 0.45, -d * 0.45, d * 0.3, h)]
    )
