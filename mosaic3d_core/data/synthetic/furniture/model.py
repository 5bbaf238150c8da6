"""What a furniture generator returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mosaic3d_core.data.synthetic.materials import Material
from mosaic3d_core.data.synthetic.mesh import Mesh


@dataclass
class ObjectModel:
    """One object in its own coordinates (metres, z up, +y = front).

    Attributes:
        class_name: Canonical class name.
        mesh: Triangles with materials.
        size: Footprint width (x), depth (y) and height (z) that placement reserves.
        color: Colour word for captions, "" when no single one fits.
        material: Material word for captions, "" when none fits.
        size_word: "small", "large", "tall" ... or "".
        surfaces: Places to put things on: (x0, x1, y0, y1, z).
    """

    class_name: str
    mesh: Mesh
    size: tuple[float, float, float]
    color: str = ""
    material: str = ""
    size_word: str = ""
    surfaces: list[tuple[float, float, float, float, float]] = field(default_factory=list)


def size_word(value: float, low: float, high: float, words: tuple[str, str] = ("small", "large")) -> str:
    """The caption word for a measure: the first word in the lowest third of [low, high], the second in the highest, else ""."""
    share = (value - low) / (high - low)
    if share < 0.33:
        return words[0]
    return words[1] if share > 0.67 else ""


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """One uniform draw as a plain float."""
    return float(rng.uniform(low, high))


def four_legs(mesh: Mesh, w: float, d: float, height: float, r: float, material: Material, inset: float, round_: bool) -> None:
    """Four straight legs under a rectangle w x d, from the floor to `height`."""
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (w / 2 - inset), sy * (d / 2 - inset)
            if round_:
                mesh.cylinder((x, y, 0), (x, y, height), r, material, segments=10)
            else:
                mesh.slab((x - r, x + r), (y - r, y + r), (0, height), material)
