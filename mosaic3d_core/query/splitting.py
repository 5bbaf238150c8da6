"""Cutting a connected part where two objects touch: walls at a corner, chairs side by side.

Two cues are used. Large flat surfaces are told apart by their normals. Everything else is looked at from
above: where the footprint narrows to a neck between two wide places, and more readily so where the colours
on both sides differ, two objects meet.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy import ndimage
from scipy.spatial import cKDTree

from mosaic3d_core.query.boxes import ground_basis
from mosaic3d_core.query.components import connected_components

# A flat surface counts as a wall, floor or ceiling of its own from this size; a wardrobe's side is smaller,
# so it stays whole.
_PLANE_EXTENT_M = 1.0
_PLANE_THICKNESS_M = 0.30
# The flat surfaces must make up most of the part, or it is furniture that happens to have flat sides.
_PLANE_SHARE = 0.5
# A neck this much narrower than the narrower of both sides separates two objects ...
_NECK_RATIO = 0.4
# ... and a milder one does when the mean colours differ by this much (Euclidean, 0..255 RGB).
_NECK_RATIO_COLOUR = 0.6
_COLOUR_DISTANCE = 60.0
# Objects narrower than this have no meaningful inner width (their footprint is a line of a few noisy cells).
_MIN_HALF_WIDTH_M = 0.12
# A level surface this wide in both directions is a floor or a ceiling: furniture on it makes necks, but it is one thing.
_GROUND_EXTENT_M = 2.0
_GROUND_THICKNESS_M = 0.25
# What belongs to no plane goes to the nearest one in steps of this size.
_COARSE_M = 0.08
# Each side of a cut must hold at least this share of the part.
_MIN_SIDE_SHARE = 0.15


def split_touching(
    indices: np.ndarray,
    points: np.ndarray,
    normals: np.ndarray,
    colors: np.ndarray,
    up: np.ndarray,
    voxel_size_m: float,
) -> list[np.ndarray]:
    """Cut one connected part into objects.

    Args:
        indices: Voxel indices of the part. Shape (K, 3), int32.
        points: Voxel centroids, metres. Shape (K, 3).
        normals: Unit normals or zeros. Shape (K, 3).
        colors: Colours, 0 to 255. Shape (K, 3).
        up: Up direction. Shape (3,).
        voxel_size_m: Voxel edge, metres.

    Returns:
        Rows of each object, a partition of 0 .. K - 1 (one entry when nothing is cut).
    """
    local = points @ ground_basis(up)
    extent = np.ptp(local, axis=0) if len(local) else np.zeros(3)
    sides = None
    if (np.sort(extent)[-2:] > _PLANE_EXTENT_M).all():
        sides = _split_planes(indices, local, normals @ ground_basis(up))
    level = min(extent[:2]) > _GROUND_EXTENT_M and np.ptp(np.quantile(local[:, 2], [0.02, 0.98])) < _GROUND_THICKNESS_M
    if sides is None and not level and min(extent[:2]) > 2 * _MIN_HALF_WIDTH_M:
        sides = _split_necks(local[:, :2], colors, voxel_size_m)
    if sides is None:
        return [np.arange(len(points))]
    return [np.flatnonzero(sides == k) for k in range(sides.max() + 1)]


def _split_planes(indices: np.ndarray, local: np.ndarray, normals: np.ndarray) -> np.ndarray | None:
    """Object number per voxel when the part consists of at least two large flat surfaces, else None."""
    groups = _normal_groups(normals)
    usable = np.flatnonzero(groups >= 2)  # a sofa's or a bed's flat top is no object of its own
    if len(usable) < _PLANE_SHARE * len(local):
        return None
    numbers, count = connected_components(indices[usable], groups[usable], reach=2)
    sizes = np.bincount(numbers, minlength=count)
    planes = []
    for k in np.flatnonzero(sizes >= 0.05 * len(local)):
        rows = usable[numbers == k]
        if _is_large_plane(local[rows]):
            planes.append(rows)
    if len(planes) < 2 or sum(map(len, planes)) < _PLANE_SHARE * len(local):
        return None
    sides = np.full(len(local), -1)
    for number, rows in enumerate(planes):
        sides[rows] = number
    rest = np.flatnonzero(sides < 0)
    if len(rest):
        # cell by cell: a wall of 50,000 voxels would otherwise take a second, and a cell more or less at a corner is no matter
        anchors = [_coarse(local[rows])[0] for rows in planes]
        owner = np.repeat(np.arange(len(planes)), [len(one) for one in anchors])
        places, cell = _coarse(local[rest])
        sides[rest] = owner[cKDTree(np.concatenate(anchors)).query(places)[1]][cell]
    return sides


def _coarse(local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean place of the points in each coarse cell (M, 3), and the cell of every point (K,)."""
    cells = np.floor((local - local.min(axis=0)) / _COARSE_M).astype(np.int64)
    _, cell = np.unique(cells @ [1 << 40, 1 << 20, 1], return_inverse=True)
    count = np.bincount(cell)
    return np.stack([np.bincount(cell, local[:, k]) for k in range(3)], axis=1) / count[:, None], cell


def _normal_groups(normals: np.ndarray) -> np.ndarray:
    """Group voxels by the direction they face. Shape (K,).

    0 is up, 1 is down, 2 + k the k-th dominant horizontal direction, -1 unclear.
    """
    groups = np.full(len(normals), -1)
    groups[normals[:, 2] > 0.8] = 0
    groups[normals[:, 2] < -0.8] = 1
    vertical = np.flatnonzero((np.abs(normals[:, 2]) < 0.4) & (np.abs(normals).sum(axis=1) > 0.5))
    if len(vertical) == 0:
        return groups
    azimuth = np.arctan2(normals[vertical, 1], normals[vertical, 0])
    bins = 36
    histogram = np.bincount(((azimuth + np.pi) / (2 * np.pi) * bins).astype(int) % bins, minlength=bins)
    smooth = ndimage.gaussian_filter1d(histogram.astype(float), 1.0, mode="wrap")
    is_peak = (smooth >= ndimage.maximum_filter1d(smooth, 7, mode="wrap")) & (smooth > 0.02 * len(normals))
    peaks = (np.flatnonzero(is_peak) + 0.5) / bins * 2 * np.pi - np.pi
    if len(peaks) == 0:
        return groups
    difference = np.abs(np.angle(np.exp(1j * (azimuth[:, None] - peaks[None]))))
    nearest = difference.argmin(axis=1)
    clear = difference.min(axis=1) < np.deg2rad(35)
    groups[vertical[clear]] = 2 + nearest[clear]
    return groups


def _is_large_plane(local: np.ndarray) -> bool:
    if len(local) < 10:
        return False
    centred = local - local.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1]
    low, high = np.quantile(centred @ axes, [0.02, 0.98], axis=0)
    thickness, *extents = high - low
    return bool(thickness < _PLANE_THICKNESS_M and min(extents) > _PLANE_EXTENT_M)


def _split_necks(ground: np.ndarray, colors: np.ndarray, voxel_size_m: float) -> np.ndarray | None:
    """Object number per voxel when the footprint has a thin neck, else None."""
    cell = max(voxel_size_m, 0.04)
    cells = np.floor((ground - ground.min(axis=0)) / cell).astype(np.int64) + 2
    occupied = np.zeros(cells.max(axis=0) + 3, bool)
    occupied[cells[:, 0], cells[:, 1]] = True
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(occupied))
    filled |= occupied
    width = ndimage.gaussian_filter(ndimage.distance_transform_edt(filled), 0.7) * cell
    order = np.argsort(-width[filled], kind="stable")
    where = np.argwhere(filled)[order]
    basins = _merge_tree(where, width, np.full(width.shape, -1, np.int64), _NECK_RATIO_COLOUR)
    number = basins[cells[:, 0], cells[:, 1]]
    return _accept_basins(number, colors, basins, width)


@njit(cache=True, nogil=True)
def _merge_tree(  # noqa: C901
    where: np.ndarray, width: np.ndarray, basin: np.ndarray, ratio: float
) -> np.ndarray:  # pragma: no cover - compiled
    """Flood from wide to narrow; basins join where wider than ``ratio`` times the lesser peak."""
    parent = np.arange(where.shape[0] + 1)
    peak = np.zeros(where.shape[0] + 1)
    count = 0
    for k in range(where.shape[0]):
        r, c = where[k, 0], where[k, 1]
        best = -1
        for dr in range(-1, 2):
            for dc in range(-1, 2):
                b = basin[r + dr, c + dc]
                if b < 0:
                    continue
                while parent[b] != b:
                    b = parent[b]
                if best < 0:
                    best = b
                elif b != best:
                    high, low = (b, best) if peak[b] > peak[best] else (best, b)
                    if width[r, c] >= ratio * peak[low]:
                        parent[low] = high
                    best = high
        if best < 0:
            best = count
            peak[best] = width[r, c]
            count += 1
        basin[r, c] = best
    for k in range(where.shape[0]):
        b = basin[where[k, 0], where[k, 1]]
        while parent[b] != b:
            b = parent[b]
        basin[where[k, 0], where[k, 1]] = b
    return basin


def _accept_basins(number: np.ndarray, colors: np.ndarray, basins: np.ndarray, width: np.ndarray) -> np.ndarray | None:
    """Join basins again that are too small, too thin, or not different enough for the neck between them."""
    names, compact, sizes = np.unique(number, return_inverse=True, return_counts=True)
    if len(names) < 2:
        return None
    peaks = ndimage.maximum(width, basins, names)
    means = np.stack([np.bincount(compact, colors[:, k], len(names)) / sizes for k in range(3)], axis=1)
    root = np.arange(len(names))

    def find(k: int) -> int:
        while root[k] != k:
            k = root[k]
        return k

    necks = _neck_widths(basins, width, names)
    # Widest necks first: a chain of weak cuts heals from its weakest link.
    for (a, b), neck in sorted(necks.items(), key=lambda item: -item[1]):
        a, b = find(a), find(b)
        if a == b:
            continue
        lesser = min(peaks[a], peaks[b])
        colours_differ = np.linalg.norm(means[a] - means[b]) > _COLOUR_DISTANCE
        limit = _NECK_RATIO_COLOUR if colours_differ else _NECK_RATIO
        too_small = min(sizes[a], sizes[b]) < _MIN_SIDE_SHARE * len(number) or lesser < _MIN_HALF_WIDTH_M
        if neck > limit * lesser or too_small:
            means[a] = (means[a] * sizes[a] + means[b] * sizes[b]) / (sizes[a] + sizes[b])
            peaks[a], sizes[a], root[b] = max(peaks[a], peaks[b]), sizes[a] + sizes[b], a
    roots = np.array([find(k) for k in range(len(names))])
    kept, final = np.unique(roots, return_inverse=True)
    return final[compact] if len(kept) > 1 else None


def _neck_widths(basins: np.ndarray, width: np.ndarray, names: np.ndarray) -> dict[tuple[int, int], float]:
    """Largest half width on the border of touching basins, keyed by positions in ``names``."""
    position = np.full(max(int(basins.max()), int(names.max())) + 2, -1)
    position[names] = np.arange(len(names))
    number = np.where(basins >= 0, position[basins], -1)
    necks: dict[tuple[int, int], float] = {}
    for axis in (0, 1):
        one = [slice(None), slice(None)]
        two = [slice(None), slice(None)]
        one[axis], two[axis] = slice(None, -1), slice(1, None)
        a, b = number[tuple(one)], number[tuple(two)]
        at = (a >= 0) & (b >= 0) & (a != b)
        here = np.minimum(width[tuple(one)], width[tuple(two)])[at]
        for x, y, w in zip(a[at], b[at], here, strict=True):
            pair = (min(int(x), int(y)), max(int(x), int(y)))
            necks[pair] = max(necks.get(pair, 0.0), float(w))
    return necks
