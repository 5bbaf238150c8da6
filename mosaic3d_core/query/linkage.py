"""Parts of a set of voxels that lie apart by more than a distance."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mosaic3d_core.query.components import connected_components

_LONGEST_REACH = 4  # of `connected_components`


def linked_parts(cells: NDArray[np.integer], gap: float) -> tuple[NDArray[np.int64], int]:
    """Parts of which no two come nearer to each other than a gap: DBSCAN with a minimum of one point.

    Args:
        cells: Distinct voxel indices. Shape (N, 3), integers.
        gap: Largest distance between the centres of neighbours in one part, in voxels (Euclidean), >= 0.

    Returns:
        Part of each voxel in 0 .. count - 1, numbered by first voxel, shape (N,), int64; and the count.
    """
    cells = np.asarray(cells).reshape(-1, 3)
    # What touches is found much faster than what is near, and leaves few parts between which distances matter.
    reach = min(_LONGEST_REACH, int(gap / math.sqrt(3)))
    number, count = connected_components(cells, reach=reach) if reach else (np.arange(len(cells)), len(cells))
    if count < 2:
        return number, count
    return _joined(cells, number, count, gap)


def _joined(cells: NDArray[np.integer], number: NDArray[np.int64], count: int, gap: float) -> tuple[NDArray[np.int64], int]:
    """Parts that are near to each other made one: each grows from its newest voxels until nothing is within reach."""
    limit = gap * (1 + 1e-9) + 1e-12  # the tree leaves out what is as far as its limit
    part = np.full(count, -1, np.int64)
    rest = np.arange(len(cells))
    found = 0
    while len(rest):
        new = number[rest] == number[rest[0]]
        while new.any():
            part[number[rest[new]]] = found
            edge, rest = rest[new], rest[~new]
            if not len(rest):
                break
            distance, _ = cKDTree(cells[edge]).query(cells[rest], distance_upper_bound=limit)
            new = np.isin(number[rest], number[rest[np.isfinite(distance)]])
        found += 1
    return part[number], found
