"""Bookshelves, cabinets and wardrobes."""

from __future__ import annotations

import numpy as np

from mosaic3d_core.data.synthetic.furniture.model import ObjectModel, size_word, uniform
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS, WOOD_COLORS, Material, metal, pick, plain, wood
from mosaic3d_core.data.synthetic.mesh import Mesh, rotation_z


def carcass_material(rng: np.random.Generator) -> tuple[str, str, Material]:
    """(colour word, material word, material) of a piece of case furniture."""
    if rng.random() < 0.65:
        name, color = pick(WOOD_COLORS, rng)
        return ("white", "wooden", plain(color, rng)) if name == "white" else ("brown", name, wood(color, rng))
    name, color = pick(OBJECT_COLORS, rng)
    return name, "", plain(color, rng)


def fronts(
    mesh: Mesh,
    w: float,
    y: float,
    z0: float,
    z1: float,
    cols: int,
    rows: int,
    material: Material,
    handle: Material,
    drawers: bool,
) -> None:
    """A grid of door or drawer fronts that stand 2 cm proud of the plane y, with handles."""
    cw, ch = w / cols, (z1 - z0) / rows
    for i in range(cols):
        for j in range(rows):
            x, z = -w / 2 + (i + 0.5) * cw, z0 + (j + 0.5) * ch
            mesh.box((x, y + 0.008, z), (cw - 0.015, 0.016, ch - 0.015), material)
            if drawers:
                mesh.box((x, y + 0.028, z), (min(0.18, cw * 0.4), 0.02, 0.018), handle)
            else:
                side = 1 if i % 2 == 0 else -1
                mesh.box((x + side * (cw / 2 - 0.05), y + 0.028, z), (0.016, 0.02, min(0.16, ch * 0.3)), handle)


def _books(mesh: Mesh, rng: np.random.Generator, x0: float, x1: float, depth: float, z: float, room: float) -> None:
    """Fill a shelf board with books, gaps and the odd ornament."""
    x = x0 + 0.01
    while x < x1 - 0.06:
        kind = rng.random()
        if kind < 0.12:
            x += uniform(rng, 0.05, 0.2)
            continue
        color = pick(OBJECT_COLORS, rng)[1]
        if kind < 0.2:
            r = uniform(rng, 0.03, 0.06)
            if x + 2 * r < x1:
                mesh.ellipsoid((x + r, 0.02, z + r), (r, r, r), plain(color, rng), 8)
            x += 2 * r + 0.02
            continue
        t, h = uniform(rng, 0.02, 0.055), uniform(rng, 0.6, 0.93) * room
        if x + t > x1:
            break
        lean = rotation_z(0.0)
        mesh.box(
            (x + t / 2, depth / 2 - uniform(rng, 0.09, 0.13), z + h / 2),
            (t - 0.002, uniform(rng, 0.12, 0.18), h),
            plain(color, rng),
            lean,
        )
        x += t


def make_bookshelf(rng: np.random.Generator) -> ObjectModel:
    """An open shelf with books."""
    w, d, h = uniform(rng, 0.6, 1.4), uniform(rng, 0.26, 0.36), uniform(rng, 1.1, 2.1)
    color, word, body = carcass_material(rng)
    mesh = Mesh()
    t = 0.022
    for sx in (-1, 1):
        mesh.slab((sx * (w / 2) - t * (sx > 0), sx * (w / 2) + t * (sx < 0)), (-d / 2, d / 2), (0, h), body)
    if rng.random() < 0.8:
        mesh.slab((-w / 2, w / 2), (-d / 2, -d / 2 + 0.01), (0, h), body)
    levels = max(3, round(h / uniform(rng, 0.30, 0.40)))
    zs = np.linspace(0.06, h - t, levels + 1)
    for i, z in enumerate(zs):
        mesh.slab((-w / 2 + t, w / 2 - t), (-d / 2, d / 2), (z - t / 2, z + t / 2), body)
        if i < levels and rng.random() < 0.88:
            _books(mesh, rng, -w / 2 + t, w / 2 - t, d, float(z) + t / 2, float(zs[i + 1] - z) - t)
    return ObjectModel("bookshelf", mesh, (w, d, h), color, word, size_word(h, 1.1, 2.1, ("low", "tall")))


def make_cabinet(rng: np.random.Generator) -> ObjectModel:
    """A sideboard or cupboard with doors or drawers, at most chest-high."""
    w, d, h = uniform(rng, 0.7, 1.7), uniform(rng, 0.36, 0.5), uniform(rng, 0.55, 1.15)
    color, word, body = carcass_material(rng)
    front = body
    if rng.random() < 0.35:
        color, front_color = pick(OBJECT_COLORS, rng)
        front = plain(front_color, rng)
    mesh = Mesh()
    foot = uniform(rng, 0.0, 0.15) if rng.random() < 0.5 else 0.05
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2 - 0.02), (foot, h), body)
    if foot > 0.06:
        for sx in (-1, 1):
            for sy in (-1, 1):
                mesh.cylinder(
                    (sx * (w / 2 - 0.05), sy * (d / 2 - 0.07), 0),
                    (sx * (w / 2 - 0.05), sy * (d / 2 - 0.07), foot),
                    0.02,
                    metal(rng),
                    segments=8,
                )
    else:
        mesh.slab((-w / 2 + 0.02, w / 2 - 0.02), (-d / 2, d / 2 - 0.05), (0, foot + 0.001), body)
    mesh.slab((-w / 2 - 0.01, w / 2 + 0.01), (-d / 2, d / 2), (h - 0.025, h), body)
    drawers = rng.random() < 0.4
    rows = int(rng.integers(2, 5)) if drawers else 1
    cols = max(1, round(w / uniform(rng, 0.4, 0.6)))
    fronts(mesh, w, d / 2 - 0.02, foot + 0.01, h - 0.03, cols, rows, front, metal(rng), drawers)
    return ObjectModel(
        "cabinet",
        mesh,
        (w + 0.02, d + 0.03, h),
        color,
        word,
        size_word(w, 0.7, 1.7),
        [(-w * 0.45, w * 0.45, -d * 0.4, d * 0.35, h)],
    )


def make_wardrobe(rng: np.random.Generator) -> ObjectModel:
    """A tall closed closet with doors."""
    w, d, h = uniform(rng, 0.9, 2.0), uniform(rng, 0.52, 0.65), uniform(rng, 1.8, 2.25)
    color, word, body = carcass_material(rng)
    mesh = Mesh()
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2 - 0.02), (0, h), body)
    handle = metal(rng) if rng.random() < 0.7 else plain((0.1, 0.1, 0.1), rng)
    split = uniform(rng, 0.2, 0.35) * h if rng.random() < 0.3 else 0.06
    cols = max(2, round(w / 0.5))
    if split > 0.1:
        fronts(mesh, w, d / 2 - 0.02, 0.05, split, max(1, cols // 2), 1, body, handle, True)
    fronts(mesh, w, d / 2 - 0.02, split, h - 0.03, cols, 1, body, handle, False)
    return ObjectModel("wardrobe", mesh, (w, d + 0.03, h), color, word, size_word(w, 0.9, 2.0))
