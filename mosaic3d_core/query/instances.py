"""From per-voxel scores of one text to separate objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mosaic3d_core.query.boxes import OrientedBox, fit_upright_box, footprints, ground_basis, polygon_intersection_area
from mosaic3d_core.query.components import connected_components
from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.splitting import split_touching

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot


@dataclass(frozen=True, eq=False)
class Instance:
    """One object before it has an id.

    Attributes:
        rows: Rows of the snapshot, ascending. Shape (K,), int64.
        score: Robust mean of its voxels' scores.
        box: Upright box, metres.
    """

    rows: np.ndarray
    score: float
    box: OrientedBox


def extract_instances(
    snapshot: MapSnapshot, scores: np.ndarray, config: QueryConfig, allowed: np.ndarray | None = None
) -> list[Instance]:
    """Objects of one text, best first.

    Args:
        snapshot: The map.
        scores: Score per map voxel in [0, 1]. Shape (N,).
        config: Thresholds.
        allowed: Voxels that may be used, shape (N,), bool; None for all.

    Returns:
        Instances whose score is at least ``config.grow_score``; the caller applies the score limit it was
        asked for.
    """
    mask = scores >= config.grow_score
    if allowed is not None:
        mask &= allowed
    return group_voxels(snapshot, scores, np.flatnonzero(mask), config)


def group_voxels(
    snapshot: MapSnapshot, scores: np.ndarray, rows: np.ndarray, config: QueryConfig, seed: float | None = None
) -> list[Instance]:
    """Objects among given voxels, best first.

    Args:
        snapshot: The map.
        scores: Score per map voxel in [0, 1]. Shape (N,).
        rows: Voxels that may belong to an object, ascending. Shape (K,).
        config: Sizes and gaps.
        seed: Score that starts an object; None for ``config.seed_score``.

    Returns:
        The instances.
    """
    if len(rows) < config.min_object_voxels:
        return []
    seed = config.seed_score if seed is None else seed
    parts = []
    for part in _seeded_parts(snapshot.indices[rows], scores[rows], seed, config):
        part = rows[part]
        pieces = _split(snapshot, part) if config.split_large else [np.arange(len(part))]
        parts.extend(part[piece] for piece in pieces)
    return instances_from_parts(snapshot, scores, parts, config)


def instances_from_parts(
    snapshot: MapSnapshot, scores: np.ndarray, parts: list[np.ndarray], config: QueryConfig
) -> list[Instance]:
    """Merge fragments, drop what is too small, fit boxes; best first."""
    parts = [part for part in parts if len(part) >= config.min_object_voxels]
    parts = _merge_fragments(snapshot, parts, config)
    parts = merge_stacked(snapshot, parts, config)
    if not parts:
        return []
    least = config.min_relative_voxels * max(map(len, parts))
    found = [
        Instance(rows=part, score=robust_mean(scores[part]), box=_box(snapshot, part)) for part in parts if len(part) >= least
    ]
    return sorted(found, key=lambda instance: (-instance.score, int(instance.rows[0])))


def robust_mean(values: np.ndarray, trim: float = 0.2) -> float:
    """Mean without the lowest and highest ``trim`` share: a mixed border does not decide the score."""
    cut = int(len(values) * trim)
    return float(np.sort(values)[cut : len(values) - cut].mean(dtype=np.float64))


def _seeded_parts(indices: np.ndarray, scores: np.ndarray, seed: float, config: QueryConfig) -> list[np.ndarray]:
    """Connected parts that are large enough and hold enough confident voxels."""
    numbers, count = connected_components(indices, reach=config.gap_voxels)
    sizes = np.bincount(numbers, minlength=count)
    seeds = np.bincount(numbers[scores >= seed], minlength=count)
    wanted = (sizes >= config.min_object_voxels) & (seeds >= max(1, config.min_object_voxels // 3))
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(sizes)
    return [order[ends[k] - sizes[k] : ends[k]] for k in np.flatnonzero(wanted)]


def _split(snapshot: MapSnapshot, part: np.ndarray) -> list[np.ndarray]:
    return split_touching(
        snapshot.indices[part],
        snapshot.centroids[part],
        snapshot.normals[part],
        snapshot.colors[part],
        snapshot.up,
        snapshot.voxel_size_m,
    )


def _box(snapshot: MapSnapshot, part: np.ndarray) -> OrientedBox:
    return fit_upright_box(snapshot.centroids[part], snapshot.up, snapshot.voxel_size_m)


def _merge_fragments(snapshot: MapSnapshot, parts: list[np.ndarray], config: QueryConfig) -> list[np.ndarray]:
    """Give small fragments that lie within reach of a larger object's box to that object."""
    parts = sorted(parts, key=lambda part: (-len(part), int(part[0])))
    whole: list[list[np.ndarray]] = []
    boxes: list[OrientedBox] = []
    for part in parts:
        points = snapshot.centroids[part]
        for group, box in zip(whole, boxes, strict=True):
            if len(part) <= config.merge_share * len(group[0]):
                reach = OrientedBox(box.center, box.rotation, box.size + 2 * config.merge_gap_m)
                if reach.contains(points).mean() > 0.5:
                    group.append(part)
                    break
        else:
            whole.append([part])
            boxes.append(_box(snapshot, part))
    return [np.sort(np.concatenate(group)) for group in whole]


def merge_stacked(snapshot: MapSnapshot, parts: list[np.ndarray], config: QueryConfig) -> list[np.ndarray]:
    """Join a part that stands right below or above another one to it: one object that is seen in two pieces.

    Cameras look down on things: the underside of a table top, a seat or a lamp shade stays unseen, and a gap parts it
    from the leg that carries it. Two upright sheets (pictures, windows) above each other stay two objects.

    Args:
        snapshot: The map.
        parts: Rows of each part, largest first.
        config: ``stack_gap_m`` and ``stack_overlap`` are used.

    Returns:
        The parts, largest first.
    """
    if len(parts) < 2 or config.stack_gap_m <= 0:
        return parts
    basis = ground_basis(snapshot.up)
    parts = list(parts)
    boxes = [_box(snapshot, part) for part in parts]
    joined = True
    while joined:
        joined = False
        for i in range(len(parts)):
            for j in range(i + 1, len(parts)):
                if _stacked(boxes[i], boxes[j], basis, config):
                    parts[i] = np.sort(np.concatenate([parts[i], parts[j]]))
                    boxes[i] = _box(snapshot, parts[i])
                    del parts[j], boxes[j]
                    joined = True
                    break
            if joined:
                break
    return sorted(parts, key=lambda part: (-len(part), int(part[0])))


def _stacked(a: OrientedBox, b: OrientedBox, basis: np.ndarray, config: QueryConfig) -> bool:
    """Whether one box stands on the other: a small vertical gap, and the smaller footprint mostly within the larger."""
    gap = abs(float((a.center - b.center) @ basis[:, 2])) - (a.size[2] + b.size[2]) / 2
    if gap > config.stack_gap_m or (_is_sheet(a) and _is_sheet(b)):
        return False
    small = min(a.size[0] * a.size[1], b.size[0] * b.size[1])
    return polygon_intersection_area(*footprints(a, b)) >= config.stack_overlap * small


def _is_sheet(box: OrientedBox) -> bool:
    """A thin upright thing, as a picture on a wall."""
    return bool(box.size[1] < 0.15 and box.size[0] > 2 * box.size[1] and box.size[2] > 2 * box.size[1])
