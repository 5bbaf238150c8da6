"""Connected components of sparse voxels: compiled union-find over a table or a hash of the voxel indices."""

from __future__ import annotations

import numpy as np
from numba import njit

_EMPTY = np.int64(-(2**63) + 1)
_BITS = 21
_HALF = 1 << (_BITS - 1)
# A table of all cells beats a hash until clearing it costs more than it saves, or it needs too much memory (128 MB).
_DENSE_CELLS = 32_000_000
_DENSE_CELLS_PER_VOXEL = 400


def pack_indices(indices: np.ndarray) -> np.ndarray:
    """One int64 key per voxel index (N, 3); unique for coordinates within +-2^20 (21 km at 2 cm).

    Raises:
        ValueError: If a coordinate lies outside that range.
    """
    indices = np.asarray(indices, np.int64)
    if indices.size and (indices.min() < -_HALF + 8 or indices.max() >= _HALF - 8):
        raise ValueError(f"voxel indices must lie within +-{_HALF - 8}, got {indices.min()}..{indices.max()}")
    shifted = indices + _HALF
    return (shifted[:, 0] << (2 * _BITS)) | (shifted[:, 1] << _BITS) | shifted[:, 2]


@njit(cache=True, nogil=True, inline="always")
def _slot(key: int, mask: int) -> np.int64:  # pragma: no cover - compiled
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed ^ (mixed >> np.uint64(29))) >> np.uint64(17)) & mask


@njit(cache=True, nogil=True)
def _build_table(keys: np.ndarray, mask: int) -> np.ndarray:  # pragma: no cover - compiled
    table = np.full((mask + 1, 2), _EMPTY, np.int64)
    for i in range(keys.shape[0]):
        slot = _slot(keys[i], mask)
        while table[slot, 0] != _EMPTY:
            slot = (slot + 1) & mask
        table[slot, 0] = keys[i]
        table[slot, 1] = i
    return table


@njit(cache=True, nogil=True)
def _find(parent: np.ndarray, i: int) -> int:  # pragma: no cover - compiled
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True, inline="always")
def _join(parent: np.ndarray, i: int, j: int) -> None:  # pragma: no cover - compiled
    a, b = _find(parent, i), _find(parent, j)
    if a != b:
        # The smaller row becomes the root: numbers then do not depend on the visiting order.
        parent[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True)
def _number(parent: np.ndarray) -> tuple[np.ndarray, int]:  # pragma: no cover - compiled
    """Replace roots by numbers in the order of first voxels."""
    labels = np.empty(parent.shape[0], np.int64)
    number = 0
    for i in range(parent.shape[0]):
        root = _find(parent, i)
        if root == i:
            labels[i] = number
            number += 1
        else:
            labels[i] = labels[root]
    return labels, number


@njit(cache=True, nogil=True)
def _components_hashed(
    keys: np.ndarray, groups: np.ndarray, offsets: np.ndarray, mask: int
) -> tuple[np.ndarray, int]:  # pragma: no cover - compiled
    """Component per voxel; voxels connect when their keys differ by an offset and groups agree."""
    table = _build_table(keys, mask)
    parent = np.arange(keys.shape[0])
    for i in range(keys.shape[0]):
        for k in range(offsets.shape[0]):
            key = keys[i] + offsets[k]
            slot = _slot(key, mask)
            while table[slot, 0] != _EMPTY:
                if table[slot, 0] == key:
                    j = table[slot, 1]
                    if groups[j] == groups[i]:
                        _join(parent, i, j)
                    break
                slot = (slot + 1) & mask
    return _number(parent)


@njit(cache=True, nogil=True)
def _components_dense(
    cells: np.ndarray, groups: np.ndarray, offsets: np.ndarray, volume: int
) -> tuple[np.ndarray, int]:  # pragma: no cover - compiled
    """As ``_components_hashed`` with a table of all cells of the (padded) bounding box."""
    row_of = np.full(volume, np.int32(-1))
    for i in range(cells.shape[0]):
        row_of[cells[i]] = i
    parent = np.arange(cells.shape[0])
    for i in range(cells.shape[0]):
        for k in range(offsets.shape[0]):
            j = row_of[cells[i] + offsets[k]]
            if j >= 0 and groups[j] == groups[i]:
                _join(parent, i, j)
    return _number(parent)


def _half_neighbourhood(reach: int, strides: tuple[int, int, int]) -> np.ndarray:
    """Key offsets of half the neighbourhood; the other half is found from the neighbours' side."""
    steps = np.arange(-reach, reach + 1)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    offsets = grid @ np.array(strides, np.int64)
    return np.sort(offsets[offsets > 0])


def connected_components(indices: np.ndarray, groups: np.ndarray | None = None, *, reach: int = 1) -> tuple[np.ndarray, int]:
    """Label the connected parts of a set of distinct voxels.

    Args:
        indices: Distinct voxel indices. Shape (N, 3), integers. An empty set has no component.
        groups: Only voxels of equal group connect. Shape (N,), integers; None for one group.
        reach: Voxels at most this far apart (Chebyshev distance, cells) touch; 1 is the 26-neighbourhood.

    Returns:
        Component number per voxel in 0 .. count - 1, numbered by first voxel, shape (N,), int64; and the
        count.

    Raises:
        ValueError: If an index is out of range or ``reach`` is not in 1 .. 4.
    """
    if not 1 <= reach <= 4:
        raise ValueError(f"reach must be 1 to 4 voxels, got {reach}")
    keys = pack_indices(np.asarray(indices).reshape(-1, 3))
    if len(keys) == 0:
        return np.zeros(0, np.int64), 0
    groups = np.zeros(len(keys), np.int64) if groups is None else np.asarray(groups, np.int64)
    if groups.shape != keys.shape:
        raise ValueError(f"groups must have shape {keys.shape}, got {groups.shape}")
    low = np.asarray(indices).min(axis=0).astype(np.int64) - reach
    dims = np.asarray(indices).max(axis=0).astype(np.int64) + reach + 1 - low
    volume = int(np.prod(dims))
    if volume <= min(_DENSE_CELLS, _DENSE_CELLS_PER_VOXEL * len(keys)):
        strides = (int(dims[1] * dims[2]), int(dims[2]), 1)
        cells = (np.asarray(indices, np.int64) - low) @ np.array(strides, np.int64)
        labels, count = _components_dense(cells, groups, _half_neighbourhood(reach, strides), volume)
    else:
        capacity = 1 << int(np.ceil(np.log2(max(2 * len(keys), 16))))
        offsets = _half_neighbourhood(reach, (1 << (2 * _BITS), 1 << _BITS, 1))
        labels, count = _components_hashed(keys, groups, offsets, capacity - 1)
    return labels, int(count)
