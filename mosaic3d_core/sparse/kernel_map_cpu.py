"""Kernel maps and row movement on the CPU, compiled with numba.

All kernels are serial and release the GIL: the backend runs them from its own threads (see ``parallel.py``),
so they do not depend on numba's threading layers, some of which must not be entered from two Python threads
at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def neighbour_table(keys: np.ndarray, rows: np.ndarray, stride_x: int, stride_y: int, table: np.ndarray) -> None:
    """Fill the 3^3 neighbour table of a coordinate set.

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
    """
    n = keys.shape[0]
    for dx in range(-1, 2):
        for dy in range(-1, 2):
            first = (dx + 1) * 9 + (dy + 1) * 3
            shift = dx * stride_x + dy * stride_y - 1
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
def scatter_rows(source: np.ndarray, table: np.ndarray, start: int, out: np.ndarray) -> None:
    """The reverse of :func:`gather_rows` where every row of ``out`` occurs once in the table.

    Args:
        source: Blocks side by side. Shape (R, K*W).
        table: Destination row of each block or -1. Shape (N, K), int32.
        start: First row of the table to scatter.
        out: Written. Shape (M, W).
    """
    width = out.shape[1]
    for r in range(source.shape[0]):
        base = 0
        for k in range(table.shape[1]):
            row = table[start + r, k]
            if row >= 0:
                for c in range(width):
                    out[row, c] = source[r, base + c]
            base += width
