"""The map at the encoder's resolution, which is all that the scores can tell apart: objects are found on it.

A map has several times as many voxels as the encoder; finding parts, cutting and joining them on encoder voxels takes a
fraction of the time. Boxes and rows of objects are made from map voxels again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot

# Up to this many rows sorting them takes less than a pass over the whole map.
_FEW_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class QueryGrid:
    """Encoder voxels with what the map says about them.

    Attributes:
        snapshot: The map.
        cells: Encoder voxel indices. Shape (V, 3), int32.
        cell_size_m: Edge of an encoder voxel, metres.
        centroids: Mean of the map voxels' centroids, metres. Shape (V, 3), float32.
        normals: Unit mean of their normals, 0 where unknown. Shape (V, 3), float32.
        colors: Mean of their colours, 0 to 255. Shape (V, 3), float32.
        counts: Number of map voxels. Shape (V,), int64.
        starts: First position in ``order`` of each encoder voxel, and the end. Shape (V + 1,), int64.
        order: Rows of the snapshot, sorted by encoder voxel. Shape (N,), int64.
    """

    snapshot: MapSnapshot
    cells: np.ndarray
    cell_size_m: float
    centroids: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    order: np.ndarray

    @classmethod
    def build(cls, snapshot: MapSnapshot, voxel_of_point: np.ndarray, cells: np.ndarray, cell_size_m: float) -> QueryGrid:
        """Pool the map.

        Args:
            snapshot: The map.
            voxel_of_point: Encoder voxel of each map voxel. Shape (N,), int64.
            cells: Encoder voxel indices. Shape (V, 3), int32.
            cell_size_m: Edge of an encoder voxel, metres.
        """
        starts, order = _sort_by_cell(voxel_of_point, len(cells))
        counts = np.diff(starts)
        means = np.empty((len(cells), 9), np.float32)
        _pool(snapshot.centroids, snapshot.normals, snapshot.colors, starts, order, means)
        return cls(
            snapshot=snapshot,
            cells=cells,
            cell_size_m=cell_size_m,
            centroids=np.ascontiguousarray(means[:, :3]),
            normals=np.ascontiguousarray(means[:, 3:6]),
            colors=np.ascontiguousarray(means[:, 6:]),
            counts=counts,
            starts=starts,
            order=order,
        )

    def rows(self, cells: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
        """Rows of the snapshot in some encoder voxels.

        Args:
            cells: Positions of distinct encoder voxels. Shape (K,), int64.
            allowed: Map voxels that may be used. Shape (N,), bool; None for all.

        Returns:
            Ascending rows, int64.
        """
        count = int(self.counts[cells].sum())
        if count < _FEW_ROWS:
            found = np.empty(count, np.int64)
            _gather(cells, self.starts, self.order, found)
            found.sort()
            return found if allowed is None else found[allowed[found]]
        inside = np.zeros(len(self.order), np.bool_)
        _mark(cells, self.starts, self.order, inside)
        if allowed is not None:
            inside &= allowed
        return np.flatnonzero(inside)


@njit(cache=True, nogil=True)
def _sort_by_cell(owner: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover - compiled
    starts = np.zeros(count + 1, np.int64)
    for i in range(owner.shape[0]):
        starts[owner[i] + 1] += 1
    for k in range(count):
        starts[k + 1] += starts[k]
    at = starts[:-1].copy()
    order = np.empty(owner.shape[0], np.int64)
    for i in range(owner.shape[0]):
        order[at[owner[i]]] = i
        at[owner[i]] += 1
    return starts, order


@njit(cache=True, nogil=True)
def _pool(
    centroids: np.ndarray,
    normals: np.ndarray,
    colors: np.ndarray,
    starts: np.ndarray,
    order: np.ndarray,
    out: np.ndarray,
) -> None:  # pragma: no cover - compiled
    total = np.empty(9, np.float64)
    for cell in range(out.shape[0]):
        total[:] = 0.0
        for at in range(starts[cell], starts[cell + 1]):
            i = order[at]
            for k in range(3):
                total[k] += centroids[i, k]
                total[3 + k] += normals[i, k]
                total[6 + k] += colors[i, k]
        count = max(starts[cell + 1] - starts[cell], 1)
        length = np.sqrt(total[3] ** 2 + total[4] ** 2 + total[5] ** 2)
        known = length > 0.1 * count  # opposite sides of a thin thing cancel: no direction rather than a random one
        for k in range(3):
            out[cell, k] = total[k] / count
            out[cell, 3 + k] = total[3 + k] / length if known else 0.0
            out[cell, 6 + k] = total[6 + k] / count


@njit(cache=True, nogil=True)
def _gather(cells: np.ndarray, starts: np.ndarray, order: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover - compiled
    n = 0
    for k in range(cells.shape[0]):
        for at in range(starts[cells[k]], starts[cells[k] + 1]):
            out[n] = order[at]
            n += 1


@njit(cache=True, nogil=True)
def _mark(cells: np.ndarray, starts: np.ndarray, order: np.ndarray, inside: np.ndarray) -> None:  # pragma: no cover - compiled
    for k in range(cells.shape[0]):
        for at in range(starts[cells[k]], starts[cells[k] + 1]):
            inside[order[at]] = True
