"""Kitchen and laundry: refrigerator, stove, counter with sink, washing machine."""

from __future__ import annotations

import numpy as np

from mosaic3d_core.data.synthetic.furniture.model import ObjectModel, size_word, uniform
from mosaic3d_core.data.synthetic.furniture.storage import carcass_material, fronts
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS, Material, metal, pick, plain, wood
from mosaic3d_core.data.synthetic.mesh import Mesh


def _enamel(rng: np.random.Generator) -> tuple[str, Material]:
    name, color = pick(OBJECT_COLORS, rng, ("white", "white", "white", "grey", "black", "red"))
    return name, plain(color, rng, depth_loss=0.02)


def make_refrigerator(rng: np.random.Generator) -> ObjectModel:
    """A fridge: one or two doors with long handles."""
    w, d, h = uniform(rng, 0.56, 0.85), uniform(rng, 0.58, 0.72), uniform(rng, 1.35, 1.95)
    color, body = _enamel(rng)
    mesh, grip = Mesh(), metal(rng)
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2 - 0.05), (0.02, h), body)
    split = h * (uniform(rng, 0.3, 0.42) if rng.random() < 0.5 else uniform(rng, 0.62, 0.72))
    side = 1 if rng.random() < 0.5 else -1
    for z0, z1 in ((0.05, split), (split, h)):
        mesh.rounded_box((0, d / 2 - 0.025, (z0 + z1) / 2), (w - 0.01, 0.06, z1 - z0 - 0.012), 0.012, body)
        length = (z1 - z0) * 0.45
        middle = z1 - length * 0.7 if z0 < 0.1 else z0 + length * 0.7
        mesh.box((side * (w / 2 - 0.06), d / 2 + 0.03, middle), (0.025, 0.03, length), grip)
    return ObjectModel("refrigerator", mesh, (w, d + 0.05, h), color, "", size_word(h, 1.35, 1.95, ("small", "tall")))


def make_stove(rng: np.random.Generator) -> ObjectModel:
    """A free-standing cooker: oven door with a dark pane, knobs, four plates on top."""
    w, d, h = uniform(rng, 0.50, 0.76), uniform(rng, 0.56, 0.64), uniform(rng, 0.84, 0.92)
    color, body = _enamel(rng)
    mesh = Mesh()
    dark = plain((0.05, 0.05, 0.06), rng, depth_loss=0.12)
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2 - 0.03), (0, h - 0.01), body)
    mesh.slab((-w / 2 + 0.02, w / 2 - 0.02), (d / 2 - 0.035, d / 2 - 0.005), (0.14, h - 0.20), body)
    mesh.slab((-w / 2 + 0.08, w / 2 - 0.08), (d / 2 - 0.01, d / 2), (0.24, h - 0.30), dark)
    mesh.cylinder((-w / 2 + 0.05, d / 2 + 0.03, h - 0.22), (w / 2 - 0.05, d / 2 + 0.03, h - 0.22), 0.012, metal(rng), segments=8)
    for k in range(5):
        x = -w / 2 + w * (k + 0.5) / 5
        mesh.cylinder((x, d / 2 - 0.04, h - 0.09), (x, d / 2 + 0.01, h - 0.09), 0.022, dark, segments=10)
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2), (h - 0.02, h), dark if rng.random() < 0.6 else body)
    for sx in (-1, 1):
        for sy in (-1, 1):
            r = uniform(rng, 0.07, 0.1)
            mesh.cylinder(
                (sx * w * 0.24, sy * d * 0.23, h),
                (sx * w * 0.24, sy * d * 0.23, h + 0.015),
                r,
                plain((0.14, 0.14, 0.14), rng),
                segments=16,
            )
    if rng.random() < 0.5:
        mesh.slab((-w / 2, w / 2), (-d / 2, -d / 2 + 0.04), (h, h + uniform(rng, 0.06, 0.2)), body)
    if rng.random() < 0.4:
        r = uniform(rng, 0.09, 0.12)
        mesh.cylinder((w * 0.22, -d * 0.2, h + 0.015), (w * 0.22, -d * 0.2, h + 0.13), r, metal(rng))
    return ObjectModel("stove", mesh, (w, d + 0.05, h), color, "")


def make_kitchen_counter(rng: np.random.Generator) -> ObjectModel:
    """A run of base units under a worktop, with a sink and tap, sometimes wall units above."""
    w, d, h = uniform(rng, 1.2, 2.4), uniform(rng, 0.58, 0.64), uniform(rng, 0.86, 0.93)
    color, word, body = carcass_material(rng)
    mesh = Mesh()
    top = (
        wood(pick(OBJECT_COLORS, rng, ("beige", "brown"))[1], rng)
        if rng.random() < 0.5
        else plain(pick(OBJECT_COLORS, rng, ("grey", "black", "white"))[1], rng)
    )
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2 - 0.07), (0, 0.1), plain((0.15, 0.14, 0.13), rng))
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2 - 0.05), (0.1, h - 0.04), body)
    cols = max(2, round(w / 0.55))
    fronts(mesh, w, d / 2 - 0.05, 0.12, h - 0.05, cols, 1, body, metal(rng), False)
    # worktop around a sink opening
    sink_w, sink_d, depth = 0.46, 0.36, 0.15
    x0 = uniform(rng, -w / 2 + 0.35, w / 2 - 0.35)
    lo, hi = x0 - sink_w / 2, x0 + sink_w / 2
    steel = metal(rng)
    mesh.slab((-w / 2, lo), (-d / 2, d / 2), (h - 0.04, h), top)
    mesh.slab((hi, w / 2), (-d / 2, d / 2), (h - 0.04, h), top)
    mesh.slab((lo, hi), (-d / 2, -sink_d / 2), (h - 0.04, h), top)
    mesh.slab((lo, hi), (sink_d / 2, d / 2), (h - 0.04, h), top)
    mesh.slab((lo, hi), (-sink_d / 2, sink_d / 2), (h - depth, h - depth + 0.01), steel)
    for x in (lo, hi):
        mesh.slab((x - 0.006, x + 0.006), (-sink_d / 2, sink_d / 2), (h - depth, h + 0.004), steel)
    for y in (-sink_d / 2, sink_d / 2):
        mesh.slab((lo, hi), (y - 0.006, y + 0.006), (h - depth, h + 0.004), steel)
    mesh.cylinder((x0, -sink_d / 2 - 0.05, h), (x0, -sink_d / 2 - 0.05, h + 0.26), 0.014, steel, segments=8)
    mesh.cylinder((x0, -sink_d / 2 - 0.05, h + 0.25), (x0, -sink_d / 2 + 0.12, h + 0.22), 0.012, steel, segments=8)
    height = h
    if rng.random() < 0.55:
        z0, z1 = uniform(rng, 1.42, 1.5), uniform(rng, 1.95, 2.15)
        mesh.slab((-w / 2, w / 2), (-d / 2, -d / 2 + 0.33), (z0, z1), body)
        units = Mesh()
        fronts(units, w, -d / 2 + 0.33, z0 + 0.01, z1 - 0.01, cols, 1, body, metal(rng), False)
        for vertices, faces, material in _parts(units):
            mesh.add(vertices, faces, material)
        height = z1
    free = (-w / 2 + 0.05, lo - 0.08) if lo + w / 2 > w / 2 - hi else (hi + 0.08, w / 2 - 0.05)
    surfaces = [(free[0], free[1], -d / 2 + 0.12, d / 2 - 0.12, h)] if free[1] - free[0] > 0.2 else []
    return ObjectModel(
        "kitchen counter", mesh, (w, d + 0.03, height), color, word, size_word(w, 1.2, 2.4, ("short", "long")), surfaces
    )


def _parts(mesh: Mesh) -> list[tuple[np.ndarray, np.ndarray, Material]]:
    """Every part of a mesh as (vertices, own faces, material)."""
    out, start = [], 0
    for v, f, m in zip(mesh.vertices, mesh.faces, mesh.face_material, strict=True):
        out.append((v, f - start, mesh.materials[int(m[0])]))
        start += len(v)
    return out


def make_washing_machine(rng: np.random.Generator) -> ObjectModel:
    """A front loader: white box, round door, control strip."""
    w, d, h = uniform(rng, 0.56, 0.64), uniform(rng, 0.50, 0.64), uniform(rng, 0.82, 0.90)
    color, rgb = pick(OBJECT_COLORS, rng, ("white", "white", "white", "grey"))
    body = plain(rgb, rng, depth_loss=0.02)
    mesh = Mesh()
    mesh.rounded_box((0, 0, h / 2), (w, d, h), 0.02, body)
    r, z = uniform(rng, 0.17, 0.21), h * 0.48
    mesh.cylinder((0, d / 2 - 0.01, z), (0, d / 2 + 0.035, z), r, metal(rng), r1=r * 0.92, segments=28)
    mesh.cylinder(
        (0, d / 2 + 0.01, z), (0, d / 2 + 0.042, z), r * 0.72, plain((0.08, 0.09, 0.11), rng, depth_loss=0.15), segments=24
    )
    mesh.slab((-w / 2 + 0.02, w / 2 - 0.02), (d / 2 - 0.005, d / 2 + 0.008), (h - 0.13, h - 0.02), plain((0.75, 0.76, 0.78), rng))
    mesh.cylinder((w * 0.28, d / 2, h - 0.075), (w * 0.28, d / 2 + 0.03, h - 0.075), 0.03, metal(rng), segments=14)
    return ObjectModel("washing machine", mesh, (w, d + 0.05, h), color, "")
