"""Things on walls: doors, windows, curtains, pictures, whiteboards, radiators.

Their origin lies on the wall surface, x along the wall, +y into the room; z is measured from the floor.
"""

from __future__ import annotations

import numpy as np

from mosaic3d_core.data.synthetic.furniture.model import ObjectModel, size_word, uniform
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS, WOOD_COLORS, Material, fabric, metal, pick, plain, wood
from mosaic3d_core.data.synthetic.mesh import Mesh

#: How far a door or window pane lies behind the wall surface, metres.
DOOR_RECESS_M = 0.05
WINDOW_RECESS_M = 0.14


def make_door(rng: np.random.Generator) -> ObjectModel:
    """A door leaf in its frame, with panels and a handle; the wall has an opening behind it."""
    w, h = uniform(rng, 0.78, 0.98), uniform(rng, 1.96, 2.1)
    if rng.random() < 0.6:
        name, rgb = pick(WOOD_COLORS, rng)
        color, leaf = ("white", plain(rgb, rng)) if name == "white" else ("brown", wood(rgb, rng))
    else:
        color, rgb = pick(OBJECT_COLORS, rng, ("white", "grey", "blue", "red", "green", "beige"))
        leaf = plain(rgb, rng)
    frame = leaf if rng.random() < 0.6 else plain((0.85, 0.84, 0.8), rng)
    mesh = Mesh()
    t, proud = uniform(rng, 0.05, 0.09), 0.018
    mesh.slab((-w / 2, w / 2), (-DOOR_RECESS_M - 0.04, -DOOR_RECESS_M + 0.01), (0.005, h), leaf)
    for sx in (-1, 1):
        x = sx * (w / 2 + t / 2)
        mesh.slab((x - t / 2, x + t / 2), (-DOOR_RECESS_M, proud), (0, h + t), frame)
    mesh.slab((-w / 2 - t, w / 2 + t), (-DOOR_RECESS_M, proud), (h, h + t), frame)
    if rng.random() < 0.6:
        for z0, z1 in ((0.15, 0.85), (1.05, h - 0.15)):
            mesh.slab((-w / 2 + 0.13, w / 2 - 0.13), (-DOOR_RECESS_M + 0.01, -DOOR_RECESS_M + 0.022), (z0, z1), leaf)
    side = 1 if rng.random() < 0.5 else -1
    steel = metal(rng)
    x = side * (w / 2 - 0.07)
    mesh.cylinder((x, -DOOR_RECESS_M, 1.02), (x, 0.03, 1.02), 0.012, steel, segments=8)
    mesh.cylinder((x, 0.025, 1.02), (x - side * 0.12, 0.025, 1.02), 0.011, steel, segments=8)
    return ObjectModel("door", mesh, (w + 2 * t, 0.06, h + t), color, "wooden" if leaf.texture == "wood" else "")


def make_window(rng: np.random.Generator) -> ObjectModel:
    """A window in a recess: frame with mullions, panes, sill. `size` is the opening; the sill height is chosen by the layout."""
    w, h = uniform(rng, 0.8, 1.8), uniform(rng, 0.9, 1.4)
    frame = plain(pick(OBJECT_COLORS, rng, ("white", "white", "grey", "brown", "black"))[1], rng)
    sky = (uniform(rng, 0.6, 0.85), uniform(rng, 0.75, 0.92), 0.97)
    land = (uniform(rng, 0.2, 0.5), uniform(rng, 0.35, 0.5), uniform(rng, 0.2, 0.35))
    glass = Material("outdoor", sky, land, uniform(rng, 0.9, 1.6), depth_loss=0.45, glow=0.95)
    mesh = Mesh()
    y, f = -WINDOW_RECESS_M, uniform(rng, 0.04, 0.07)
    mesh.slab((-w / 2, w / 2), (y - 0.01, y), (0, h), glass)
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    for i in range(columns + 1):
        x = -w / 2 + w * i / columns
        mesh.slab((max(x - f / 2, -w / 2), min(x + f / 2, w / 2)), (y, y + 0.05), (0, h), frame)
    for j in range(rows + 1):
        z = h * j / rows
        mesh.slab((-w / 2, w / 2), (y, y + 0.05), (max(z - f / 2, 0), min(z + f / 2, h)), frame)
    mesh.slab((-w / 2 - 0.03, w / 2 + 0.03), (y, uniform(rng, 0.02, 0.1)), (-0.03, 0.0), frame)
    return ObjectModel("window", mesh, (w, 0.1, h), "", "glass", size_word(w, 0.8, 1.8))


def make_curtain(rng: np.random.Generator) -> ObjectModel:
    """One folded curtain hanging from its rod; `size` gives width and drop, the layout moves it beside a window."""
    w, drop = uniform(rng, 0.3, 0.75), uniform(rng, 1.3, 2.2)
    color, rgb = pick(OBJECT_COLORS, rng)
    cloth = fabric(rgb, rng)
    x = np.linspace(-w / 2, w / 2, 48)
    folds, depth = uniform(rng, 4, 9), uniform(rng, 0.02, 0.04)
    wave = 0.075 + depth * np.sin(x / w * folds * 2 * np.pi + uniform(rng, 0, 6))
    z = np.linspace(0, drop, 3)
    rows = np.stack([np.stack([x, wave, np.full_like(x, level)], 1) for level in z])
    mesh = Mesh()
    mesh.sheet(rows, cloth)
    mesh.cylinder((-w / 2 - 0.05, 0.075, drop + 0.01), (w / 2 + 0.05, 0.075, drop + 0.01), 0.012, metal(rng), segments=8)
    return ObjectModel("curtain", mesh, (w, 0.13, drop + 0.03), color, "fabric")


def make_picture(rng: np.random.Generator) -> ObjectModel:
    """A framed picture; z = 0 is its lower edge."""
    w, h = uniform(rng, 0.35, 1.1), uniform(rng, 0.3, 0.9)
    frame = plain(pick(OBJECT_COLORS, rng, ("black", "brown", "white", "yellow"))[1], rng)
    art = Material("painting", pick(OBJECT_COLORS, rng)[1], pick(OBJECT_COLORS, rng)[1], uniform(rng, 0.08, 0.35))
    mesh = Mesh()
    mesh.slab((-w / 2, w / 2), (0, 0.025), (0, h), frame)
    mesh.slab((-w / 2 + 0.03, w / 2 - 0.03), (0.024, 0.03), (0.03, h - 0.03), art)
    return ObjectModel("picture", mesh, (w, 0.03, h), "", "framed", size_word(w * h, 0.1, 0.8))


def make_whiteboard(rng: np.random.Generator) -> ObjectModel:
    """A white writing board with a metal frame and a pen tray; z = 0 is its lower edge."""
    w, h = uniform(rng, 1.0, 1.9), uniform(rng, 0.8, 1.15)
    mesh = Mesh()
    frame = metal(rng)
    mesh.slab((-w / 2, w / 2), (0, 0.022), (0, h), frame)
    board = Material("plain", (0.95, 0.95, 0.96), (0.90, 0.91, 0.93), 0.4, depth_loss=0.02)
    mesh.slab((-w / 2 + 0.02, w / 2 - 0.02), (0.02, 0.024), (0.02, h - 0.02), board)
    mesh.slab((-w * 0.25, w * 0.25), (0.02, 0.08), (-0.02, 0.0), frame)
    return ObjectModel("whiteboard", mesh, (w, 0.08, h), "white", "", size_word(w, 1.0, 1.9))


def make_radiator(rng: np.random.Generator) -> ObjectModel:
    """A ribbed radiator on the wall, near the floor."""
    w, h, d = uniform(rng, 0.6, 1.4), uniform(rng, 0.45, 0.65), uniform(rng, 0.06, 0.1)
    body = plain(pick(OBJECT_COLORS, rng, ("white", "white", "grey"))[1], rng)
    mesh = Mesh()
    z0 = uniform(rng, 0.08, 0.16)
    count = int(w / uniform(rng, 0.05, 0.09))
    for k in range(count):
        x = -w / 2 + w * (k + 0.5) / count
        mesh.slab((x - w / count * 0.36, x + w / count * 0.36), (0.03, 0.03 + d), (z0, z0 + h), body)
    for z in (z0 + 0.04, z0 + h - 0.06):
        mesh.slab((-w / 2, w / 2), (0.04, 0.02 + d), (z, z + 0.03), body)
    mesh.cylinder((w / 2 - 0.03, 0.07, 0), (w / 2 - 0.03, 0.07, z0 + 0.05), 0.012, metal(rng), segments=8)
    return ObjectModel("radiator", mesh, (w, d + 0.04, z0 + h), "white", "metal")
