"""Toilet and bathtub."""

from __future__ import annotations

import numpy as np

from mosaic3d_core.data.synthetic.furniture.model import ObjectModel, uniform
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS, metal, pick, plain
from mosaic3d_core.data.synthetic.mesh import Mesh


def make_toilet(rng: np.random.Generator) -> ObjectModel:
    """A close-coupled toilet: oval bowl, seat or raised lid, cistern at the back."""
    white = plain(pick(OBJECT_COLORS, rng, ("white", "white", "beige"))[1], rng)
    lid = plain(pick(OBJECT_COLORS, rng, ("white", "white", "black", "brown"))[1], rng)
    mesh = Mesh()
    h, w = uniform(rng, 0.38, 0.43), uniform(rng, 0.35, 0.40)
    y = 0.10
    profile = [
        (0.10, 0.0),
        (0.105, 0.10),
        (0.12, 0.2),
        (w / 2, h - 0.08),
        (w / 2, h),
        (w / 2 - 0.05, h),
        (w / 2 - 0.07, h - 0.1),
        (0.02, h - 0.2),
    ]
    mesh.lathe([(r, z) for r, z in profile], (0, y, 0), white, stretch_y=1.3)
    raised = rng.random() < 0.5
    if raised:
        mesh.box((0, -0.12, h + 0.2), (w - 0.02, 0.03, 0.40), lid)
    else:
        mesh.lathe(
            [(0.0, h + 0.035), (w / 2 + 0.005, h + 0.03), (w / 2 + 0.005, h), (w / 2 - 0.02, h)], (0, y, 0), lid, stretch_y=1.3
        )
    mesh.slab((-0.11, 0.11), (-0.30, 0.0), (0, h - 0.06), white)
    top = uniform(rng, 0.74, 0.85)
    mesh.rounded_box((0, -0.25, (h + top) / 2), (uniform(rng, 0.36, 0.44), 0.17, top - h), 0.025, white)
    mesh.cylinder((0, -0.25, top), (0, -0.25, top + 0.015), 0.03, metal(rng), segments=12)
    return ObjectModel("toilet", mesh, (0.46, 0.72, top), "white", "")


def make_bathtub(rng: np.random.Generator) -> ObjectModel:
    """A bathtub: hollow, with a rim and taps, long side along x."""
    w, d, h = uniform(rng, 1.45, 1.8), uniform(rng, 0.68, 0.82), uniform(rng, 0.50, 0.62)
    color, rgb = pick(OBJECT_COLORS, rng, ("white", "white", "white", "beige", "pink", "turquoise"))
    body = plain(rgb, rng)
    mesh = Mesh()
    rim = uniform(rng, 0.05, 0.09)
    floor_z = 0.12
    x1, y1 = w / 2, d / 2
    outer = np.array([[-x1, -y1], [x1, -y1], [x1, y1], [-x1, y1]])
    inner = outer * [(w - 2 * rim) / w, (d - 2 * rim) / d]
    bottom = inner * 0.82
    for k in range(4):
        j = (k + 1) % 4
        o0, o1, i0, i1, b0, b1 = outer[k], outer[j], inner[k], inner[j], bottom[k], bottom[j]
        mesh.quad([[*o0, 0], [*o1, 0], [*o1, h], [*o0, h]], body)
        mesh.quad([[*o0, h], [*o1, h], [*i1, h], [*i0, h]], body)
        mesh.quad([[*i0, h], [*i1, h], [*b1, floor_z], [*b0, floor_z]], body)
    mesh.quad([[*b, floor_z] for b in bottom], body)
    side = 1 if rng.random() < 0.5 else -1
    steel = metal(rng)
    mesh.cylinder((side * (w / 2 - 0.04), 0, h), (side * (w / 2 - 0.04), 0, h + 0.12), 0.018, steel, segments=8)
    mesh.cylinder((side * (w / 2 - 0.04), 0, h + 0.1), (side * (w / 2 - 0.18), 0, h + 0.09), 0.014, steel, segments=8)
    return ObjectModel("bathtub", mesh, (w, d, h), color, "")
