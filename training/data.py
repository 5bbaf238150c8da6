"""Training scenes of a configuration: datasets, their mix, and the loader of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from mosaic3d_core.data.caption_dataset import CaptionDataset, SampleRecipe, find_scenes
from mosaic3d_core.data.caption_files import caption_sources
from mosaic3d_core.data.caption_filter import CaptionFilter
from mosaic3d_core.data.mask_dataset import TRUTH, MaskDataset
from mosaic3d_core.data.mixing import DatasetMix, SingleDatasetBatches
from mosaic3d_core.data.published_transforms import published_transforms
from mosaic3d_core.data.synthetic.captions import plain_vocabulary
from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.data.transforms import Transform, training_transforms
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.models.scene_encoder import SceneEncoder

TRANSFORMS = ("rooms", "published", "none")


def build_datasets(data: Any, model: Any, voxelization: str, seed: int) -> DatasetMix:
    """The datasets of a configuration.

    Args:
        data: Group ``data``.
        model: Group ``model``.
        voxelization: "anchored" or "official".
        seed: Seed of all draws.

    Raises:
        Mosaic3DError: If a dataset has no scene, or names something unknown.
    """
    recipe = _recipe(data, model.voxel_size_m, tuple(model.channels), voxelization)
    found = []
    for name, spec in data.datasets.items():
        folders = _scenes(str(name), Path(data.root), spec)
        found.append(CaptionDataset(folders, list(spec.sources), recipe, _transform(spec), spec.condition, seed))
    return DatasetMix(found)


def build_mask_datasets(data: Any, encoder: SceneEncoder, voxelization: str, seed: int) -> DatasetMix:
    """The datasets of a configuration as targets of the mask decoder; they feed the encoder what it was trained on.

    Raises:
        Mosaic3DError: If a dataset has no scene, or names something unknown.
    """
    recipe = _recipe(data, encoder.voxel_size_m, encoder.input_channels, voxelization)
    found = []
    for name, spec in data.datasets.items():
        folders = _scenes(str(name), Path(data.root), spec)
        sources = list(spec.sources)
        found.append(MaskDataset(folders, sources, recipe, _transform(spec), CLASS_NAMES, seed, data.min_points))
    return DatasetMix(found)


def training_scenes(data: Any) -> dict[str, list[Path]]:
    """Scene folders of each dataset.

    Args:
        data: Group ``data``.

    Raises:
        Mosaic3DError: If a dataset has no scene.
    """
    return {str(name): _scenes(str(name), Path(data.root), spec) for name, spec in data.datasets.items()}


def _recipe(data: Any, voxel_size_m: float, channels: tuple[str, ...], voxelization: str) -> SampleRecipe:
    if voxelization not in ("anchored", "official"):
        raise Mosaic3DError(f'voxelization must be "anchored" or "official", got "{voxelization}"')
    if not data.datasets:
        raise Mosaic3DError("data.datasets names no dataset: choose data=rooms, sc, sc+ar, ...")
    return SampleRecipe(
        voxel_size_m,
        channels,
        published=voxelization == "official",
        captions_per_mask=data.captions_per_mask,
        max_masks=data.max_masks,
        max_voxels=data.max_voxels,
        caption_filter=CaptionFilter() if data.caption_filter else None,
    )


def _scenes(name: str, root: Path, spec: Any) -> list[Path]:
    folder = root / spec.folder
    there = {scene.name: scene for source in spec.sources for scene in _with_source(folder, source)}
    if not there:
        has = sorted({source for p in sorted(folder.glob("*/coord.npy"))[:50] for source in caption_sources(p.parent)})
        found = f"its scenes have captions of {', '.join(has)}" if has else "run training/prepare_data.py first"
        raise Mosaic3DError(f"{name}: no scenes with captions {', '.join(map(repr, spec.sources))} in {folder}: {found}")
    if spec.split is None:
        return [there[key] for key in sorted(there)]
    split = root / spec.split
    if not split.is_file():
        raise Mosaic3DError(
            f"{name}: split file {split} does not exist: write one scene per line, or set data.datasets.{name}.split=null to "
            f"train on all {len(there)} scenes"
        )
    listed = [line.strip() for line in split.read_text(encoding="utf-8").splitlines() if line.strip()]
    missing = [one for one in listed if one not in there]
    if missing:
        raise Mosaic3DError(
            f"{name}: {len(missing)} of {len(listed)} scenes of {split} are not in {folder} or have no captions, "
            f"the first is {missing[0]}"
        )
    if not listed:
        raise Mosaic3DError(f"{name}: split file {split} is empty")
    return [there[one] for one in sorted(listed)]


def _with_source(folder: Path, source: str) -> list[Path]:
    if source != TRUTH:
        return find_scenes(folder, source)
    return sorted(p.parent for p in folder.glob("*/coord.npy") if (p.parent / "instance.npy").exists())


def _transform(spec: Any) -> Transform | None:
    if spec.transforms not in TRANSFORMS:
        raise Mosaic3DError(f"transforms {spec.transforms} are unknown: choose {', '.join(TRANSFORMS)}")
    if spec.transforms == "published":
        return published_transforms(Path(spec.folder).name)
    return training_transforms() if spec.transforms == "rooms" else None


def all_captions(datasets: Iterable[CaptionDataset]) -> set[str]:
    """Every caption of the scenes."""
    texts: set[str] = set()
    for dataset in datasets:
        for folder in dataset.folders:
            for source in dataset.sources:
                file = folder / f"captions.{source}.npz"
                if file.exists():
                    with np.load(file, allow_pickle=False) as data:
                        texts.update(str(t) for t in data["packed"])
    return texts


def negatives(data: Any) -> list[str]:
    """Texts that are candidates in every batch of a configuration."""
    return [text for text, _ in plain_vocabulary()] if data.negatives else []


class TrainingData(lightning.LightningDataModule):
    """Loaders of a process.

    Args:
        mix: The datasets.
        data: Group ``data``.
        seed: Seed of all orders.
        validation: Items of the validation sets, (set, scene) each.
        collate: Makes a batch of samples.
    """

    def __init__(
        self, mix: DatasetMix, data: Any, seed: int, validation: list[tuple[int, int]], collate: Callable[[list[Any]], Any]
    ) -> None:
        super().__init__()
        self.mix, self.data, self.seed, self.validation, self.collate = mix, data, seed, validation, collate
        self.sampler: SingleDatasetBatches | None = None

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of this process."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        weights = None if self.data.weights is None else list(self.data.weights)
        self.sampler = SingleDatasetBatches(
            self.mix.sizes, self.data.batch_size, self.data.repeat, weights, self.seed, rank, world
        )
        return DataLoader(
            self.mix,
            batch_sampler=self.sampler,  # type: ignore[arg-type]
            num_workers=self.data.workers,
            collate_fn=self.collate,
            worker_init_fn=_one_thread,
            prefetch_factor=3 if self.data.workers else None,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """This process's share of the validation scenes."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        share: list[tuple[int, int] | None] = [*self.validation[rank::world]] or [None]  # Lightning refuses an empty loader
        return DataLoader(share, 1, collate_fn=lambda items: items[0])  # type: ignore[arg-type]


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
