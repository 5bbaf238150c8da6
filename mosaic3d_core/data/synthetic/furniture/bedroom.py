"""Beds, pillows and nightstands."""

from __future__ import annotations

import numpy as np

from mosaic3d_core.data.synthetic.furniture.model import ObjectModel, four_legs, uniform
from mosaic3d_core.data.synthetic.furniture.storage import carcass_material, fronts
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS, Material, fabric, metal, pick
from mosaic3d_core.data.synthetic.mesh import Mesh


def _pillow(mesh: Mesh, center: tuple[float, float, float], size: tuple[float, float, float], material: Material) -> None:
    mesh.ellipsoid(center, (size[0] / 2, size[1] / 2, size[2] / 2), material, 12)
    mesh.rounded_box(center, (size[0] * 0.92, size[1] * 0.92, size[2] * 0.72), size[2] * 0.3, material)


def make_bed(rng: np.random.Generator) -> ObjectModel:
    """A bed with its head at the back (-y): frame, mattress, blanket, often a headboard."""
    double = rng.random() < 0.65
    w = uniform(rng, 1.35, 1.85) if double else uniform(rng, 0.85, 1.05)
    d, top = uniform(rng, 1.95, 2.15), uniform(rng, 0.42, 0.62)
    _, word, frame = carcass_material(rng)
    color, blanket_color = pick(OBJECT_COLORS, rng)
    sheet, blanket = fabric((0.88, 0.87, 0.84), rng, pattern=False), fabric(blanket_color, rng)
    mesh = Mesh()
    base = top - uniform(rng, 0.18, 0.26)
    if rng.random() < 0.5:
        mesh.slab((-w / 2, w / 2), (-d / 2, d / 2), (0.02, base), frame)
    else:
        mesh.slab((-w / 2, w / 2), (-d / 2, d / 2), (base - 0.14, base), frame)
        four_legs(mesh, w, d, base - 0.1, 0.035, frame, 0.06, False)
    mesh.rounded_box((0, 0.0, (base + top) / 2), (w - 0.04, d - 0.06, top - base), 0.06, sheet)
    cover = uniform(rng, 0.62, 0.85) * d
    sag = uniform(rng, 0.05, 0.18)
    mesh.rounded_box((0, d / 2 - cover / 2 + 0.01, top - sag / 2 + 0.02), (w + 0.02, cover, sag + 0.05), 0.035, blanket)
    if rng.random() < 0.75:
        h = uniform(rng, 0.75, 1.2)
        mesh.rounded_box(
            (0, -d / 2 - 0.03, h / 2), (w + uniform(rng, 0.0, 0.1), 0.06, h), 0.02, frame if rng.random() < 0.6 else blanket
        )
    surfaces = [(-w / 2 + 0.3, w / 2 - 0.3, -d / 2 + 0.22, -d / 2 + 0.34, top)]
    return ObjectModel("bed", mesh, (w + 0.06, d + 0.1, top + 0.3), color, word, "double" if double else "single", surfaces)


def make_pillow(rng: np.random.Generator) -> ObjectModel:
    """A pillow or cushion lying flat."""
    color, rgb = pick(OBJECT_COLORS, rng)
    w, d, h = uniform(rng, 0.40, 0.68), uniform(rng, 0.36, 0.46), uniform(rng, 0.12, 0.18)
    mesh = Mesh()
    _pillow(mesh, (0, 0, h / 2), (w, d, h), fabric(rgb, rng))
    return ObjectModel("pillow", mesh, (w, d, h), color, "soft")


def make_nightstand(rng: np.random.Generator) -> ObjectModel:
    """A small bedside table with a drawer or two."""
    w, d, h = uniform(rng, 0.36, 0.52), uniform(rng, 0.34, 0.44), uniform(rng, 0.42, 0.62)
    color, word, body = carcass_material(rng)
    mesh = Mesh()
    legs = rng.random() < 0.45
    low = h - uniform(rng, 0.18, 0.3) if legs else 0.03
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2 - 0.02), (low, h), body)
    if legs:
        four_legs(mesh, w, d, low + 0.01, 0.018, body, 0.025, rng.random() < 0.5)
    fronts(mesh, w, d / 2 - 0.02, low + 0.01, h - 0.02, 1, 1 if legs else int(rng.integers(2, 4)), body, metal(rng), True)
    return ObjectModel("nightstand", mesh, (w, d + 0.03, h), color, word, "small", [(-w * 0.35, w * 0.35, -d * 0.35, d * 0.3, h)])
