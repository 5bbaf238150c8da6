"""Random changes of a captioned scene for training: each a small class, called with the scene and a generator.

Geometric ones move points and normals together; the ones that drop points keep masks true by re-indexing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.scene_folder import CaptionedScene


class Transform(Protocol):
    """Changes a scene at random."""

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """The changed scene; the input is left as it is."""
        ...


def select_points(scene: CaptionedScene, keep: NDArray[np.bool_]) -> CaptionedScene:
    """The scene with only the points where `keep` (N,) is true; masks follow, masks left empty go with their captions."""
    new_index = np.cumsum(keep) - 1
    masks, captions = [], []
    for mask, texts in zip(scene.masks, scene.captions, strict=True):
        kept = new_index[mask[keep[mask]]]
        if len(kept):
            masks.append(kept)
            captions.append(texts)
    return replace(
        scene,
        coord=scene.coord[keep],
        color=scene.color[keep],
        normal=scene.normal[keep],
        segment=scene.segment[keep],
        instance=scene.instance[keep],
        masks=masks,
        captions=captions,
    )


def reorder_points(scene: CaptionedScene, order: NDArray[np.int64]) -> CaptionedScene:
    """The scene with point `order[i]` in place i; masks follow."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    arrays = {name: getattr(scene, name)[order] for name in ("coord", "color", "normal", "segment", "instance")}
    return replace(scene, **arrays, masks=[place[mask] for mask in scene.masks])


def _squared_length(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) squared lengths of rows; NumPy's sum over a short last axis takes several times as long."""
    return np.einsum("ij,ij->i", rows, rows)


def _moved(scene: CaptionedScene, matrix: NDArray[np.float64]) -> CaptionedScene:
    m = matrix.astype(np.float32)
    return replace(scene, coord=scene.coord @ m.T, normal=scene.normal @ m.T)


@dataclass(frozen=True)
class RandomRotation:
    """Turn by any angle about z and tilt a little (gravity is never known exactly)."""

    tilt_rad: float = 0.04

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Rotate points and normals."""
        a, (p, q) = rng.uniform(0, 2 * np.pi), rng.normal(0, self.tilt_rad, 2)
        z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
        y = np.array([[np.cos(q), 0, np.sin(q)], [0, 1, 0], [-np.sin(q), 0, np.cos(q)]])
        return _moved(scene, y @ x @ z)


@dataclass(frozen=True)
class RandomFlip:
    """Mirror x with probability 1/2."""

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Flip points and normals."""
        return _moved(scene, np.diag([-1.0, 1, 1])) if rng.random() < 0.5 else scene


@dataclass(frozen=True)
class RandomScale:
    """Scale all axes by a common factor and each by a little more."""

    low: float = 0.9
    high: float = 1.1
    per_axis: float = 0.03

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Scale the points; normals stay (the change of angle is below their noise)."""
        factor = rng.uniform(self.low, self.high) * (1 + rng.uniform(-self.per_axis, self.per_axis, 3))
        return replace(scene, coord=(scene.coord * factor).astype(np.float32))


@dataclass(frozen=True)
class RandomShift:
    """Move the scene against the voxel lattice."""

    extent_m: float = 1.0

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Add one random offset to all points."""
        return replace(scene, coord=(scene.coord + rng.uniform(-self.extent_m, self.extent_m, 3)).astype(np.float32))


@dataclass(frozen=True)
class RandomJitter:
    """Gaussian noise on each point, of a random strength up to `sigma_m`, and half of the time on normals."""

    sigma_m: float = 0.012

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Shake the points."""
        n = len(scene.coord)
        sigma = rng.uniform(0, self.sigma_m)
        coord = scene.coord + rng.standard_normal((n, 3), dtype=np.float32) * np.float32(sigma)
        if rng.random() < 0.5:
            return replace(scene, coord=coord)
        normal = scene.normal + rng.standard_normal((n, 3), dtype=np.float32) * np.float32(rng.uniform(0, 0.35))
        known = _squared_length(scene.normal)[:, None] > 0
        normal = np.where(known, normal / np.maximum(np.sqrt(_squared_length(normal))[:, None], 1e-6), 0)
        return replace(scene, coord=coord, normal=normal.astype(np.float32))


@dataclass(frozen=True)
class RandomThinning:
    """Drop a random share of the points (density differs between sensors), and with some probability whole blobs (holes)."""

    min_share: float = 0.2
    max_share: float = 0.7
    hole_probability: float = 0.5
    max_holes: int = 12
    hole_radius_m: float = 0.25

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Drop points."""
        n = len(scene.coord)
        if n == 0:
            return scene
        keep = rng.random(n, dtype=np.float32) >= rng.uniform(self.min_share, self.max_share)
        if rng.random() < self.hole_probability:
            for centre in scene.coord[rng.integers(0, n, int(rng.integers(1, self.max_holes + 1)))]:
                radius = rng.uniform(0.05, self.hole_radius_m)
                keep &= _squared_length(scene.coord - centre) > radius**2
        return select_points(scene, keep)


@dataclass(frozen=True)
class PartialView:
    """With some probability keep only what a few camera views or a part of the room would show.

    Half of the time points inside one horizontal viewing wedge from a standpoint, else points within a disc around one.
    """

    probability: float = 0.5
    min_points: int = 5000

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Cut the scene."""
        if len(scene.coord) < self.min_points or rng.random() >= self.probability:
            return scene
        low, high = scene.coord[:, :2].min(0), scene.coord[:, :2].max(0)
        at = rng.uniform(low, high)
        rel = scene.coord[:, :2] - at
        if rng.random() < 0.5:
            heading, half = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.4)
            angle = np.abs((np.arctan2(rel[:, 1], rel[:, 0]) - heading + np.pi) % (2 * np.pi) - np.pi)
            keep = angle < half
        else:
            keep = _squared_length(rel) < rng.uniform(1.2, 3.0) ** 2
        if rng.random() < 0.35:  # the ceiling is often never looked at
            keep &= scene.coord[:, 2] < np.quantile(scene.coord[:, 2], rng.uniform(0.6, 0.95))
        return select_points(scene, keep) if keep.sum() >= self.min_points else scene


@dataclass(frozen=True)
class RandomColor:
    """Per-channel gain and offset, gamma, contrast, saturation and, sometimes, no colour at all."""

    gain: float = 0.2
    offset: float = 20.0
    gray_probability: float = 0.1
    swap_probability: float = 0.1
    noise: float = 10.0

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Recolour all points together, plus noise per point."""
        c = scene.color.astype(np.float32)
        if rng.random() < self.swap_probability:
            c = c[:, rng.permutation(3)]
        gray = (c @ np.full(3, 1 / 3, np.float32))[:, None]
        saturation: float = 0.0 if rng.random() < self.gray_probability else rng.uniform(0.4, 1.4)
        c = gray + (c - gray) * np.float32(saturation)
        gamma = float(np.exp(rng.normal(0, 0.2)))
        c = np.float32(255) * (np.clip(c, 0, 255) / np.float32(255)) ** np.float32(gamma)
        c = c * (1 + rng.uniform(-self.gain, self.gain, 3)).astype(np.float32) * np.float32(rng.uniform(0.7, 1.3))
        c = c + rng.uniform(-self.offset, self.offset, 3).astype(np.float32)
        c = c + rng.standard_normal(c.shape, dtype=np.float32) * np.float32(rng.uniform(0, self.noise))
        return replace(scene, color=np.clip(c, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Compose:
    """One transform after the other."""

    steps: Sequence[Transform]

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Apply all steps."""
        for step in self.steps:
            scene = step(scene, rng)
        return scene


def training_transforms() -> Compose:
    """The augmentation of the shipped checkpoint."""
    return Compose(
        (
            PartialView(),
            RandomThinning(),
            RandomFlip(),
            RandomScale(),
            RandomRotation(),
            RandomShift(),
            RandomJitter(),
            RandomColor(),
        )
    )
