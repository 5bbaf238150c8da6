"""The exact voxelisation of the published Mosaic3D evaluation, for reproducing its figures.

It truncates towards zero, so that the cells around x = 0 and y = 0 are twice as wide, and subtracts the minimum over the whole
batch, so that the lattice of a scene depends on what else is in its batch. Mapping uses the anchored grid of `encoder_input`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Voxel edge of the published nets, metres.
VOXEL_SIZE_M = 0.02


@dataclass(frozen=True, eq=False)
class OfficialBatch:
    """A batch of scenes on the published lattice.

    Attributes:
        indices: Occupied cells (batch, x, y, z), all at least 0. Shape (V, 4), int32.
        features: Mean colour / 127.5 - 1. Shape (V, 3), float32.
        voxel_of_point: Cell of every point, scenes one after the other. Shape (sum of N,), int64.
        offsets: Where each scene's points begin, and the end. Shape (B + 1,), int64.
    """

    indices: NDArray[np.int32]
    features: NDArray[np.float32]
    voxel_of_point: NDArray[np.int64]
    offsets: NDArray[np.int64]


def centre(coord: NDArray[np.floating]) -> NDArray[np.float32]:
    """Points (N, 3) about the middle of their x and y range, standing on z = 0."""
    points = np.asarray(coord, np.float32)
    if not len(points):
        return points
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2
    return points - np.array([middle[0], middle[1], low[2]], np.float32)


def official_batch(
    coords: Sequence[NDArray[np.floating]], colors: Sequence[NDArray[np.integer]], voxel_size_m: float = VOXEL_SIZE_M
) -> OfficialBatch:
    """Voxelise scenes as the published evaluation does.

    Args:
        coords: Points of each scene (see `centre`), metres. Each (N, 3).
        colors: Their colours, 0 to 255. Each (N, 3).
        voxel_size_m: Voxel edge, metres.

    Returns:
        The batch; cells sorted by batch, x, y, z.

    Raises:
        ValueError: If a scene has no points, not one colour per point, or an extent that cannot be numbered.
    """
    for number, (coord, color) in enumerate(zip(coords, colors, strict=True)):
        if not len(coord):
            raise ValueError(f"scene {number} of the batch has no points")
        if len(color) != len(coord):
            raise ValueError(f"scene {number} of the batch has {len(coord)} points but {len(color)} colours")
    offsets = np.cumsum([0, *(len(c) for c in coords)]).astype(np.int64)
    # float32 division, then truncation: as the published code does it, rounding included
    cells = np.concatenate([np.asarray(c, np.float32) / np.float32(voxel_size_m) for c in coords]).astype(np.int32)
    cells -= cells.min(0)
    batch = np.repeat(np.arange(len(coords), dtype=np.int32), np.diff(offsets))
    indices, owner = _distinct(np.concatenate([batch[:, None], cells], 1))
    values = np.concatenate([np.asarray(c, np.float64) for c in colors]) / 127.5 - 1.0
    count = np.bincount(owner)
    features = np.stack([np.bincount(owner, values[:, k]) / count for k in range(3)], 1).astype(np.float32)
    return OfficialBatch(indices, features, owner, offsets)


def _distinct(cells: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Distinct rows of cells (N, 4), none negative, in lexicographic order, and the place of each row among them.

    By one number per cell: ``np.unique`` over rows takes ten times as long.
    """
    extent = tuple(int(v) + 1 for v in cells.max(0))
    if math.prod(extent) >= 2**62:
        raise ValueError(f"the scenes span {extent[1:]} voxels, more than can be numbered; check the points for outliers")
    keys = np.ravel_multi_index(tuple(cells.T.astype(np.int64)), extent)
    found, owner = np.unique(keys, return_inverse=True)
    return np.stack(np.unravel_index(found, extent), 1).astype(np.int32), owner.reshape(-1).astype(np.int64)
