"""Small and decorative things: screens, lamps, plants, bins, rugs, boxes, suitcases, pianos."""

from __future__ import annotations

import numpy as np

from mosaic3d_core.data.synthetic.furniture.model import ObjectModel, size_word, uniform
from mosaic3d_core.data.synthetic.furniture.storage import carcass_material
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS, Material, fabric, jitter_color, metal, pick, plain, wood
from mosaic3d_core.data.synthetic.mesh import Mesh


def _screen(rng: np.random.Generator) -> Material:
    if rng.random() < 0.55:
        return Material("plain", (0.03, 0.03, 0.04), (0.06, 0.06, 0.08), 0.5, depth_loss=0.12)
    first, second = pick(OBJECT_COLORS, rng)[1], pick(OBJECT_COLORS, rng)[1]
    return Material("screen", first, second, uniform(rng, 0.1, 0.3), depth_loss=0.08, glow=0.9)


def make_tv(rng: np.random.Generator) -> ObjectModel:
    """A flat television on a foot; the origin is where the foot stands."""
    w = uniform(rng, 0.8, 1.35)
    h = w * 0.57
    mesh = Mesh()
    case = plain((0.05, 0.05, 0.055), rng)
    low = 0.06
    mesh.slab((-w / 2, w / 2), (-0.035, 0.02), (low, low + h), case)
    mesh.slab((-w / 2 + 0.015, w / 2 - 0.015), (0.02, 0.024), (low + 0.015, low + h - 0.015), _screen(rng))
    mesh.slab((-w * 0.2, w * 0.2), (-0.11, 0.11), (0, 0.015), case)
    mesh.box((0, -0.01, 0.04), (0.08, 0.04, 0.06), case)
    return ObjectModel("tv", mesh, (w, 0.22, h + low), "black", "", size_word(w, 0.8, 1.35))


def make_monitor(rng: np.random.Generator) -> ObjectModel:
    """A desktop monitor on its stand."""
    w = uniform(rng, 0.45, 0.66)
    h = w * uniform(rng, 0.56, 0.64)
    name, rgb = pick(OBJECT_COLORS, rng, ("black", "black", "grey", "white"))
    case = plain(rgb, rng)
    mesh = Mesh()
    low = uniform(rng, 0.09, 0.16)
    mesh.slab((-w / 2, w / 2), (-0.03, 0.015), (low, low + h), case)
    mesh.slab((-w / 2 + 0.012, w / 2 - 0.012), (0.015, 0.019), (low + 0.012, low + h - 0.012), _screen(rng))
    mesh.box((0, -0.03, (low + h * 0.4) / 2), (0.06, 0.03, low + h * 0.4), case)
    mesh.slab((-0.13, 0.13), (-0.12, 0.07), (0, 0.015), case)
    return ObjectModel("monitor", mesh, (w, 0.2, h + low), name, "")


def make_lamp(rng: np.random.Generator) -> ObjectModel:
    """A floor lamp (about 1.5 m) or a table lamp, with a fabric shade."""
    floor = rng.random() < 0.6
    h = uniform(rng, 1.35, 1.7) if floor else uniform(rng, 0.38, 0.6)
    color, rgb = pick(OBJECT_COLORS, rng, ("white", "beige", "yellow", "orange", "red", "grey"))
    stem = metal(rng) if rng.random() < 0.6 else plain((0.08, 0.08, 0.08), rng)
    shade = Material("fabric", rgb, jitter_color(rgb, rng), 0.02, glow=0.5)
    mesh = Mesh()
    base = uniform(rng, 0.12, 0.17) if floor else uniform(rng, 0.06, 0.09)
    shade_h, r = (
        (uniform(rng, 0.22, 0.34), uniform(rng, 0.16, 0.26)) if floor else (uniform(rng, 0.15, 0.24), uniform(rng, 0.10, 0.17))
    )
    mesh.cylinder((0, 0, 0), (0, 0, 0.025), base, stem)
    if floor or rng.random() < 0.5:
        mesh.cylinder((0, 0, 0.02), (0, 0, h - shade_h * 0.5), 0.014, stem, segments=8)
    else:
        mesh.lathe(
            [(0.05, 0.02), (base, h * 0.22), (0.03, h * 0.5), (0.02, h - shade_h * 0.6)],
            (0, 0, 0),
            plain(pick(OBJECT_COLORS, rng)[1], rng),
        )
    mesh.lathe([(r, h - shade_h), (r * uniform(rng, 0.55, 1.0), h)], (0, 0, 0), shade)
    return ObjectModel("lamp", mesh, (2 * r, 2 * r, h), color, "", "tall" if floor else "small")


def make_plant(rng: np.random.Generator) -> ObjectModel:
    """A potted plant: bushy or with long arching leaves."""
    h = uniform(rng, 0.45, 1.5)
    pot_h, pot_r = uniform(rng, 0.16, 0.32), uniform(rng, 0.10, 0.18)
    _, pot_color = pick(OBJECT_COLORS, rng, ("brown", "white", "grey", "black", "orange", "beige"))
    mesh = Mesh()
    mesh.lathe(
        [(0.0, 0.0), (pot_r * 0.75, 0.0), (pot_r, pot_h), (pot_r * 0.9, pot_h), (0.0, pot_h - 0.03)],
        (0, 0, 0),
        plain(pot_color, rng),
    )
    green = (uniform(rng, 0.10, 0.25), uniform(rng, 0.32, 0.5), uniform(rng, 0.08, 0.18))
    leaf = Material("foliage", green, (green[0] * 1.6, min(green[1] * 1.4, 0.9), green[2] * 1.3), 0.05)
    spread = uniform(rng, 0.22, 0.42)
    if rng.random() < 0.5:
        mesh.cylinder((0, 0, pot_h - 0.02), (0, 0, h * 0.7), 0.015, wood((0.35, 0.25, 0.15), rng), segments=6)
        for _ in range(int(rng.integers(14, 26))):
            p = rng.normal(0, 1, 3)
            p = p / np.linalg.norm(p) * rng.uniform(0.3, 1.0) * np.array([spread * 0.75, spread * 0.75, (h - pot_h) * 0.38])
            s = uniform(rng, 0.05, 0.11)
            middle = p + np.array([0.0, 0.0, (h + pot_h) / 2 + (h - pot_h) * 0.1])
            mesh.ellipsoid(middle, (s, s, s * uniform(rng, 0.4, 0.9)), leaf, 8)
    else:
        for _ in range(int(rng.integers(12, 24))):
            a, reach, rise = uniform(rng, 0, 2 * np.pi), spread * uniform(rng, 0.5, 1.0), (h - pot_h) * uniform(rng, 0.5, 1.0)
            t = np.linspace(0, 1, 7)
            along = np.stack(
                [np.cos(a) * reach * t**1.5, np.sin(a) * reach * t**1.5, pot_h + rise * np.sin(t * 2.1) / np.sin(1.57)], 1
            )
            half = (np.sin(np.pi * (0.08 + 0.9 * t)) * uniform(rng, 0.02, 0.05))[:, None] * np.array([-np.sin(a), np.cos(a), 0.0])
            mesh.sheet(np.stack([along - half, along + half], 1), leaf)
    return ObjectModel("plant", mesh, (2 * spread, 2 * spread, h), "green", "", size_word(h, 0.45, 1.5, ("small", "tall")))


def make_trash_can(rng: np.random.Generator) -> ObjectModel:
    """A waste bin: tapered round or square, open or with a lid."""
    h, r = uniform(rng, 0.28, 0.6), uniform(rng, 0.12, 0.19)
    color, rgb = pick(OBJECT_COLORS, rng, ("black", "grey", "white", "red", "green", "blue"))
    body = metal(rng) if rng.random() < 0.3 else plain(rgb, rng)
    mesh = Mesh()
    segments = 20 if rng.random() < 0.7 else 4
    taper = uniform(rng, 0.75, 1.0)
    if rng.random() < 0.5:
        profile = [(0.0, 0.01), (r * taper, 0.0), (r, h), (r - 0.012, h), (r * taper - 0.012, 0.03), (0.0, 0.03)]
    else:
        profile = [(0.0, 0.0), (r * taper, 0.0), (r, h * 0.85), (r * 0.9, h * 0.95), (0.0, h)]
    mesh.lathe(profile, (0, 0, 0), body, segments=segments)
    return ObjectModel("trash can", mesh, (2 * r, 2 * r, h), color, "", size_word(h, 0.28, 0.6))


def make_rug(rng: np.random.Generator) -> ObjectModel:
    """A rug lying on the floor."""
    w, d = uniform(rng, 1.2, 2.3), uniform(rng, 0.9, 1.6)
    color, rgb = pick(OBJECT_COLORS, rng)
    second = pick(OBJECT_COLORS, rng)[1]
    texture = str(rng.choice(["stripes", "checks", "carpet", "carpet"]))
    cloth = Material(texture, rgb, second if texture != "carpet" else jitter_color(rgb, rng, 0.12), uniform(rng, 0.03, 0.25))
    mesh = Mesh()
    t = uniform(rng, 0.01, 0.025)
    if rng.random() < 0.25:
        w = d = min(w, 1.7)
        mesh.cylinder((0, 0, 0.002), (0, 0, t), w / 2, cloth, segments=32)
    else:
        mesh.slab((-w / 2, w / 2), (-d / 2, d / 2), (0.002, t), cloth)
        edge = fabric(second, rng, pattern=False)
        for sx in (-1, 1):
            mesh.slab((sx * w / 2 - 0.05, sx * w / 2 + 0.05), (-d / 2, d / 2), (0.002, t + 0.002), edge)
    return ObjectModel("rug", mesh, (w, d, t), color, "soft", size_word(w, 1.2, 2.3))


def make_box(rng: np.random.Generator) -> ObjectModel:
    """A cardboard box, sometimes with open flaps."""
    w, d, h = uniform(rng, 0.25, 0.6), uniform(rng, 0.22, 0.45), uniform(rng, 0.18, 0.5)
    rgb = jitter_color((0.64, 0.48, 0.31), rng, 0.07)
    board = Material("plain", rgb, jitter_color(rgb, rng), 0.05)
    mesh = Mesh()
    if rng.random() < 0.4:
        for x in (-w / 2, w / 2):
            mesh.slab((x - 0.003, x + 0.003), (-d / 2, d / 2), (0, h), board)
            mesh.box((x * 1.35, 0, h + 0.02), (w * 0.32, d, 0.005), board)
        for y in (-d / 2, d / 2):
            mesh.slab((-w / 2, w / 2), (y - 0.003, y + 0.003), (0, h), board)
        mesh.slab((-w / 2, w / 2), (-d / 2, d / 2), (0, 0.006), board)
    else:
        mesh.slab((-w / 2, w / 2), (-d / 2, d / 2), (0, h), board)
        mesh.slab((-w / 2, w / 2), (-0.025, 0.025), (h, h + 0.001), plain((0.75, 0.66, 0.5), rng))
    return ObjectModel("box", mesh, (w, d, h), "brown", "cardboard", size_word(w * d * h, 0.02, 0.1))


def make_suitcase(rng: np.random.Generator) -> ObjectModel:
    """An upright trolley case with ribs, wheels and a pulled-out handle."""
    w, d, h = uniform(rng, 0.36, 0.52), uniform(rng, 0.2, 0.30), uniform(rng, 0.52, 0.76)
    color, rgb = pick(OBJECT_COLORS, rng)
    shell, dark = plain(rgb, rng), plain((0.08, 0.08, 0.08), rng)
    mesh = Mesh()
    mesh.rounded_box((0, 0, 0.05 + h / 2), (w, d, h), 0.05, shell)
    for k in range(5):
        x = -w / 2 + w * (k + 0.5) / 5
        mesh.rounded_box((x, 0, 0.05 + h / 2), (0.03, d + 0.015, h * 0.86), 0.008, shell, 3)
    for sx in (-1, 1):
        for sy in (-1, 1):
            mesh.ellipsoid((sx * (w / 2 - 0.06), sy * (d / 2 - 0.05), 0.028), (0.025, 0.025, 0.028), dark, 8)
    if rng.random() < 0.6:
        top = h + uniform(rng, 0.2, 0.42)
        for sx in (-1, 1):
            mesh.cylinder((sx * 0.09, -d / 2 + 0.04, h), (sx * 0.09, -d / 2 + 0.04, top), 0.008, metal(rng), segments=6)
        mesh.box((0, -d / 2 + 0.04, top), (0.21, 0.03, 0.03), dark)
    return ObjectModel("suitcase", mesh, (w, d, h + 0.1), color, "", size_word(h, 0.52, 0.76))


def make_piano(rng: np.random.Generator) -> ObjectModel:
    """An upright piano with keyboard, legs and music rest."""
    w, d, h = uniform(rng, 1.4, 1.52), uniform(rng, 0.55, 0.65), uniform(rng, 1.08, 1.3)
    if rng.random() < 0.55:
        color, word, body = "black", "", plain((0.05, 0.05, 0.055), rng, depth_loss=0.04)
    else:
        color, word, body = carcass_material(rng)
    mesh = Mesh()
    back = d * 0.55
    mesh.slab((-w / 2, w / 2), (-d / 2, -d / 2 + back), (0, h), body)
    mesh.slab((-w / 2 - 0.015, w / 2 + 0.015), (-d / 2, -d / 2 + back + 0.02), (h, h + 0.025), body)
    y0 = -d / 2 + back
    mesh.slab((-w / 2, w / 2), (y0, d / 2), (0.60, 0.66), body)
    mesh.slab((-w / 2 + 0.06, w / 2 - 0.06), (y0 + 0.06, d / 2 - 0.02), (0.66, 0.69), plain((0.93, 0.92, 0.88), rng))
    for k in range(36):
        if k % 7 in (0, 1, 3, 4, 5):
            x = -w / 2 + 0.08 + (w - 0.16) * (k + 0.7) / 36
            mesh.slab((x - 0.008, x + 0.008), (y0 + 0.06, y0 + 0.14), (0.69, 0.705), plain((0.04, 0.04, 0.04), rng))
    for sx in (-1, 1):
        mesh.slab((sx * (w / 2 - 0.03) - 0.03, sx * (w / 2 - 0.03) + 0.03), (y0, d / 2), (0.58, 0.76), body)
        mesh.slab((sx * (w / 2 - 0.06) - 0.03, sx * (w / 2 - 0.06) + 0.03), (d / 2 - 0.09, d / 2 - 0.03), (0, 0.6), body)
    mesh.box((0, y0 + 0.03, 0.92), (0.7, 0.02, 0.2), body)
    return ObjectModel("piano", mesh, (w + 0.03, d, h), color, word)
