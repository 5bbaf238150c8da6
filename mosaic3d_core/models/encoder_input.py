"""From a map snapshot to the input of the encoder: pooling to the encoder's grid, and the input channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot

CHANNELS: dict[str, int] = {"color": 3, "occupancy": 1, "verticality": 1, "height": 1}

_HEIGHT_CENTRE_M = 1.2
_HEIGHT_RANGE_M = (-1.5, 2.0)
_FLOOR_BAND_M = 0.5
_FLOOR_BIN_M = 0.02
_FLOOR_NORMAL_COSINE = 0.85
_FLOOR_SAMPLES = 40_000
_SAME_UP = 1.0 - 1e-9


@dataclass(frozen=True)
class EncoderInput:
    """Cells and features for the encoder.

    Attributes:
        indices: Occupied cells x, y, z, sorted, anchored at the world origin. Shape (V, 3), int32.
        features: Input channels. Shape (V, Cin), float32.
        voxel_of_point: Cell of each map voxel. Shape (N,), int64.
        floor_height_m: Level of the floor along the up direction.
    """

    indices: np.ndarray
    features: np.ndarray
    voxel_of_point: np.ndarray
    floor_height_m: float


def channel_count(channels: tuple[str, ...]) -> int:
    """Number of input features of a list of channels.

    Raises:
        ValueError: If a channel is unknown or the list is empty.
    """
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown or not channels:
        raise ValueError(f"unknown input channels {unknown}; choose from {', '.join(CHANNELS)}")
    return sum(CHANNELS[name] for name in channels)


def estimate_floor_height(centroids: np.ndarray, normals: np.ndarray, up: np.ndarray) -> float:
    """Level of the floor: the best supported horizontal level among the lowest half metre.

    Args:
        centroids: Points in metres. Shape (N, 3).
        normals: Unit normals, 0 where unknown. Shape (N, 3).
        up: Unit vector against gravity. Shape (3,).

    Returns:
        Height of the floor along ``up`` in metres; the 1st percentile of the heights where no horizontal
        level stands out, and 0 for an empty cloud.
    """
    if len(centroids) == 0:
        return 0.0
    step = max(1, len(centroids) // _FLOOR_SAMPLES)
    direction = np.asarray(up, np.float32)
    heights = np.asarray(centroids[::step], np.float32) @ direction
    facing = np.asarray(normals[::step], np.float32) @ direction
    lowest, percentile = (float(v) for v in np.quantile(heights, (0.002, 0.01)))
    start = lowest - 0.1
    level = (np.abs(facing) > _FLOOR_NORMAL_COSINE) & (heights >= start) & (heights < lowest + _FLOOR_BAND_M)
    candidates = heights[level]
    if len(candidates) < max(8, 0.01 * len(heights)):
        return percentile
    counts = np.bincount(((candidates - start) / _FLOOR_BIN_M).astype(np.int64)).astype(np.float64)
    support = np.convolve(counts, (0.5, 1.0, 0.5), mode="same")  # a noisy level spreads over neighbouring bins
    best = start + (int(np.argmax(support)) + 0.5) * _FLOOR_BIN_M
    return float(np.median(candidates[np.abs(candidates - best) <= 1.5 * _FLOOR_BIN_M]))


def build_encoder_input(snapshot: MapSnapshot, voxel_size_m: float, channels: tuple[str, ...]) -> EncoderInput:
    """Pool the map to the encoder's grid and make its input features.

    Every cell holds the weighted mean over its map voxels. The grid stays anchored at the world origin; if
    the map's up is not z, positions are first turned so that it is.

    Args:
        snapshot: The map; it may be empty.
        voxel_size_m: Edge of an encoder voxel in metres. Usually a whole multiple of the map's voxel.
        channels: Input channels in order: "color" (3: colour / 127.5 - 1), "occupancy" (1: constant 1),
            "verticality" (1: the size of normal . up, 0 without a normal), "height" (1: metres above floor
             - 1.2, in [-1.5, 2.0]).

    Returns:
        Cells sorted by x, y, z with their features.

    Raises:
        ValueError: If a channel is unknown or the voxel size is not a positive number.
    """
    count = channel_count(channels)
    if not (np.isfinite(voxel_size_m) and voxel_size_m > 0.0):
        raise ValueError(f"voxel_size_m must be a positive number of metres, got {voxel_size_m}")
    if len(snapshot.indices) == 0:
        return EncoderInput(np.empty((0, 3), np.int32), np.empty((0, count), np.float32), np.empty(0, np.int64), 0.0)
    up = np.asarray(snapshot.up, np.float64)
    up = up / np.linalg.norm(up)
    cells = _cells(snapshot, voxel_size_m, up)
    indices, order, starts, voxel_of_point = _group(cells)
    sums = np.empty((len(indices), 6), np.float32)
    _pool(
        snapshot.centroids,
        snapshot.colors,
        snapshot.normals,
        snapshot.weights,
        up.astype(np.float32),
        order,
        starts,
        sums,
    )
    floor = 0.0
    if "height" in channels:
        floor = estimate_floor_height(snapshot.centroids, snapshot.normals, up)
        np.clip(sums[:, 5] - (floor + _HEIGHT_CENTRE_M), *_HEIGHT_RANGE_M, out=sums[:, 5])
    columns = {
        "color": slice(0, 3),
        "occupancy": slice(3, 4),
        "verticality": slice(4, 5),
        "height": slice(5, 6),
    }
    features = np.ascontiguousarray(np.concatenate([sums[:, columns[name]] for name in channels], axis=1))
    return EncoderInput(indices, features, voxel_of_point, floor)


def _cells(snapshot: MapSnapshot, voxel_size_m: float, up: np.ndarray) -> np.ndarray:
    """Encoder cell of every map voxel. Shape (N, 3), int32."""
    if up[2] >= _SAME_UP:
        ratio = voxel_size_m / snapshot.voxel_size_m
        if abs(ratio - round(ratio)) < 1e-6 and ratio >= 1.0:
            return np.floor_divide(snapshot.indices, np.int32(round(ratio)))  # exact: no rounding at cell borders
        positions = np.asarray(snapshot.centroids, np.float64)
    else:
        positions = np.asarray(snapshot.centroids, np.float64) @ _rotation_to_z(up).T
    return np.floor(positions / voxel_size_m).astype(np.int32)


def _rotation_to_z(up: np.ndarray) -> np.ndarray:
    """Smallest rotation that maps ``up`` to z (Rodrigues). Shape (3, 3)."""
    if up[2] < -1.0 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    x, y, z = up
    skew = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])  # of the axis up x z
    return np.eye(3) + skew + skew @ skew / (1.0 + z)


def _group(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sort equal cells together: distinct cells, row order, start of each run, cell number per row."""
    lowest = cells.min(axis=0).astype(np.int64)
    extent = cells.max(axis=0).astype(np.int64) - lowest + 1
    if float(extent[0]) * float(extent[1]) * float(extent[2]) >= 2.0**62:
        raise ValueError(f"the map spans {extent.tolist()} encoder voxels, too many to number; check it for outliers")
    keys = (cells[:, 0] - lowest[0]) * (extent[1] * extent[2])
    keys += (cells[:, 1] - lowest[1]) * extent[2]
    keys += cells[:, 2] - lowest[2]
    order = np.argsort(keys)
    number, starts = _runs(keys, order)
    return cells[order[starts]], order, starts, number


@njit(cache=True, nogil=True)
def _runs(keys: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = keys.shape[0]
    number = np.empty(n, np.int64)
    starts = np.empty(n, np.int64)
    count = 0
    for i in range(n):
        if i == 0 or keys[order[i]] != keys[order[i - 1]]:
            starts[count] = i
            count += 1
        number[order[i]] = count - 1
    return number, starts[:count].copy()


@njit(cache=True, nogil=True, fastmath=True)
def _pool(
    centroids: np.ndarray,
    colors: np.ndarray,
    normals: np.ndarray,
    weights: np.ndarray,
    up: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    out: np.ndarray,
) -> None:
    """Weighted means per cell: colour (3), occupancy, verticality (of those with a normal), height."""
    count = starts.shape[0]
    for cell in range(count):
        stop = starts[cell + 1] if cell + 1 < count else order.shape[0]
        red = green = blue = height = vertical = total = with_normal = np.float32(0.0)
        for at in range(starts[cell], stop):
            i = order[at]
            weight = max(np.float32(weights[i]), np.float32(1e-3))
            total += weight
            red += weight * colors[i, 0]
            green += weight * colors[i, 1]
            blue += weight * colors[i, 2]
            height += weight * (centroids[i, 0] * up[0] + centroids[i, 1] * up[1] + centroids[i, 2] * up[2])
            if normals[i, 0] != 0.0 or normals[i, 1] != 0.0 or normals[i, 2] != 0.0:
                along = normals[i, 0] * up[0] + normals[i, 1] * up[1] + normals[i, 2] * up[2]
                vertical += weight * abs(along)
                with_normal += weight
        out[cell, 0] = red / total / 127.5 - 1.0
        out[cell, 1] = green / total / 127.5 - 1.0
        out[cell, 2] = blue / total / 127.5 - 1.0
        out[cell, 3] = 1.0
        out[cell, 4] = vertical / with_normal if with_normal > 0.0 else 0.0
        out[cell, 5] = height / total
