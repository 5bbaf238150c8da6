"""Chairs, stools, sofas and armchairs."""

from __future__ import annotations

import numpy as np

from mosaic3d_core.data.synthetic.furniture.model import ObjectModel, four_legs, size_word, uniform
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS, WOOD_COLORS, Material, fabric, metal, pick, plain, wood
from mosaic3d_core.data.synthetic.mesh import Mesh, rotation_x


def _frame_material(rng: np.random.Generator) -> tuple[str, str, Material]:
    """(colour word, material word, material) of a chair-like frame."""
    kind = rng.random()
    if kind < 0.5:
        name, color = pick(WOOD_COLORS, rng)
        return ("white", "wooden", wood(color, rng)) if name == "white" else ("brown", name, wood(color, rng))
    name, color = pick(OBJECT_COLORS, rng)
    return name, "plastic", plain(color, rng)


def make_chair(rng: np.random.Generator) -> ObjectModel:  # noqa: C901 - one branch per style
    """A dining chair: seat, back (solid, slats or hoop), legs (straight, splayed or sled)."""
    w, d = uniform(rng, 0.38, 0.52), uniform(rng, 0.38, 0.52)
    seat, total = uniform(rng, 0.42, 0.50), uniform(rng, 0.76, 1.05)
    color, word, body = _frame_material(rng)
    legs = metal(rng) if rng.random() < 0.35 else body
    mesh = Mesh()
    thick = uniform(rng, 0.02, 0.05)
    if rng.random() < 0.4:
        cushion_color = pick(OBJECT_COLORS, rng)
        color = cushion_color[0]
        mesh.rounded_box((0, 0, seat + 0.02), (w, d, 0.06), 0.03, fabric(cushion_color[1], rng))
    mesh.slab((-w / 2, w / 2), (-d / 2, d / 2), (seat - thick, seat), body)
    style = rng.integers(3)
    r = uniform(rng, 0.012, 0.022)
    if style == 2:  # sled base
        for sx in (-1, 1):
            x = sx * (w / 2 - r)
            for y0, y1, z0, z1 in ((-d / 2, d / 2, r, r), (-d / 2, -d / 2, r, seat), (d / 2, d / 2, r, seat)):
                mesh.cylinder((x, y0, z0), (x, y1, z1 + 1e-4), r, legs, segments=8)
    else:
        four_legs(mesh, w, d, seat, r, legs, 0.02 + r, bool(style))
    lean = rotation_x(uniform(rng, 0.05, 0.18))
    back_h = total - seat
    back = rng.integers(3)
    y_back = -d / 2
    if back == 0:
        low = uniform(rng, 0.0, 0.4) * back_h
        mesh.box((0, y_back - 0.02, seat + (low + back_h) / 2), (w * 0.95, 0.03, back_h - low), body, lean)
    else:
        for sx in (-1, 1):
            mesh.box((sx * (w / 2 - 0.02), y_back - 0.02, seat + back_h / 2), (0.035, 0.03, back_h), body, lean)
        count = int(rng.integers(2, 6))
        for i in range(count):
            if back == 1:
                mesh.box(
                    (0, y_back - 0.02, seat + back_h * (0.3 + 0.65 * i / max(count - 1, 1))), (w - 0.05, 0.02, 0.06), body, lean
                )
            else:
                x = (i + 0.5) / count * (w - 0.08) - (w - 0.08) / 2
                mesh.box((x, y_back - 0.02, seat + back_h / 2), (0.025, 0.02, back_h), body, lean)
        mesh.box((0, y_back - 0.02 - 0.12 * back_h * 0.4, total - 0.04), (w, 0.03, 0.09), body, lean)
    if rng.random() < 0.15:
        for sx in (-1, 1):
            mesh.slab((sx * w / 2 - 0.02, sx * w / 2 + 0.02), (-d / 2, d / 2 * 0.7), (seat + 0.2, seat + 0.23), body)
    return ObjectModel("chair", mesh, (w, d + 0.06, total), color, word)


def make_office_chair(rng: np.random.Generator) -> ObjectModel:
    """A swivel chair: five-star base, gas spring, padded seat and back, usually arms."""
    name, color = pick(OBJECT_COLORS, rng, ("black", "grey", "blue", "red", "white", "black"))
    pad, frame = fabric(color, rng, pattern=False), plain((0.1, 0.1, 0.11), rng) if rng.random() < 0.7 else metal(rng)
    mesh = Mesh()
    seat, w = uniform(rng, 0.42, 0.52), uniform(rng, 0.46, 0.54)
    for k in range(5):
        a = 2 * np.pi * k / 5 + 0.3
        tip = (0.29 * np.cos(a), 0.29 * np.sin(a), 0.07)
        mesh.cylinder((0, 0, 0.11), tip, 0.025, frame, segments=8)
        mesh.ellipsoid((tip[0], tip[1], 0.03), (0.03, 0.03, 0.03), frame, 8)
    mesh.cylinder((0, 0, 0.09), (0, 0, seat - 0.05), 0.03, frame)
    mesh.rounded_box((0, 0.02, seat - 0.02), (w, 0.48, 0.09), 0.04, pad)
    back_h = uniform(rng, 0.40, 0.68)
    mesh.rounded_box((0, -0.24, seat + 0.14 + back_h / 2), (w * 0.92, 0.08, back_h), 0.04, pad)
    mesh.box((0, -0.25, seat + 0.08), (0.08, 0.03, 0.24), frame)
    if rng.random() < 0.75:
        for sx in (-1, 1):
            mesh.slab(
                (sx * (w / 2 + 0.03) - 0.025, sx * (w / 2 + 0.03) + 0.025), (-0.15, 0.12), (seat + 0.18, seat + 0.215), frame
            )
            mesh.box((sx * (w / 2 + 0.03), -0.02, seat + 0.08), (0.03, 0.06, 0.22), frame)
    return ObjectModel("office chair", mesh, (0.62, 0.62, seat + 0.14 + back_h), name, "")


def make_stool(rng: np.random.Generator) -> ObjectModel:
    """A backless stool, low or at bar height."""
    tall = rng.random() < 0.4
    height = uniform(rng, 0.62, 0.78) if tall else uniform(rng, 0.40, 0.50)
    color, word, body = _frame_material(rng)
    mesh = Mesh()
    r = uniform(rng, 0.15, 0.20)
    legs = metal(rng) if rng.random() < 0.4 else body
    if rng.random() < 0.3:
        mesh.lathe([(0, 0), (0.2, 0.0), (0.2, 0.02), (0.03, 0.04), (0.03, height - 0.04)], (0, 0, 0), legs)
    else:
        n = 3 if rng.random() < 0.3 else 4
        for k in range(n):
            a = 2 * np.pi * (k + 0.5) / n
            c, s = np.cos(a), np.sin(a)
            mesh.cylinder((c * r * 1.05, s * r * 1.05, 0), (c * r * 0.75, s * r * 0.75, height - 0.02), 0.016, legs, segments=8)
        ring = height * 0.35
        for k in range(n):
            a, b = 2 * np.pi * (k + 0.5) / n, 2 * np.pi * (k + 1.5) / n
            mesh.cylinder(
                (np.cos(a) * r * 0.92, np.sin(a) * r * 0.92, ring),
                (np.cos(b) * r * 0.92, np.sin(b) * r * 0.92, ring),
                0.01,
                legs,
                segments=6,
            )
    if rng.random() < 0.7:
        mesh.cylinder((0, 0, height - 0.04), (0, 0, height), r, body)
    else:
        mesh.slab((-r, r), (-r, r), (height - 0.04, height), body)
    return ObjectModel("stool", mesh, (2 * r + 0.04, 2 * r + 0.04, height), color, word, "tall" if tall else "low")


def _upholstery(rng: np.random.Generator) -> tuple[str, str, Material]:
    name, color = pick(OBJECT_COLORS, rng)
    if rng.random() < 0.25:
        return name, "leather", plain(color, rng)
    return name, "fabric", fabric(color, rng)


def _upholstered(rng: np.random.Generator, w: float, seats: int) -> tuple[Mesh, str, str, tuple[float, float, float]]:
    """Base, back, arms and cushions shared by sofas and armchairs."""
    color, word, cloth = _upholstery(rng)
    d, seat = uniform(rng, 0.76, 0.98), uniform(rng, 0.38, 0.46)
    total = uniform(rng, 0.70, 0.95)
    arm_w, arm_h = uniform(rng, 0.09, 0.22), uniform(rng, 0.50, 0.66)
    feet, back_d = uniform(rng, 0.03, 0.13), uniform(rng, 0.16, 0.26)
    mesh = Mesh()
    leg = wood(pick(WOOD_COLORS, rng)[1], rng)
    four_legs(mesh, w, d, feet, 0.022, leg, 0.05, False)
    radius = uniform(rng, 0.02, 0.07)
    mesh.rounded_box((0, 0, (feet + seat - 0.1) / 2), (w - 0.02, d - 0.02, seat - 0.1 - feet), 0.03, cloth)
    mesh.rounded_box((0, -d / 2 + back_d / 2, (feet + total) / 2), (w - 2 * arm_w * 0.3, back_d, total - feet), radius, cloth)
    for sx in (-1, 1):
        mesh.rounded_box((sx * (w / 2 - arm_w / 2), 0.0, (feet + arm_h) / 2), (arm_w, d, arm_h - feet), radius, cloth)
    inner = w - 2 * arm_w
    for k in range(seats):
        x = -inner / 2 + inner * (k + 0.5) / seats
        mesh.rounded_box((x, back_d / 2, seat - 0.06), (inner / seats - 0.01, d - back_d, 0.16), 0.05, cloth)
        mesh.rounded_box((x, -d / 2 + back_d + 0.07, seat + 0.2), (inner / seats - 0.02, 0.17, 0.40), 0.07, cloth)
    return mesh, color, word, (w, d, total)


def make_sofa(rng: np.random.Generator) -> ObjectModel:
    """A two- to four-seat sofa, sometimes with a chaise."""
    seats = int(rng.integers(2, 5))
    w = uniform(rng, 0.62, 0.76) * seats + 0.3
    mesh, color, word, size = _upholstered(rng, w, seats)
    seat_z = 0.42
    surfaces = [(-w / 2 + 0.25, w / 2 - 0.25, -0.1, size[1] / 2 - 0.1, seat_z + 0.02)]
    return ObjectModel("sofa", mesh, size, color, word, size_word(w, 1.5, 3.0), surfaces)


def make_armchair(rng: np.random.Generator) -> ObjectModel:
    """A one-seat upholstered chair."""
    mesh, color, word, size = _upholstered(rng, uniform(rng, 0.72, 1.0), 1)
    return ObjectModel("armchair", mesh, size, color, word)
