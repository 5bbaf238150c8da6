"""Captioned scenes as voxel batches for language-alignment training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mosaic3d_core.data.scene_folder import CaptionedScene, read_scene_folder
from mosaic3d_core.data.transforms import Transform
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.models.encoder_input import build_encoder_input


@dataclass(frozen=True)
class VoxelSample:
    """One scene on the encoder's grid.

    Attributes:
        indices: (V, 3) int32 encoder voxels.
        features: (V, C) float32 input channels.
        voxel_of_point: (N,) int64.
        segment: (N,) int16 point labels, -1 none.
        masks: Voxels of each sampled (mask, caption) pair.
        captions: One caption per pair.
    """

    indices: NDArray[np.int32]
    features: NDArray[np.float32]
    voxel_of_point: NDArray[np.int64]
    segment: NDArray[np.int16]
    masks: list[NDArray[np.int64]]
    captions: list[str]


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


class CaptionDataset(Dataset[VoxelSample]):
    """Scenes with random augmentation and random captions.

    Args:
        folders: Scene folders.
        source: Caption source.
        voxel_size_m: Encoder grid.
        channels: Encoder input channels.
        transform: Augmentation, None for none.
        captions_per_mask: Pairs drawn per mask.
        max_voxels: Larger samples are cut to the voxels nearest to a random one.
        seed: Together with epoch and index it fixes every draw.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        source: str,
        voxel_size_m: float,
        channels: tuple[str, ...],
        transform: Transform | None,
        captions_per_mask: int = 2,
        max_voxels: int = 120_000,
        seed: int = 0,
    ) -> None:
        self.folders, self.source, self.voxel_size_m, self.channels = list(folders), source, voxel_size_m, channels
        self.transform, self.captions_per_mask, self.max_voxels, self.seed = transform, captions_per_mask, max_voxels, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> VoxelSample:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        scene = read_scene_folder(self.folders[index], self.source)
        if self.transform is not None:
            scene = self.transform(scene, rng)
        inputs = build_encoder_input(scene_snapshot(scene), self.voxel_size_m, self.channels)
        indices, features, owner, segment = inputs.indices, inputs.features, inputs.voxel_of_point, scene.segment
        masks = [np.unique(owner[m]) for m in scene.masks]
        if len(indices) > self.max_voxels:
            centre = indices[rng.integers(len(indices))]
            distance = ((indices[:, :2] - centre[:2]).astype(np.int64) ** 2).sum(1)
            keep = np.zeros(len(indices), bool)
            keep[np.argpartition(distance, self.max_voxels)[: self.max_voxels]] = True
            new = np.where(keep, np.cumsum(keep) - 1, -1)
            indices, features, owner = indices[keep], features[keep], new[owner]
            masks = [new[m][new[m] >= 0] for m in masks]
        pairs, texts = [], []
        for mask, captions in zip(masks, scene.captions, strict=True):
            if len(mask) and captions:
                for k in rng.choice(len(captions), min(self.captions_per_mask, len(captions)), replace=False):
                    pairs.append(mask)
                    texts.append(captions[int(k)])
        return VoxelSample(indices, features, owner, segment, pairs, texts)


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
    """

    indices: Tensor
    features: Tensor
    point: Tensor
    mask: Tensor
    target: Tensor
    texts: list[str]

    def to(self, device: torch.device | str) -> CaptionBatch:
        """The batch with its tensors on `device`."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "texts"}
        return CaptionBatch(**moved, texts=self.texts)


class CaptionCollate:
    """Joins samples into a `CaptionBatch`.

    Args:
        negatives: Texts that are always among the candidates, so that a point is told apart from classes the batch lacks.
        balance: Each mask contributes `balance * sqrt(size)` random voxels, which keeps walls from drowning cups; None uses all.
        seed: Seed of that draw.
    """

    def __init__(self, negatives: Sequence[str] = (), balance: float | None = 4.0, seed: int = 0) -> None:
        self.negatives, self.balance = list(negatives), balance
        self._rng = np.random.default_rng(seed)

    def __call__(self, samples: list[VoxelSample]) -> CaptionBatch:
        """Stack the samples."""
        texts: dict[str, int] = {}
        target: list[int] = []
        indices, features, point, mask = [], [], [], []
        start = 0
        for b, s in enumerate(samples):
            indices.append(np.concatenate([np.full((len(s.indices), 1), b, np.int32), s.indices], 1))
            features.append(s.features)
            for voxels, caption in zip(s.masks, s.captions, strict=True):
                if self.balance is not None:
                    count = min(len(voxels), int(np.ceil(self.balance * np.sqrt(len(voxels)))))
                    voxels = self._rng.choice(voxels, count, replace=False)
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
        )
