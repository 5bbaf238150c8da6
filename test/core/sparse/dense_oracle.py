"""Dense convolution as the reference for the sparse layers, and random clouds to compare them on.

Clouds lie in [-8, 8)^3, so coordinates are negative too, and the dense grid starts at an even cell.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ORIGIN, SIDE = -8, 16


def random_cells(generator: torch.Generator, clouds: int, *, side: int = 6) -> Tensor:
    """Cells (N, 4) of some clouds in one batch, shuffled; each has its own density, from empty to full."""
    pieces = []
    for cloud in range(clouds):
        density = torch.rand((), generator=generator) ** 2
        occupied = (torch.rand(side, side, side, generator=generator) < density).nonzero()
        corner = torch.randint(ORIGIN, ORIGIN + SIDE - side + 1, (3,), generator=generator)
        pieces.append(torch.cat([torch.full((len(occupied), 1), cloud), occupied + corner], 1))
    cells = torch.cat(pieces).int()
    return cells[torch.randperm(len(cells), generator=generator)]


def to_dense(features: Tensor, cells: Tensor, clouds: int, *, stride: int = 1) -> Tensor:
    """(N, C) on cells -> (clouds, C, S, S, S), differentiable."""
    side = SIDE // stride
    at = cells.long()
    grid = features.new_zeros(clouds, side, side, side, features.shape[1])
    x, y, z = (at[:, axis] - ORIGIN // stride for axis in (1, 2, 3))
    return grid.index_put((at[:, 0], x, y, z), features).permute(0, 4, 1, 2, 3)


def at_cells(grid: Tensor, cells: Tensor, *, stride: int = 1) -> Tensor:
    """(clouds, C, S, S, S) -> (N, C) at cells."""
    at = cells.long()
    x, y, z = (at[:, axis] - ORIGIN // stride for axis in (1, 2, 3))
    return grid.permute(0, 2, 3, 4, 1)[at[:, 0], x, y, z]


def dense_weight(weight: Tensor) -> Tensor:
    """[out, kx, ky, kz, in] -> [out, in, kx, ky, kz]."""
    return weight.permute(0, 4, 1, 2, 3)


def submanifold(features: Tensor, cells: Tensor, clouds: int, weight: Tensor) -> Tensor:
    """The submanifold layer through ``conv3d``."""
    grid = functional.conv3d(to_dense(features, cells, clouds), dense_weight(weight), padding=1)
    return at_cells(grid, cells)


def strided(features: Tensor, cells: Tensor, clouds: int, weight: Tensor, coarse: Tensor) -> Tensor:
    """The strided layer through ``conv3d``."""
    grid = functional.conv3d(to_dense(features, cells, clouds), dense_weight(weight), stride=2)
    return at_cells(grid, coarse, stride=2)


def inverse(features: Tensor, coarse: Tensor, clouds: int, weight: Tensor, cells: Tensor) -> Tensor:
    """The inverse layer through ``conv_transpose3d``, whose weight is [in, out, k, k, k]."""
    transposed = weight.permute(4, 0, 1, 2, 3)
    grid = functional.conv_transpose3d(to_dense(features, coarse, clouds, stride=2), transposed, stride=2)
    return at_cells(grid, cells)
