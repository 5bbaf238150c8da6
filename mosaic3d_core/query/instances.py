"""From per-voxel scores of one text to separate objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mosaic3d_core.query.boxes import OrientedBox, fit_upright_box
from mosaic3d_core.query.components import connected_components
from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.grid import QueryGrid
from mosaic3d_core.query.joining import Part, join_fragments, join_stacked
from mosaic3d_core.query.splitting import split_touching

# A box changes by millimetres when it is fitted to this many of an object's voxels; a wall has thirty times as many.
_BOX_POINTS = 3_000
# Share of the smallest reported size below which a part is not even tried as the other half of something.
_TINY = 0.25


@dataclass(frozen=True, eq=False)
class Instance:
    """One object before it has an id.

    Attributes:
        cells: Positions of its encoder voxels in the grid, ascending. Shape (M,), int64.
        rows: Rows of the snapshot, ascending. Shape (K,), int64.
        score: Robust mean of its encoder voxels' scores.
        box: Upright box around its map voxels, metres.
    """

    cells: np.ndarray
    rows: np.ndarray
    score: float
    box: OrientedBox


def extract_instances(
    grid: QueryGrid, scores: np.ndarray, config: QueryConfig, allowed: np.ndarray | None = None
) -> list[Instance]:
    """Objects of one text, best first.

    Args:
        grid: The map at the encoder's resolution.
        scores: Score per encoder voxel in [0, 1]. Shape (V,).
        config: Thresholds.
        allowed: Map voxels that may be used, shape (N,), bool; None for all.

    Returns:
        Instances whose score is at least ``config.grow_score``; the caller applies the score limit it was
        asked for.
    """
    return group_cells(grid, scores, np.flatnonzero(scores >= config.grow_score), config, allowed=allowed)


def group_cells(
    grid: QueryGrid,
    scores: np.ndarray,
    cells: np.ndarray,
    config: QueryConfig,
    seed: float | None = None,
    allowed: np.ndarray | None = None,
) -> list[Instance]:
    """Objects among given encoder voxels, best first.

    Args:
        grid: The map at the encoder's resolution.
        scores: Score per encoder voxel in [0, 1]. Shape (V,).
        cells: Encoder voxels that may belong to an object, ascending. Shape (M,).
        config: Sizes and gaps, in map voxels.
        seed: Score that starts an object; None for ``config.seed_score``.
        allowed: Map voxels that may be used, shape (N,), bool; None for all.

    Returns:
        The instances.
    """
    counts = grid.counts
    if allowed is not None:
        counts = np.add.reduceat(np.append(allowed[grid.order], False), grid.starts[:-1]) if len(grid.cells) else counts
        cells = cells[counts[cells] > 0]
    if counts[cells].sum() < config.min_object_voxels:
        return []
    seed = config.seed_score if seed is None else seed
    parts: list[Part] = []
    for part in _seeded_parts(grid, cells, scores, counts, seed, config):
        for piece in _split(grid, part) if config.split_large else [part]:
            if counts[piece].sum() >= config.min_object_voxels:
                parts.append(_part(grid, piece, allowed))
    parts = join_fragments(parts, config, lambda union: _part(grid, union, allowed), grid)
    if parts:
        # what is far too small to be reported does not carry anything either
        tiny = _TINY * config.min_relative_voxels * len(parts[0].rows)
        parts = [part for part in parts if len(part.rows) >= tiny]
    parts = join_stacked(parts, config, lambda union: _part(grid, union, allowed), grid.snapshot.up)
    if not parts:
        return []
    least = config.min_relative_voxels * max(len(part.rows) for part in parts)
    found = [
        Instance(part.cells, part.rows, robust_mean(scores[part.cells]), part.box) for part in parts if len(part.rows) >= least
    ]
    return sorted(found, key=lambda instance: (-instance.score, int(instance.rows[0])))


def robust_mean(values: np.ndarray, trim: float = 0.2) -> float:
    """Mean without the lowest and highest ``trim`` share: a mixed border does not decide the score."""
    cut = int(len(values) * trim)
    return float(np.sort(values)[cut : len(values) - cut].mean(dtype=np.float64))


def _seeded_parts(
    grid: QueryGrid, cells: np.ndarray, scores: np.ndarray, counts: np.ndarray, seed: float, config: QueryConfig
) -> list[np.ndarray]:
    """Connected parts that are large enough and hold enough confident voxels."""
    ratio = grid.cell_size_m / grid.snapshot.voxel_size_m
    numbers, count = connected_components(grid.cells[cells], reach=max(1, round(config.gap_voxels / ratio)))
    own = counts[cells]
    sizes = np.bincount(numbers, own, minlength=count)
    sure = scores[cells] >= seed
    seeds = np.bincount(numbers[sure], own[sure], minlength=count)
    wanted = (sizes >= config.min_object_voxels) & (seeds >= max(1, config.min_object_voxels // 3))
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=count))
    starts = np.append(0, ends)
    return [cells[order[starts[k] : ends[k]]] for k in np.flatnonzero(wanted)]


def _split(grid: QueryGrid, part: np.ndarray) -> list[np.ndarray]:
    pieces = split_touching(
        grid.cells[part],
        grid.centroids[part],
        grid.normals[part],
        grid.colors[part],
        grid.snapshot.up,
        grid.cell_size_m,
    )
    return [part[piece] for piece in pieces]


def _part(grid: QueryGrid, cells: np.ndarray, allowed: np.ndarray | None) -> Part:
    return Part(cells, grid.rows(cells, allowed), lambda rows: upright_box(grid, rows))


def upright_box(grid: QueryGrid, rows: np.ndarray) -> OrientedBox:
    """Upright box around some rows of the snapshot (K,), metres."""
    sample = rows[:: max(1, len(rows) // _BOX_POINTS)]
    return fit_upright_box(grid.snapshot.centroids[sample], grid.snapshot.up, grid.snapshot.voxel_size_m)
