"""Guessing which axis of an unknown indoor scan points up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Nearly all indoor scans have z up, some y; the evidence must outweigh that.
_PRIOR = {"z": 0.25, "y": 0.12}
_CELL_M = 0.2


def estimate_up_axis(points: np.ndarray, normals: np.ndarray | None, axes: Mapping[str, Sequence[float]]) -> str:
    """The axis along which the cloud looks most like a room standing on its floor.

    Below lies a surface that spans the ground plan, most things stand low, and where there are oriented
    normals the ones of that surface point up.

    Args:
        points: Points in metres. Shape (N, 3), N >= 1.
        normals: Normals or None; their sign is used where they tend to agree. Shape (N, 3).
        axes: Candidates by name.

    Returns:
        Name of the axis.
    """
    step = max(1, len(points) // 200_000)
    points = np.asarray(points[::step], np.float64)
    normals = None if normals is None else normals[::step]
    scores = {
        name: _floor_evidence(points, normals, np.asarray(axis, np.float64)) + _PRIOR.get(name, 0.0)
        for name, axis in axes.items()
    }
    return max(scores, key=lambda name: scores[name])


def _floor_evidence(points: np.ndarray, normals: np.ndarray | None, up: np.ndarray) -> float:
    height = points @ up
    low, high = np.quantile(height, [0.005, 0.995])
    ground = np.floor(points[:, np.abs(up) < 0.5] / _CELL_M).astype(np.int64)
    everything = len(np.unique(ground, axis=0))
    below = height < low + 0.15
    covered = len(np.unique(ground[below], axis=0)) / max(everything, 1)
    standing_low = 0.5 - float(np.clip((np.median(height) - low) / max(high - low, 1e-6), 0, 1))
    evidence = covered + standing_low
    if normals is not None and below.any():
        evidence += float(np.mean(normals[below] @ up))
    return evidence
