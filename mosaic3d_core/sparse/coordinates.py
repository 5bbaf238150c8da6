"""Coordinate sets: the occupied cells of one level, with the kernel maps that its layers share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mosaic3d_core.sparse import kernel_map_cpu, parallel
from mosaic3d_core.sparse.tap_order import MIN_ROWS, TapOrder, sort_by_taps

_MAX_CELLS = 2**62
_MIN_ROWS_THREADS = 8192  # below this the passes over the keys take less time than starting threads


class CoordinateSet:
    """Occupied cells of one resolution level. Kernel maps are made on first use and kept.

    Args:
        indices: Cells as (batch, x, y, z). Shape (N, 4), int32, no cell twice. Coordinates may be negative; N
            may be 0.

    Raises:
        TypeError: If ``indices`` is not an int32 tensor.
        ValueError: If the shape is wrong, a cell occurs twice, or the extent is too large for 62-bit keys.
    """

    def __init__(self, indices: Tensor, *, fine: CoordinateSet | None = None) -> None:
        if not isinstance(indices, Tensor) or indices.dtype != torch.int32:
            found = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
            raise TypeError(f"indices must be an int32 tensor (N, 4) of (batch, x, y, z), got {found}")
        if indices.ndim != 2 or indices.shape[1] != 4:
            raise ValueError(f"indices must have shape (N, 4) = (batch, x, y, z), got {tuple(indices.shape)}")
        self.indices = indices.contiguous()
        self.fine = fine
        self._neighbours: Tensor | None = None
        self._tap_order: TapOrder | None = None
        self._coarse: CoordinateSet | None = None
        self._children: Tensor | None = None

    def __len__(self) -> int:
        return int(self.indices.shape[0])

    @property
    def device(self) -> torch.device:
        """Device of the indices and of every kernel map."""
        return self.indices.device

    def neighbours(self) -> Tensor:
        """Row of neighbour (dx+1)*9 + (dy+1)*3 + (dz+1) of each cell, or -1. Shape (N, 27), int32."""
        if self._neighbours is None:
            self._neighbours = _build_neighbours(self.indices)
        return self._neighbours

    def tap_order(self) -> TapOrder | None:
        """The order in which chunks of rows have few neighbours; None where it would not pay (small sets, GPUs)."""
        if self._tap_order is None and self.device.type == "cpu" and len(self) >= MIN_ROWS:
            self._tap_order = sort_by_taps(self.neighbours().numpy())
        return self._tap_order

    def coarse(self) -> CoordinateSet:
        """The next coarser level: all cells floor(x / 2), floor(y / 2), floor(z / 2), sorted."""
        if self._coarse is None:
            self._build_coarse()
        assert self._coarse is not None  # for the type checker: set by the line above
        return self._coarse

    def children(self) -> Tensor:
        """Row of child 4*(x&1) + 2*(y&1) + (z&1) of each coarse cell, or -1. Shape (P, 8), int32."""
        if self._children is None:
            self._build_coarse()
        assert self._children is not None
        return self._children

    def _build_coarse(self) -> None:
        halved = self.indices.clone()
        halved[:, 1:] >>= 1  # an arithmetic shift floors negative coordinates too
        if self.device.type == "cpu":
            coarse, parents = _unique_cells_cpu(halved)
            children = torch.empty((len(coarse), 8), dtype=torch.int32)
            kernel_map_cpu.child_table(parents, self.indices.numpy(), children.numpy())
        else:
            coarse, parent_rows = _unique_cells(halved)
            bits = self.indices[:, 1:].long() & 1
            slot = parent_rows * 8 + bits[:, 0] * 4 + bits[:, 1] * 2 + bits[:, 2]
            children = torch.full((len(coarse) * 8,), -1, dtype=torch.int32, device=self.device)
            children[slot] = torch.arange(len(self), dtype=torch.int32, device=self.device)
            children = children.view(-1, 8)
        self._coarse = CoordinateSet(coarse, fine=self)
        self._children = children


def _strides(lowest: list[int], highest: list[int]) -> tuple[int, int, int]:
    """Key distance of one step in batch, x and y, with a margin of one cell around x, y and z.

    Raises:
        ValueError: If the keys of this extent do not fit in 62 bits.
    """
    extent = [high - low + 3 for low, high in zip(lowest[1:], highest[1:], strict=True)]
    cells = (highest[0] - lowest[0] + 1) * extent[0] * extent[1] * extent[2]
    if cells >= _MAX_CELLS:
        raise ValueError(
            f"the cells span {extent[0]} x {extent[1]} x {extent[2]}, more than can be numbered; "
            "check the points for outliers or use a larger voxel"
        )
    return extent[0] * extent[1] * extent[2], extent[1] * extent[2], extent[2]


def _keys_numpy(indices: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Number of each cell, ascending by (batch, x, y, z), and what one step in batch, x and y adds to it."""
    bounds = np.empty((2, 4), np.int64)
    kernel_map_cpu.cell_bounds(indices, bounds)
    strides = _strides(bounds[0].tolist(), bounds[1].tolist())
    origin = bounds[0] - (0, 1, 1, 1)
    keys = np.empty(len(indices), np.int64)
    kernel_map_cpu.cell_keys(indices, origin, np.array([*strides, 1], np.int64), keys)
    return keys, strides


def _keys_torch(indices: Tensor) -> tuple[Tensor, tuple[int, int, int], list[int]]:
    lowest = indices.amin(0).tolist()
    strides = _strides(lowest, indices.amax(0).tolist())
    origin = torch.tensor([lowest[0], lowest[1] - 1, lowest[2] - 1, lowest[3] - 1], device=indices.device)
    weights = torch.tensor([*strides, 1], device=indices.device)
    return ((indices.long() - origin) * weights).sum(1), strides, lowest


def _check_unique(repeats: int) -> None:
    if repeats:
        raise ValueError(f"{repeats} cells occur more than once; pool each voxel first, as build_encoder_input does")


def _build_neighbours(indices: Tensor) -> Tensor:
    if indices.device.type != "cpu":
        return _build_neighbours_torch(indices)
    table = torch.empty((len(indices), 27), dtype=torch.int32)
    if len(indices) == 0:
        return table
    keys, strides = _keys_numpy(indices.numpy())
    order = np.argsort(keys)
    keys = keys[order]
    _check_unique(int(np.count_nonzero(keys[1:] == keys[:-1])))
    rows, numbers = order.astype(np.int32), table.numpy()

    def make(first: int, last: int) -> None:
        kernel_map_cpu.neighbour_table(keys, rows, strides[1], strides[2], numbers, first, last)

    parallel.for_each_chunk(9, 1 if len(rows) >= _MIN_ROWS_THREADS else 9, make)
    return table


def _build_neighbours_torch(indices: Tensor) -> Tensor:
    """The same table with sort and searchsorted, for devices other than the CPU."""
    table = torch.empty((len(indices), 27), dtype=torch.int32, device=indices.device)
    if len(indices) == 0:
        return table
    keys, strides, _ = _keys_torch(indices)
    ordered, order = keys.sort()
    _check_unique(int((ordered[1:] == ordered[:-1]).sum()))
    for k in range(27):
        shift = (k // 9 - 1) * strides[1] + (k // 3 % 3 - 1) * strides[2] + k % 3 - 1
        wanted = keys + shift
        at = torch.searchsorted(ordered, wanted).clamp_(max=len(ordered) - 1)
        table[:, k] = torch.where(ordered[at] == wanted, order[at], -1).int()
    return table


def _unique_cells_cpu(indices: Tensor) -> tuple[Tensor, np.ndarray]:
    """Distinct cells in key order (U, 4), and the row of each input cell in them (N,) int32."""
    if len(indices) == 0:
        return indices, np.empty(0, np.int32)
    cells = indices.numpy()
    keys, _ = _keys_numpy(cells)
    order = np.argsort(keys)
    keys = keys[order]
    first = np.empty(len(keys), bool)
    first[0] = True
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    parents = np.empty(len(keys), np.int32)
    parents[order] = np.cumsum(first, dtype=np.int32) - 1
    return torch.from_numpy(cells[order[first]]), parents


def _unique_cells(indices: Tensor) -> tuple[Tensor, Tensor]:
    """The same with torch: distinct cells (U, 4) int32 and the row of each input cell in them (N,) int64."""
    if len(indices) == 0:
        return indices, torch.empty(0, dtype=torch.int64, device=indices.device)
    keys, strides, lowest = _keys_torch(indices)
    unique, parents = torch.unique(keys, sorted=True, return_inverse=True)
    columns = []
    rest = unique
    for axis, stride in enumerate((*strides, 1)):
        columns.append(rest // stride + lowest[axis] - (axis > 0))
        rest = rest % stride
    return torch.stack(columns, 1).int(), parents
