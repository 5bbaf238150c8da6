"""Kernel maps and row movement on the CPU, compiled with numba.

All kernels are serial and release the GIL: the backend runs them from its own threads (see ``parallel.py``),
so they do not depend on numba's threading layers, some of which must not be entered from two Python threads
at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def neighbour_table(
    keys: np.ndarray, rows: np.ndarray, stride_x: int, stride_y: int, table: np.ndarray, first_pass: int, last_pass: int
) -> None:
    """Fill the 3^3 neighbour table of a coordinate set, or those of its columns that some of the nine passes make.

    The keys are sorted by (batch, x, y, z), so the three z-neighbours of a voxel under one (dx, dy) are
    adjacent and one pointer per (dx, dy) only moves forward: nine linear passes make the whole table, with no
    hashing.

    Args:
        keys: Sorted unique keys with a margin of one cell on every axis. Shape (N,), int64.
        rows: Row of the set that each key belongs to. Shape (N,), int32.
        stride_x: Key distance of one step in x.
        stride_y: Key distance of one step in y (z steps by 1).
        table: Written: row of the neighbour at offset k = (dx+1)*9 + (dy+1)*3 + (dz+1), or -1. Shape (N, 27),
            int32.
        first_pass: Pass to begin with; pass p makes the neighbours at dx = p // 3 - 1 and dy = p % 3 - 1.
        last_pass: Pass to end before.
    """
    n = keys.shape[0]
    for number in range(first_pass, last_pass):
        first = number * 3
        shift = (number // 3 - 1) * stride_x + (number % 3 - 1) * stride_y - 1
        pointer = 0
        for i in range(n):
            target = keys[i] + shift
            while pointer < n and keys[pointer] < target:
                pointer += 1
            at = pointer
            row = rows[i]
            for dz in range(3):
                if at < n and keys[at] == target + dz:
                    table[row, first + dz] = rows[at]
                    at += 1
                else:
                    table[row, first + dz] = -1


@njit(cache=True, nogil=True)
def cell_bounds(indices: np.ndarray, bounds: np.ndarray) -> None:
    """Lowest and highest coordinate of each column.

    Args:
        indices: Cells (batch, x, y, z), at least one. Shape (N, 4), int32.
        bounds: Written. Shape (2, 4), int64.
    """
    for axis in range(4):
        low = high = np.int64(indices[0, axis])
        for i in range(indices.shape[0]):
            value = np.int64(indices[i, axis])
            low = min(low, value)
            high = max(high, value)
        bounds[0, axis], bounds[1, axis] = low, high


@njit(cache=True, nogil=True)
def cell_keys(indices: np.ndarray, origin: np.ndarray, strides: np.ndarray, keys: np.ndarray) -> None:
    """Number the cells: sum over the columns of (index - origin) * stride.

    Args:
        indices: Cells (batch, x, y, z). Shape (N, 4), int32.
        origin: Shape (4,), int64.
        strides: Shape (4,), int64.
        keys: Written. Shape (N,), int64.
    """
    for i in range(indices.shape[0]):
        key = np.int64(0)
        for axis in range(4):
            key += (np.int64(indices[i, axis]) - origin[axis]) * strides[axis]
        keys[i] = key


@njit(cache=True, nogil=True)
def child_table(parents: np.ndarray, indices: np.ndarray, children: np.ndarray) -> None:
    """Pair a level with the next coarser one (kernel 2, stride 2).

    Args:
        parents: Coarse row of each fine row. Shape (N,), int32.
        indices: Fine coordinates (batch, x, y, z). Shape (N, 4), int32.
        children: Written: fine row of child 4*(x&1) + 2*(y&1) + (z&1), or -1. Shape (P, 8), int32.
    """
    children[:] = -1
    for i in range(parents.shape[0]):
        child = 4 * (indices[i, 1] & 1) + 2 * (indices[i, 2] & 1) + (indices[i, 3] & 1)
        children[parents[i], child] = i


@njit(cache=True, nogil=True)
def gather_rows(source: np.ndarray, table: np.ndarray, start: int, out: np.ndarray) -> None:
    """Copy the table's neighbours of rows start.. side by side (im2col), zeros where there is none.

    Args:
        source: Feature rows as machine words. Shape (M, W).
        table: Row of each neighbour or -1. Shape (N, K), int32.
        start: First row of the table to gather.
        out: Written. Shape (R, K*W).
    """
    width = source.shape[1]
    for r in range(out.shape[0]):
        base = 0
        for k in range(table.shape[1]):
            neighbour = table[start + r, k]
            if neighbour >= 0:
                for c in range(width):
                    out[r, base + c] = source[neighbour, c]
            else:
                for c in range(width):
                    out[r, base + c] = 0
            base += width


@njit(cache=True, nogil=True)
def tap_masks(table: np.ndarray, bit_of_tap: np.ndarray, masks: np.ndarray) -> None:
    """Which neighbours each row has, as bits.

    Args:
        table: Row of each neighbour or -1. Shape (N, K), int32.
        bit_of_tap: Bit that stands for each neighbour. Shape (K,), int64.
        masks: Written. Shape (N,), int64.
    """
    for i in range(table.shape[0]):
        mask = np.int64(0)
        for k in range(table.shape[1]):
            if table[i, k] >= 0:
                mask |= np.int64(1) << bit_of_tap[k]
        masks[i] = mask


@njit(cache=True, nogil=True)
def take_taps(table: np.ndarray, rows: np.ndarray, taps: np.ndarray, out: np.ndarray) -> None:
    """Some rows and columns of a table.

    Args:
        table: Shape (N, K), int32.
        rows: Shape (R,), int32.
        taps: Shape (T,), int64.
        out: Written. Shape (R, T), int32.
    """
    for r in range(rows.shape[0]):
        row = rows[r]
        for t in range(taps.shape[0]):
            out[r, t] = table[row, taps[t]]
