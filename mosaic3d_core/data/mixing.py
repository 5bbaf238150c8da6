"""Scenes of one or several datasets in a training run: batches of one dataset each, in turn or by weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from mosaic3d_core.data.caption_dataset import CaptionDataset, VoxelSample

#: What a batch asks a mix for: number of the dataset, index in it, epoch of the draws.
Item = tuple[int, int, int]


class DatasetMix(Dataset[VoxelSample]):
    """Datasets whose items are asked for by (dataset, index, epoch), so that worker processes need no news of epochs."""

    def __init__(self, datasets: Sequence[CaptionDataset]) -> None:
        self.datasets = list(datasets)

    @property
    def sizes(self) -> list[int]:
        """Length of each dataset."""
        return [len(one) for one in self.datasets]

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitem__(self, item: Item) -> VoxelSample:
        number, index, epoch = item
        return self.datasets[number].sample(index, epoch)


class SingleDatasetBatches(Sampler[list[Item]]):
    """Batches that hold scenes of one dataset only, as batch norms per dataset need them.

    An epoch goes through the first dataset ``repeat`` times; in turn, every round takes a batch of each dataset and ends with the
    first one (Mosaic3D's order), by weight each batch draws its dataset. A dataset that comes to its end starts anew in another
    order. All of it follows from seed and epoch, and on several ranks each takes its share of the same global batch.

    Args:
        sizes: Scenes of each dataset.
        batch_size: Scenes per rank and step.
        repeat: How often an epoch goes through the first dataset.
        weights: Share of each dataset's batches; None takes them in turn.
        seed: Seed of all orders.
        rank: This process.
        world: Number of processes.

    Raises:
        ValueError: If a dataset is empty, or weights do not fit.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        repeat: int = 1,
        weights: Sequence[float] | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"every dataset needs at least one scene, got {list(sizes)}")
        if weights is not None and (len(weights) != len(sizes) or min(weights) < 0 or sum(weights) <= 0):
            raise ValueError(f"weights need one number >= 0 per dataset and a positive sum, got {list(weights)}")
        if batch_size < 1 or repeat < 1 or not 0 <= rank < world:
            raise ValueError(f"batch_size, repeat >= 1 and 0 <= rank < world, got {batch_size}, {repeat}, {rank}, {world}")
        self.sizes, self.batch_size, self.repeat = list(sizes), batch_size, repeat
        self.weights = None if weights is None else np.asarray(weights, np.float64) / sum(weights)
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = 0
        self.skip = 0  # batches of the coming epoch to leave out, after a stop in its middle

    @property
    def sampler(self) -> SingleDatasetBatches:
        """Itself: Lightning tells the sampler of a batch sampler which epoch it is."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        rounds = max(1, self.repeat * self.sizes[0] // (self.batch_size * self.world))
        return rounds * len(self.sizes)

    def __iter__(self) -> Iterator[list[Item]]:
        streams = [self._stream(number) for number in range(len(self.sizes))]
        joint, skip, self.skip = self.batch_size * self.world, self.skip, 0
        for turn, number in enumerate(self._turns()):
            indices = [next(streams[number]) for _ in range(joint)]
            if turn >= skip:
                mine = indices[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
                yield [(number, i, self.epoch) for i in mine]

    def _turns(self) -> list[int]:
        count = len(self.sizes)
        if self.weights is None:
            return [(turn + 1) % count for turn in range(len(self))]
        rng: np.random.Generator = np.random.default_rng([self.seed, self.epoch, 1])
        turns: NDArray[np.int64] = rng.choice(count, len(self), p=self.weights)
        return turns.tolist()

    def _stream(self, number: int) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch, 2, number])
        while True:
            yield from (int(i) for i in rng.permutation(self.sizes[number]))
