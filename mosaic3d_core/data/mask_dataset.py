"""Captioned scenes as targets of the mask decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mosaic3d_core.data.caption_dataset import CaptionDataset, SampleRecipe, voxelise
from mosaic3d_core.data.scene_folder import CaptionedScene, read_scene_folder
from mosaic3d_core.data.transforms import Transform
from mosaic3d_core.errors import Mosaic3DError

#: Source of targets that are the true instances with the names of their classes.
TRUTH = "truth"


@dataclass(frozen=True)
class MaskSample:
    """One scene with its objects on the encoder's grid.

    Attributes:
        indices: (V, 3) int32 encoder voxels.
        features: (V, C) float32 input channels.
        positions: Mean position of each voxel's points, metres. Shape (V, 3), float32.
        counts: Points of each voxel. Shape (V,), float32.
        masks: Share of each voxel's points that belong to each object. Shape (T, V), float32.
        captions: One caption per object; "" where it has none.
        name: Name of the scene.
        draw: What its random draws came from: seed, epoch, index.
    """

    indices: NDArray[np.int32]
    features: NDArray[np.float32]
    positions: NDArray[np.float32]
    counts: NDArray[np.float32]
    masks: NDArray[np.float32]
    captions: list[str]
    name: str = ""
    draw: tuple[int, int, int] = (0, 0, 0)


class MaskDataset(CaptionDataset, Dataset[MaskSample]):  # type: ignore[misc]
    """Scenes whose masks are objects: true instances, or masks with gathered captions, of which one is drawn each time.

    Args:
        folders: Scene folders.
        sources: Caption sources, such as "segment3d-gathered"; or ``TRUTH`` alone.
        recipe: What becomes of a scene.
        transform: Augmentation, None for none.
        class_names: Names of the classes, for ``TRUTH``.
        seed: Together with epoch and index it fixes every draw.
        min_points: Objects of fewer points are left out.

    Raises:
        Mosaic3DError: If ``TRUTH`` is mixed with caption sources, or lacks class names; or if samples would be cut.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        sources: Sequence[str],
        recipe: SampleRecipe,
        transform: Transform | None,
        class_names: Sequence[str] | None = None,
        seed: int = 0,
        min_points: int = 20,
    ) -> None:
        super().__init__(folders, sources, recipe, transform, None, seed)
        if TRUTH in self.sources and (len(self.sources) > 1 or class_names is None):
            raise Mosaic3DError(f'source "{TRUTH}" stands alone and needs class names, got sources {", ".join(self.sources)}')
        if recipe.max_voxels is not None:
            raise Mosaic3DError(f"max_voxels={recipe.max_voxels} would cut objects of the mask decoder apart: set it to null")
        self.class_names, self.min_points = None if class_names is None else tuple(class_names), min_points

    def __getitem__(self, index: int) -> MaskSample:  # type: ignore[override]
        return self.sample(index)

    def sample(self, index: int, epoch: int = 0) -> MaskSample:  # type: ignore[override]
        """A scene with the draws of an epoch."""
        rng = np.random.default_rng([self.seed, epoch, index])
        folder = self.folders[index]
        scene = self._augmented(folder, rng)
        indices, features, owner = voxelise(scene, self.recipe)
        cells = len(indices)
        counts = np.bincount(owner, minlength=cells).astype(np.float32)
        positions = np.stack([np.bincount(owner, scene.coord[:, k], cells) for k in range(3)], 1) / np.maximum(counts, 1)[:, None]
        kept = [k for k, mask in enumerate(scene.masks) if len(mask) >= self.min_points]
        if self.recipe.max_masks is not None and len(kept) > self.recipe.max_masks:
            kept = sorted(rng.choice(kept, self.recipe.max_masks, replace=False).tolist())
        masks = np.zeros((len(kept), cells), np.float32)
        for row, k in zip(masks, kept, strict=True):
            row[:] = np.bincount(owner[scene.masks[k]], minlength=cells) / np.maximum(counts, 1)
        captions = [group[int(rng.integers(len(group)))] if (group := scene.captions[k]) else "" for k in kept]
        draw = self.seed, epoch, index
        return MaskSample(indices, features, positions.astype(np.float32), counts, masks, captions, folder.name, draw)

    def _read(self, folder: Path, rng: np.random.Generator) -> CaptionedScene:
        if self.sources != (TRUTH,):
            return super()._read(folder, rng)
        scene = read_scene_folder(folder, None)
        assert self.class_names is not None
        ids = [int(i) for i in np.unique(scene.instance) if i > 0]
        masks = [np.flatnonzero(scene.instance == i) for i in ids]
        classes = [int(np.bincount(scene.segment[mask] + 1).argmax()) - 1 for mask in masks]
        names = self.class_names
        captions: list[tuple[str, ...]] = [(names[c],) if 0 <= c < len(names) else () for c in classes]
        return replace(scene, masks=masks, captions=captions)
