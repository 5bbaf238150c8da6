"""The augmentation of Mosaic3D's training (reference: its released configurations), in the published order and strength.

Each step is a small class, called with a scene and a generator. Steps that drop or reorder points keep masks true.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RegularGridInterpolator

from mosaic3d_core.data.scene_folder import CaptionedScene
from mosaic3d_core.data.transforms import Compose, RandomScale, Transform, reorder_points, select_points


@dataclass(frozen=True)
class CenterShift:
    """Move the middle of the x and y range to 0, and the lowest point to z = 0 (``z``) or leave the height."""

    z: bool = True

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Shift the points; the generator is not used."""
        if not len(scene.coord):
            return scene
        low, high = scene.coord.min(0), scene.coord.max(0)
        shift = np.array([*((low + high) / 2)[:2], low[2] if self.z else 0.0], np.float32)
        return replace(scene, coord=scene.coord - shift)


@dataclass(frozen=True)
class RandomTurn:
    """With some probability turn about one axis through the origin by up to ``extent_rad`` either way."""

    axis: int
    extent_rad: float
    probability: float = 0.5

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Turn points and normals."""
        if rng.random() >= self.probability:
            return scene
        angle = rng.uniform(-self.extent_rad, self.extent_rad)
        first, second = (self.axis + 1) % 3, (self.axis + 2) % 3
        matrix = np.eye(3, dtype=np.float32)
        matrix[first, first] = matrix[second, second] = np.cos(angle)
        matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
        return replace(scene, coord=scene.coord @ matrix.T, normal=scene.normal @ matrix.T)


@dataclass(frozen=True)
class RandomMirror:
    """Mirror x and y, each with some probability."""

    probability: float = 0.5

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Mirror points and normals."""
        signs = np.ones(3, np.float32)
        signs[:2] = np.where(rng.random(2) < self.probability, -1, 1)
        return replace(scene, coord=scene.coord * signs, normal=scene.normal * signs)


@dataclass(frozen=True)
class ClippedJitter:
    """Gaussian noise on every coordinate, cut off at ``limit_m``."""

    sigma_m: float = 0.005
    limit_m: float = 0.02

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Shake the points."""
        noise = rng.standard_normal(scene.coord.shape, dtype=np.float32) * np.float32(self.sigma_m)
        return replace(scene, coord=scene.coord + noise.clip(-self.limit_m, self.limit_m))


@dataclass(frozen=True)
class ElasticDistortion:
    """Smooth random displacement: noise on a grid of ``cell_m``, smoothed, interpolated and scaled, once per pair."""

    steps: tuple[tuple[float, float], ...] = ((0.2, 0.4), (0.8, 1.6))  # (cell_m, magnitude_m)
    probability: float = 0.95

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Displace the points."""
        if not len(scene.coord) or rng.random() >= self.probability:
            return scene
        coord = scene.coord
        for cell_m, magnitude_m in self.steps:
            coord = coord + np.float32(magnitude_m) * _smooth_noise(coord, cell_m, rng)
        return replace(scene, coord=coord)


def _smooth_noise(coord: NDArray[np.float32], cell_m: float, rng: np.random.Generator) -> NDArray[np.float32]:
    low = coord.min(0)
    size = ((coord - low).max(0) // cell_m).astype(int) + 3
    noise = rng.standard_normal((*size, 3), dtype=np.float32)
    for _ in range(2):
        for axis in range(3):
            noise = ndimage.uniform_filter1d(noise, 3, axis=axis, mode="constant")
    axes = [low[k] - cell_m + cell_m * np.arange(size[k]) for k in range(3)]
    found = RegularGridInterpolator(axes, noise, bounds_error=False, fill_value=0.0)(coord)
    return found.astype(np.float32)


@dataclass(frozen=True)
class AutoContrast:
    """With some probability blend, by a random share, with the colours stretched to the whole range of each channel."""

    probability: float = 0.2

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Recolour the points."""
        if not len(scene.color) or rng.random() >= self.probability:
            return scene
        color = scene.color.astype(np.float32)
        low, high = color.min(0), color.max(0)
        stretched = (color - low) * (255.0 / np.maximum(high - low, 1.0))
        share = np.float32(rng.random())
        return replace(scene, color=_as_color(color + share * (stretched - color)))


@dataclass(frozen=True)
class ColorTranslation:
    """With some probability add one random offset per channel, up to ``ratio`` of the range either way."""

    probability: float = 0.95
    ratio: float = 0.05

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Recolour the points."""
        if rng.random() >= self.probability:
            return scene
        return replace(scene, color=_as_color(scene.color + rng.uniform(-1, 1, 3) * 255.0 * self.ratio))


@dataclass(frozen=True)
class ColorJitter:
    """With some probability add noise to every colour value, of ``sigma`` of the range."""

    probability: float = 0.95
    sigma: float = 0.05

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Recolour the points."""
        if rng.random() >= self.probability:
            return scene
        noise = rng.standard_normal(scene.color.shape, dtype=np.float32) * np.float32(255.0 * self.sigma)
        return replace(scene, color=_as_color(scene.color + noise))


def _as_color(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return values.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class SphereCrop:
    """Keep the points nearest to one of them: at most ``max_points``, and at most a ``share`` of all where one is given.

    With ``captioned`` the middle is a point that has a caption, so that a crop is never without.
    """

    max_points: int = 250_000
    share: float | None = None
    captioned: bool = False

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Drop the far points."""
        n = len(scene.coord)
        count = min(self.max_points, n if self.share is None else int(self.share * n))
        if n == 0 or count >= n:
            return scene
        if self.captioned and scene.masks:
            mask = scene.masks[rng.integers(len(scene.masks))]
            centre = scene.coord[mask[rng.integers(len(mask))]]
        else:
            centre = scene.coord[rng.integers(n)]
        offset = scene.coord - centre
        keep = np.zeros(n, bool)
        keep[np.argpartition(np.einsum("ij,ij->i", offset, offset), count)[:count]] = True
        return select_points(scene, keep)


@dataclass(frozen=True)
class ShufflePoints:
    """Put the points in random order."""

    def __call__(self, scene: CaptionedScene, rng: np.random.Generator) -> CaptionedScene:
        """Reorder points and masks."""
        return reorder_points(scene, rng.permutation(len(scene.coord)))


#: Crop after the colours, by dataset: (share before the crop, points, whether the middle has a caption, shift afterwards).
_CROPS = {
    "scannet": (None, 250_000, False, True),
    "matterport3d": (None, 250_000, False, True),
    "arkitscenes": (0.8, 120_000, True, False),
    "scannetpp": (0.8, 120_000, True, False),
    "structured3d": (0.8, 120_000, True, False),
}


def published_transforms(dataset: str) -> Compose:
    """The published augmentation of a dataset; one that is unknown is treated as ScanNet."""
    share, points, captioned, shift = _CROPS.get(dataset, _CROPS["scannet"])
    small = float(np.pi / 64)
    steps: list[Transform] = [
        CenterShift(),
        RandomTurn(2, float(np.pi)),
        RandomTurn(0, small),
        RandomTurn(1, small),
        RandomScale(0.9, 1.1, 0.0),
        RandomMirror(),
        ClippedJitter(),
        ElasticDistortion(),
        AutoContrast(),
        ColorTranslation(),
        ColorJitter(),
    ]
    if share is not None:
        steps.append(SphereCrop(10**9, share, captioned))
    steps.append(SphereCrop(points, None, captioned))
    if shift:
        steps.append(CenterShift(z=False))
    return Compose(tuple(steps))
