"""Instances of one encoded map, ready to be asked about."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.query.boxes import OrientedBox
from mosaic3d_core.query.grid import QueryGrid
from mosaic3d_core.query.instance_map import GONE, MapInstance
from mosaic3d_core.query.instances import upright_box


class InstanceView:
    """The instances that are there, with what queries need of them.

    Rows and boxes are made when first asked for. Safe to use from threads: what two of them make at once is equal.

    Args:
        grid: The map at the encoder's resolution.
        instances: Instances whose ``cells`` are rows of that grid; gone ones are left out.
    """

    def __init__(self, grid: QueryGrid, instances: Sequence[MapInstance]) -> None:
        self.grid = grid
        self.instances = tuple(one for one in instances if one.state != GONE and len(one.cells))
        self._shapes: dict[int, tuple[NDArray[np.int64], OrientedBox]] = {}

    def __len__(self) -> int:
        return len(self.instances)

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """Position of the instance that each encoder voxel belongs to, -1 for none. Shape (V,), int64."""
        owner = np.full(len(self.grid.cells), -1, np.int64)
        for k, one in enumerate(self.instances):
            owner[one.cells] = k
        return owner

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Encoder voxels per instance. Shape (I,), int64."""
        return np.array([len(one.cells) for one in self.instances], np.int64)

    def shape(self, number: int, allowed: NDArray[np.bool_] | None = None) -> tuple[NDArray[np.int64], OrientedBox] | None:
        """Rows of the snapshot and upright box of an instance.

        Args:
            number: Its position in ``instances``.
            allowed: Map voxels that may be used, shape (N,), bool; None for all.

        Returns:
            Ascending rows (K,), int64, and the box in metres; None where nothing of it may be used.
        """
        if allowed is not None:
            rows = self.grid.rows(self.instances[number].cells, allowed)
            return (rows, upright_box(self.grid, rows)) if len(rows) else None
        if number not in self._shapes:
            rows = self.grid.rows(self.instances[number].cells)
            self._shapes[number] = rows, upright_box(self.grid, rows)
        return self._shapes[number]

    def mean_of(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean of a value per encoder voxel (V,) over each instance. Shape (I,), float64."""
        inside = self.owner >= 0
        return np.bincount(self.owner[inside], values[inside], len(self)) / np.maximum(self.sizes, 1)
