"""Farthest-point sampling: queries spread evenly over a scene."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _farthest(points: np.ndarray, count: int, first: int) -> np.ndarray:  # pragma: no cover - compiled
    chosen = np.empty(count, np.int64)
    distance = np.full(points.shape[0], np.inf, np.float32)
    latest = first
    for k in range(count):
        chosen[k] = latest
        x, y, z = points[latest, 0], points[latest, 1], points[latest, 2]
        best, furthest = np.float32(-1.0), 0
        for i in range(points.shape[0]):
            dx, dy, dz = points[i, 0] - x, points[i, 1] - y, points[i, 2] - z
            squared = dx * dx + dy * dy + dz * dz
            if squared < distance[i]:
                distance[i] = squared
            if distance[i] > best:
                best, furthest = distance[i], i
        latest = furthest
    return chosen


def farthest_points(points: NDArray[np.floating], count: int, first: int = 0) -> NDArray[np.int64]:
    """Points that are each as far as possible from those chosen before.

    Args:
        points: (N, 3).
        count: How many to choose; all of them where there are fewer.
        first: Row of the point to start with.

    Returns:
        Rows in the order of choice, (min(count, N),). Of equally far points the first is taken; repeated points are
        chosen when no other is left.

    Raises:
        ValueError: If the start is no row.
    """
    if len(points) == 0:
        return np.zeros(0, np.int64)
    if not 0 <= first < len(points):
        raise ValueError(f"first must be a row of the {len(points)} points, got {first}")
    if count >= len(points):
        return np.arange(len(points))
    return _farthest(np.ascontiguousarray(points, np.float32), count, first)
