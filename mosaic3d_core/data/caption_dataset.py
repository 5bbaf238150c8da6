"""Captioned scenes as voxel batches for language-alignment training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mosaic3d_core.data.caption_filter import CaptionFilter
from mosaic3d_core.data.scene_folder import CaptionedScene, read_scene_folder
from mosaic3d_core.data.transforms import Transform
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.models.encoder_input import build_encoder_input
from mosaic3d_core.models.official_input import official_batch


@dataclass(frozen=True)
class VoxelSample:
    """One scene on the encoder's grid.

    Attributes:
        indices: (V, 3) int32 encoder voxels.
        features: (V, C) float32 input channels.
        voxel_of_point: (N,) int64.
        segment: (N,) int16 point labels, -1 none.
        masks: Voxels of each sampled (mask, caption) pair; per point of the mask in the published form, so that voxels repeat.
        captions: One caption per pair.
        condition: Condition of a prompt-driven net.
        name: Name of the scene.
        draw: What its random draws came from: seed, epoch, index.
    """

    indices: NDArray[np.int32]
    features: NDArray[np.float32]
    voxel_of_point: NDArray[np.int64]
    segment: NDArray[np.int16]
    masks: list[NDArray[np.int64]]
    captions: list[str]
    condition: str | None = None
    name: str = ""
    draw: tuple[int, int, int] = (0, 0, 0)


def scene_snapshot(scene: CaptionedScene, voxel_size_m: float = 0.02) -> MapSnapshot:
    """The scene's points as a map snapshot, one row per point (not merged: pooling happens in the encoder input)."""
    n = len(scene.coord)
    return MapSnapshot(
        1,
        0,
        voxel_size_m,
        np.floor(scene.coord / voxel_size_m).astype(np.int32),
        scene.coord,
        scene.color.astype(np.float32),
        scene.normal,
        np.ones(n, np.float32),
        np.zeros(n, np.int64),
    )


def find_scenes(root: Path, source: str) -> list[Path]:
    """Complete scene folders below `root` that have captions of `source`, sorted by name."""
    return sorted(p.parent for p in root.glob("*/coord.npy") if (p.parent / f"captions.{source}.npz").exists())


@dataclass(frozen=True)
class SampleRecipe:
    """How a scene becomes a sample.

    Attributes:
        voxel_size_m: Encoder grid.
        channels: Encoder input channels.
        published: Voxelise as the published code does (colour only, truncation towards zero), with every point of a mask counted;
            otherwise on the anchored grid, with every voxel of a mask counted once.
        captions_per_mask: Pairs drawn per mask.
        max_masks: Most masks per scene, drawn at random; None for all.
        max_voxels: Larger samples are cut to the voxels nearest to a random one; None for never.
        caption_filter: Captions to keep; None for all.
    """

    voxel_size_m: float
    channels: tuple[str, ...]
    published: bool = False
    captions_per_mask: int = 2
    max_masks: int | None = None
    max_voxels: int | None = 120_000
    caption_filter: CaptionFilter | None = None


class CaptionDataset(Dataset[VoxelSample]):
    """Scenes with random augmentation and random captions.

    Args:
        folders: Scene folders.
        sources: Caption sources; of those that a scene has, one is drawn each time.
        recipe: What becomes of a scene.
        transform: Augmentation, None for none.
        condition: Condition of the samples.
        seed: Together with epoch and index it fixes every draw.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        sources: Sequence[str],
        recipe: SampleRecipe,
        transform: Transform | None,
        condition: str | None = None,
        seed: int = 0,
    ) -> None:
        self.folders, self.sources, self.recipe = list(folders), tuple(sources), recipe
        self.transform, self.condition, self.seed = transform, condition, seed

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> VoxelSample:
        return self.sample(index)

    def sample(self, index: int, epoch: int = 0) -> VoxelSample:
        """A scene with the draws of an epoch."""
        rng = np.random.default_rng([self.seed, epoch, index])
        folder = self.folders[index]
        scene = self._augmented(folder, rng)
        indices, features, owner = voxelise(scene, self.recipe)
        masks = [owner[m] if self.recipe.published else np.unique(owner[m]) for m in scene.masks]
        if self.recipe.max_voxels is not None and len(indices) > self.recipe.max_voxels:
            keep = _nearest(indices, indices[rng.integers(len(indices))], self.recipe.max_voxels)
            new = np.where(keep, np.cumsum(keep) - 1, -1)
            indices, features, owner = indices[keep], features[keep], new[owner]
            masks = [new[m][new[m] >= 0] for m in masks]
        pairs, texts = [], []
        for k in self._chosen(masks, rng):
            captions = scene.captions[k]
            for c in rng.choice(len(captions), min(self.recipe.captions_per_mask, len(captions)), replace=False):
                pairs.append(masks[k])
                texts.append(captions[int(c)])
        draw = self.seed, epoch, index
        return VoxelSample(indices, features, owner, scene.segment, pairs, texts, self.condition, folder.name, draw)

    def _augmented(self, folder: Path, rng: np.random.Generator) -> CaptionedScene:
        scene = self._read(folder, rng)
        return scene if self.transform is None else self.transform(scene, rng)

    def _read(self, folder: Path, rng: np.random.Generator) -> CaptionedScene:
        there = [source for source in self.sources if (folder / f"captions.{source}.npz").exists()] or list(self.sources)
        scene = read_scene_folder(folder, there[0] if len(there) == 1 else there[int(rng.integers(len(there)))])
        fit = self.recipe.caption_filter
        captions = [tuple(c for c in group if fit is None or fit.keeps(c)) for group in scene.captions]
        kept = [k for k, group in enumerate(captions) if group]
        return replace(scene, masks=[scene.masks[k] for k in kept], captions=[captions[k] for k in kept])

    def _chosen(self, masks: list[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.int64]:
        there = np.array([k for k, mask in enumerate(masks) if len(mask)], np.int64)
        if self.recipe.max_masks is None or len(there) <= self.recipe.max_masks:
            return there
        return np.sort(rng.choice(there, self.recipe.max_masks, replace=False))


def voxelise(scene: CaptionedScene, recipe: SampleRecipe) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
    """Cells (V, 3), features (V, C) and the cell of every point (N,)."""
    if not recipe.published:
        inputs = build_encoder_input(scene_snapshot(scene), recipe.voxel_size_m, recipe.channels)
        return inputs.indices, inputs.features, inputs.voxel_of_point
    if recipe.channels != ("color",):
        raise ValueError(f"the published voxelisation feeds colour only, got channels {', '.join(recipe.channels)}")
    batch = official_batch([scene.coord], [scene.color], recipe.voxel_size_m)
    return batch.indices[:, 1:], batch.features, batch.voxel_of_point


def _nearest(indices: NDArray[np.int32], centre: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    distance = ((indices[:, :2] - centre[:2]).astype(np.int64) ** 2).sum(1)
    keep = np.zeros(len(indices), bool)
    keep[np.argpartition(distance, count)[:count]] = True
    return keep


@dataclass
class CaptionBatch:
    """A batch for the caption contrastive loss.

    Attributes:
        indices: (V, 4) int32 [batch, x, y, z].
        features: (V, C) float32.
        point: (I,) int64 voxel of each incidence.
        mask: (I,) int64 mask of each incidence.
        target: (M,) int64 row of `texts` that belongs to each mask.
        texts: Unique captions, then the negatives.
        conditions: Condition of each sample; empty where they have none.
        names: Name of each scene.
    """

    indices: Tensor
    features: Tensor
    point: Tensor
    mask: Tensor
    target: Tensor
    texts: list[str]
    conditions: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def to(self, device: torch.device | str) -> CaptionBatch:
        """The batch with its tensors on `device`."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})


class CaptionCollate:
    """Joins samples into a `CaptionBatch`.

    Args:
        negatives: Texts that are always among the candidates, so that a point is told apart from classes the batch lacks.
        balance: Each mask contributes `balance * sqrt(size)` random voxels, which keeps walls from drowning cups; None uses all.
            That draw follows from the first sample's.
    """

    def __init__(self, negatives: Sequence[str] = (), balance: float | None = 4.0) -> None:
        self.negatives, self.balance = list(negatives), balance

    def __call__(self, samples: list[VoxelSample]) -> CaptionBatch:
        """Stack the samples."""
        texts: dict[str, int] = {}
        target: list[int] = []
        indices, features, point, mask = [], [], [], []
        start = 0
        rng = np.random.default_rng([*samples[0].draw, 1])
        for b, s in enumerate(samples):
            indices.append(np.concatenate([np.full((len(s.indices), 1), b, np.int32), s.indices], 1))
            features.append(s.features)
            for voxels, caption in zip(s.masks, s.captions, strict=True):
                if self.balance is not None:
                    count = min(len(voxels), int(np.ceil(self.balance * np.sqrt(len(voxels)))))
                    voxels = rng.choice(voxels, count, replace=False)
                point.append(voxels + start)
                mask.append(np.full(len(voxels), len(target), np.int64))
                target.append(texts.setdefault(caption, len(texts)))
            start += len(s.indices)
        for text in self.negatives:
            texts.setdefault(text, len(texts))
        empty = np.zeros(0, np.int64)
        return CaptionBatch(
            torch.from_numpy(np.concatenate(indices)),
            torch.from_numpy(np.concatenate(features)),
            torch.from_numpy(np.concatenate([empty, *point])),
            torch.from_numpy(np.concatenate([empty, *mask])),
            torch.tensor(target, dtype=torch.int64),
            list(texts),
            [s.condition for s in samples if s.condition is not None],
            [s.name for s in samples],
        )
