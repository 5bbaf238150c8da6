"""Samples of a proposal scorer: candidates of scenes, and objects pushed together with a copy of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mosaic3d_core.models.proposal_scorer.config import ScorerConfig
from mosaic3d_core.models.proposal_scorer.scorer import ViewBatch
from mosaic3d_core.models.proposal_scorer.views import Surroundings, View, Voxels, box_axes
from mosaic3d_core.query.proposal_judge import JudgeConfig, cuts_of
from training.scorer_candidates import Candidates

#: What counts as one whole thing that could stand beside another: overlap, and longest side, metres.
_WHOLE, _MOVABLE_M = 0.7, 2.2
_LEAST_CELLS = 24
#: What the copy stands on or in is gone, metres.
_CLEARED_M = 0.06
#: Candidates count by the inverse square root of how many have an overlap like theirs.
_BINS = 5
#: Weight of candidates made of true objects, against proposed ones.
_MADE = 0.7

Sample = tuple[NDArray[np.float32], View, float]


@dataclass(frozen=True)
class SampleConfig:
    """What samples are drawn.

    Attributes:
        pushed: Share of samples in which a thing and a turned copy of it stand side by side.
        seed: Seed of all draws.

    Raises:
        ValueError: If the share is not in [0, 1].
    """

    pushed: float = 0.35
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.pushed <= 1:
            raise ValueError(f"the share of things pushed together must be in [0, 1], got {self.pushed}")


class ScorerSamples(Dataset[Sample]):
    """Drawn candidates; a sample follows from the seed and its number.

    Args:
        scenes: Candidates by scene.
        weights: How often each scene's candidates are drawn, relative to each other. Shape (scenes,).
        cell_size_m: Edge of an encoder voxel, metres.
        views: What the scorer looks at.
        config: What is drawn.
        length: Number of samples.

    Raises:
        ValueError: If there is no candidate.
    """

    def __init__(
        self,
        scenes: Sequence[Candidates],
        weights: NDArray[np.float64],
        cell_size_m: float,
        views: ScorerConfig,
        config: SampleConfig,
        length: int,
    ) -> None:
        self.scenes, self.views, self.config, self.length = scenes, views, config, length
        self.surroundings = [Surroundings(one.positions, cell_size_m) for one in scenes]
        self._cut = JudgeConfig()
        sizes = [len(one.ends) for one in scenes]
        if not sum(sizes):
            raise ValueError("the scenes of a proposal scorer hold no candidate: they need instances that are no walls or floors")
        self.scene, self.number = np.repeat(np.arange(len(scenes)), sizes), np.concatenate([np.arange(n) for n in sizes])
        self.overlap = np.concatenate([one.overlaps for one in scenes])
        chance = _balance(self.overlap) * np.where(np.concatenate([one.proposed for one in scenes]), 1.0, _MADE)
        self._cumulated = np.cumsum(chance * weights[self.scene])
        self._whole = np.flatnonzero(self.overlap > _WHOLE)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Sample:
        rng = np.random.default_rng([self.config.seed, number])
        if len(self._whole) and rng.random() < self.config.pushed:
            pushed = self._pushed(int(rng.choice(self._whole)), rng)
            if pushed is not None:
                return pushed
        drawn = int(np.searchsorted(self._cumulated, rng.random() * self._cumulated[-1], "right"))
        return self.candidate(min(drawn, len(self.scene) - 1), rng)

    def candidate(self, index: int, rng: np.random.Generator | None) -> Sample:
        """A candidate as it is."""
        scene = int(self.scene[index])
        view = self.surroundings[scene].view(self.scenes[scene].rows(int(self.number[index])), self.views, rng)
        return self._features(scene, view), view, float(self.overlap[index])

    def _features(self, scene: int, view: View) -> NDArray[np.float32]:
        return self.scenes[scene].features[view.rows].astype(np.float32)

    def _pushed(self, index: int, rng: np.random.Generator) -> Sample | None:
        """Two things side by side, or what a cut makes of them; None for what hardly stands beside its like."""
        scene = int(self.scene[index])
        surroundings = self.surroundings[scene]
        rows = self.scenes[scene].rows(int(self.number[index]))
        own = surroundings.positions[rows]
        if len(rows) < _LEAST_CELLS or np.ptp(own, axis=0).max() > _MOVABLE_M:
            return None
        copy = _copy_beside(own, rng)
        both = Voxels(np.concatenate([rows, rows]), np.concatenate([own, copy]))
        everything = np.arange(len(both.rows))
        ways = [[everything], *cuts_of(everything, both.positions, self._cut)]
        parts = ways[rng.integers(len(ways))]
        part = parts[rng.integers(len(parts))]
        first = int((part < len(rows)).sum())
        shared = max(first, len(part) - first)
        overlap = shared / (len(rows) + len(part) - shared)
        near = self._near(both, part, rows, copy, surroundings)
        view = surroundings.view_of(Voxels(both.rows[part], both.positions[part]), near, self.views, rng)
        return self._features(scene, view), view, overlap * float(self.overlap[index])

    def _near(
        self,
        both: Voxels,
        part: NDArray[np.int64],
        rows: NDArray[np.int64],
        copy: NDArray[np.float32],
        surroundings: Surroundings,
    ) -> Voxels:
        """What stands around a part of the two: the rest of them, and of the map what is not where the copy is."""
        seen = both.positions[part]
        low, high = seen.min(0) - np.float32(self.views.margin_m), seen.max(0) + np.float32(self.views.margin_m)
        rest = np.setdiff1d(np.arange(len(both.rows)), part, assume_unique=True)
        rest = rest[_inside(both.positions[rest], low, high)]
        around = surroundings.around(rows, self.views.margin_m)
        places = surroundings.positions[around]
        kept = _inside(places, low, high)
        kept[kept] = np.isinf(cKDTree(copy).query(places[kept], distance_upper_bound=_CLEARED_M)[0])
        return Voxels(np.concatenate([both.rows[rest], around[kept]]), np.concatenate([both.positions[rest], places[kept]]))


class ScorerBatches(lightning.LightningDataModule):
    """Loaders of a process.

    Args:
        train: Samples to train on.
        unseen: Samples to validate on, in their order and as they are.
        batch_size: Samples per batch.
        workers: Processes that draw samples.
    """

    def __init__(self, train: ScorerSamples, unseen: ScorerSamples, batch_size: int, workers: int) -> None:
        super().__init__()
        self.train, self.unseen, self.batch_size, self.workers = train, unseen, batch_size, workers
        self.sampler: Batches | None = None

    def train_dataloader(self) -> DataLoader[tuple[ViewBatch, Tensor]]:
        """Batches of this process."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        self.sampler = Batches(len(self.train), self.batch_size, rank, world)
        return DataLoader(self.train, batch_sampler=self.sampler, num_workers=self.workers, collate_fn=together)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[tuple[ViewBatch, Tensor]]:
        """All candidates of the unseen scenes, or evenly chosen ones."""
        count = len(self.unseen.scene)
        chosen = np.unique(np.arange(len(self.unseen)) * count // len(self.unseen))
        samples = [self.unseen.candidate(int(index), None) for index in chosen]
        return DataLoader(samples, self.batch_size, collate_fn=together)  # type: ignore[arg-type]


class Batches:
    """Numbers of the samples of a process, others in each epoch; `skip` batches are left out once, by runs that go on."""

    def __init__(self, samples: int, batch_size: int, rank: int, world: int) -> None:
        self.samples, self.batch_size, self.rank, self.world, self.skip, self.epoch = samples, batch_size, rank, world, 0, 0

    def __len__(self) -> int:
        return self.samples // (self.batch_size * self.world)

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch begins."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        first, self.skip = self.skip, 0
        for batch in range(first, len(self)):
            start = self.epoch * self.samples + (batch * self.world + self.rank) * self.batch_size
            yield list(range(start, start + self.batch_size))


def together(samples: list[Sample]) -> tuple[ViewBatch, Tensor]:
    """A batch of samples, and their overlaps (B,)."""
    features, views, overlaps = zip(*samples, strict=True)
    parts = [np.stack([getattr(one, key) for one in views]) for key in ("places", "inside", "summary")]
    return ViewBatch(*(torch.from_numpy(one) for one in (np.stack(features), *parts))), torch.tensor(
        overlaps, dtype=torch.float32
    )


def _balance(overlap: NDArray[np.float32]) -> NDArray[np.float64]:
    which = np.minimum((overlap * _BINS).astype(np.int64), _BINS - 1)
    return 1 / np.sqrt(np.bincount(which, minlength=_BINS)[which])


def _inside(places: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.bool_]:
    return ((places >= low) & (places <= high)).all(1)


def _copy_beside(own: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A thing's voxels again, beside it along a side of its box, as it is, turned around or mirrored."""
    axes = box_axes(own)
    placed = own.copy()
    placed[:, :2] = placed[:, :2] @ axes.T
    low, high = placed[:, :2].min(0), placed[:, :2].max(0)
    side = int(rng.integers(2))
    kind = rng.choice(["turned", "mirrored", "same"], p=[0.5, 0.15, 0.35])
    if kind == "turned":
        placed[:, :2] = low + high - placed[:, :2]
    elif kind == "mirrored":
        placed[:, 1 - side] = (low + high)[1 - side] - placed[:, 1 - side]
    placed[:, side] += rng.choice([-1, 1]) * ((high - low)[side] + rng.uniform(0.02, 0.06))
    placed[:, 1 - side] += rng.normal(0, 0.03)
    placed[:, :2] = placed[:, :2] @ axes
    return placed
