"""Procedural surface materials of the synthetic rooms: colour palettes and per-point textures.

A material is evaluated at the hit point in the object's own coordinates, so a texture sticks to its object and needs no
image or UV map. Kernels are compiled with numba and pure functions of their inputs.
"""

# ruff: noqa: C901 - one branch per texture
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

Color = tuple[float, float, float]

#: Texture kinds understood by the shading kernel, in the order of their codes.
TEXTURES: Final[tuple[str, ...]] = (
    "plain",
    "wood",
    "fabric",
    "stripes",
    "checks",
    "tiles",
    "planks",
    "carpet",
    "noise",
    "painting",
    "screen",
    "foliage",
    "outdoor",
)
_TEXTURE_CODE: Final[dict[str, int]] = {name: i for i, name in enumerate(TEXTURES)}

#: Named colours used for objects; the name goes into captions, the value is jittered per object. sRGB in [0, 1].
OBJECT_COLORS: Final[Mapping[str, Color]] = MappingProxyType(
    {
        "white": (0.90, 0.90, 0.88),
        "black": (0.09, 0.09, 0.10),
        "grey": (0.50, 0.50, 0.51),
        "beige": (0.80, 0.72, 0.58),
        "brown": (0.42, 0.27, 0.16),
        "red": (0.68, 0.13, 0.13),
        "blue": (0.15, 0.27, 0.58),
        "green": (0.20, 0.44, 0.22),
        "yellow": (0.85, 0.70, 0.20),
        "orange": (0.82, 0.43, 0.13),
        "pink": (0.84, 0.52, 0.58),
        "purple": (0.42, 0.25, 0.50),
        "turquoise": (0.20, 0.58, 0.58),
    }
)
WOOD_COLORS: Final[Mapping[str, Color]] = MappingProxyType(
    {
        "light wooden": (0.76, 0.60, 0.42),
        "wooden": (0.58, 0.39, 0.23),
        "dark wooden": (0.30, 0.19, 0.12),
        "white": (0.88, 0.87, 0.84),
    }
)


@dataclass(frozen=True)
class Material:
    """How a surface looks to the colour and the depth camera.

    Attributes:
        texture: One of `TEXTURES`.
        color: Main sRGB colour in [0, 1].
        color2: Second colour that the texture mixes in.
        scale_m: Size of the texture's pattern in metres.
        depth_loss: Probability in [0, 1] that the depth camera gets no return (glass, black gloss, mirrors).
        glow: 1 for surfaces that emit their colour (screens, lamps, sky), 0 for lit ones.
    """

    texture: str
    color: Color
    color2: Color
    scale_m: float = 0.1
    depth_loss: float = 0.0
    glow: float = 0.0

    def row(self) -> NDArray[np.float32]:
        """The material as a float32 row (10,) for the shading kernel."""
        code = float(_TEXTURE_CODE[self.texture])
        return np.array([code, *self.color, *self.color2, self.scale_m, self.depth_loss, self.glow], np.float32)


def jitter_color(color: Color, rng: np.random.Generator, amount: float = 0.05) -> Color:
    """A colour near `color`: brightness scaled and channels shifted by about `amount`, kept in [0.02, 0.98]."""
    shifted = np.asarray(color) * rng.uniform(1 - 2 * amount, 1 + 2 * amount) + rng.normal(0, amount / 2, 3)
    red, green, blue = np.clip(shifted, 0.02, 0.98)
    return float(red), float(green), float(blue)


def pick(palette: Mapping[str, Color], rng: np.random.Generator, names: tuple[str, ...] | None = None) -> tuple[str, Color]:
    """A random (name, jittered colour) of a palette, restricted to `names` when given."""
    choices = list(names or palette)
    name = choices[int(rng.integers(len(choices)))]
    return name, jitter_color(palette[name], rng)


def plain(color: Color, rng: np.random.Generator, **kw: float) -> Material:
    """Painted or plastic surface with hardly any structure."""
    return Material("plain", color, jitter_color(color, rng, 0.04), float(rng.uniform(0.03, 0.2)), **kw)


def wood(color: Color, rng: np.random.Generator) -> Material:
    """Wood grain along the object's x axis."""
    dark = tuple(float(c * rng.uniform(0.65, 0.85)) for c in color)
    return Material("wood", color, (dark[0], dark[1], dark[2]), float(rng.uniform(0.02, 0.06)))


def fabric(color: Color, rng: np.random.Generator, pattern: bool = True) -> Material:
    """Cloth: fine weave, sometimes stripes or checks in a second colour."""
    if pattern and rng.random() < 0.3:
        second = pick(OBJECT_COLORS, rng)[1]
        return Material(str(rng.choice(["stripes", "checks"])), color, second, float(rng.uniform(0.04, 0.16)))
    dark = tuple(float(c * 0.78) for c in color)
    return Material("fabric", color, (dark[0], dark[1], dark[2]), float(rng.uniform(0.008, 0.03)))


def metal(rng: np.random.Generator) -> Material:
    """Grey metal: plain, a little hole-prone for the depth camera."""
    level = float(rng.uniform(0.35, 0.75))
    return Material("plain", (level, level, level * 1.02), (level * 0.9,) * 3, 0.1, depth_loss=0.05)


@numba.njit(cache=True, nogil=True)
def _hash01(x: int, y: int, z: int) -> float:
    h = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791)
    h = (h ^ (h >> 13)) * 1274126177
    h = h ^ (h >> 16)
    return (h & 0xFFFFF) / 1048575.0


@numba.njit(cache=True, nogil=True)
def _value_noise(x: float, y: float, z: float) -> float:
    """Smooth noise in [0, 1] on the unit lattice (trilinear, smoothstep weights)."""
    xi, yi, zi = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - xi, y - yi, z - zi
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    total = 0.0
    for dx in range(2):
        wx = fx if dx else 1 - fx
        for dy in range(2):
            wy = fy if dy else 1 - fy
            for dz in range(2):
                wz = fz if dz else 1 - fz
                total += wx * wy * wz * _hash01(xi + dx, yi + dy, zi + dz)
    return total


@numba.njit(cache=True, nogil=True)
def _grid_line(u: float, v: float, width: float) -> bool:
    fu, fv = u - np.floor(u), v - np.floor(v)
    return fu < width or fv < width


@numba.njit(cache=True, nogil=True)
def texture_mix(code: int, x: float, y: float, z: float, nx: float, ny: float, nz: float, scale: float) -> float:
    """Share of the second colour, in [0, 1], at local point (x, y, z) metres with local normal n."""
    s = 1.0 / scale
    ax, ay, az = abs(nx), abs(ny), abs(nz)
    # (u, v): the two coordinates along the surface, from its dominant axis
    if az >= ax and az >= ay:
        u, v = x, y
    elif ay >= ax:
        u, v = x, z
    else:
        u, v = y, z
    if code == 0:  # plain
        return 0.6 * _value_noise(x * s, y * s, z * s)
    if code == 1:  # wood: stretched noise makes the grain
        g = _value_noise(x * s * 0.12, y * s, z * s) * 6.0
        return 0.75 * (g - np.floor(g))
    if code == 2:  # fabric
        return 0.5 * _value_noise(x * s, y * s, z * s) + 0.5 * _value_noise(x * s * 3, y * s * 3, z * s * 3)
    if code == 3:  # stripes
        return 1.0 if (u * s) - np.floor(u * s) < 0.45 else 0.0
    if code == 4:  # checks
        return 0.5 * ((1.0 if (u * s) - np.floor(u * s) < 0.5 else 0.0) + (1.0 if (v * s) - np.floor(v * s) < 0.5 else 0.0))
    if code == 5:  # tiles with grout
        if _grid_line(u * s, v * s, 0.035):
            return 1.0
        return 0.15 * _hash01(int(np.floor(u * s)), int(np.floor(v * s)), 7)
    if code == 6:  # planks: long boards with their own shade and dark joints
        row = np.floor(v * s)
        along = u * s * 0.12 + _hash01(int(row), 3, 1) * 5.0
        if v * s - row < 0.03 or along - np.floor(along) < 0.006:
            return 1.0
        grain = _value_noise(u * s * 0.8, v * s * 8.0, row) * 0.35
        return 0.35 * _hash01(int(row), int(np.floor(along)), 11) + grain
    if code == 7:  # carpet
        return _value_noise(x * s * 2, y * s * 2, z * s * 2)
    if code == 8:  # coarse noise (stone, plaster)
        return 0.5 * _value_noise(x * s, y * s, z * s) + 0.5 * _value_noise(x * s * 0.2, y * s * 0.2, z * s * 0.2)
    if code == 9 or code == 10:  # painting, screen content: large patches
        n = _value_noise(u * s, v * s, scale * 100.0) * 4.0
        return (np.floor(n) + 0.3 * _value_noise(u * s * 5, v * s * 5, 2.0)) / 4.3
    if code == 11:  # foliage
        return _value_noise(x * s, y * s, z * s)
    # outdoor: sky above, green below
    t = v * s + 0.3 * _value_noise(u * s * 2, v * s * 2, 5.0)
    return min(1.0, max(0.0, 0.8 - t))
