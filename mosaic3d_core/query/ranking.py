"""Which objects answer a text: instances of the map where they fit, voxels elsewhere.

A text scores every voxel, and voxels that score well and hang together are a group. Groups say whether the thing is there at all;
instances say how many it is and which:

- a group that instances share among them becomes these instances (two chairs that touch are two answers);
- a group that is nearly the same set of voxels as an instance has its id;
- any other group stays as it is: a surface, a part of a thing, a thing that was proposed in pieces.

An instance of which a good part does not fit the text does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.instance_view import InstanceView
from mosaic3d_core.query.instances import Instance, robust_mean

# Share of a group of voxels that instances must cover to stand for it.
_COVERED = 0.7
# Share of an instance that lies in a group of voxels when it is a piece of it.
_INSIDE = 0.6
# Intersection over union above which a group of voxels is the instance, seen a little differently.
_SAME = 0.5
# Things that one text groups are of similar size: an instance smaller than this share of the largest one is a piece of something.
_ALIKE = 0.4
# Share of an instance's voxels that must score at least ``grow_score``: one that leaks onto something else does not answer, the
# voxels do, under its id.
_FITTING = 0.6


@dataclass(frozen=True, eq=False)
class Ranked:
    """An answer to one text.

    Attributes:
        found: Its voxels, score and box.
        number: Position of the instance that it is, or None.
    """

    found: Instance
    number: int | None


def rank(
    view: InstanceView,
    scores: NDArray[np.float32],
    groups: Sequence[Instance],
    least: float,
    config: QueryConfig,
    allowed: NDArray[np.bool_] | None = None,
) -> list[Ranked]:
    """Answers of instances and of voxels to one text, best first.

    Args:
        view: The instances of the map.
        scores: Score of the text per encoder voxel in [0, 1]. Shape (V,).
        groups: Objects from the voxels alone (``extract_instances``).
        least: Lowest score of an answer.
        config: ``grow_score``, ``min_object_voxels`` and ``min_relative_voxels`` are used.
        allowed: Map voxels that may be used, shape (N,), bool; None for all.

    Returns:
        The answers; each instance is in at most one.
    """
    fitting = set(np.flatnonzero(view.mean_of((scores >= config.grow_score).astype(np.float32)) >= _FITTING).tolist())
    found: list[Ranked] = []
    taken: set[int] = set()
    for group in sorted((one for one in groups if one.score >= least), key=lambda one: -len(one.cells)):
        overlap = _overlap(view, group.cells)
        pieces = [int(k) for k in np.flatnonzero(overlap >= _INSIDE * view.sizes) if k in fitting and k not in taken]
        largest = max((view.sizes[k] for k in pieces), default=0)
        things = [k for k in pieces if view.sizes[k] >= _ALIKE * largest]
        if len(things) > 1 and overlap[things].sum() >= _COVERED * len(group.cells):
            answers = [_answer(view, k, scores, config, allowed) for k in things]
            found += [one for one in answers if one is not None and one.found.score >= least]
            taken.update(things)
            continue
        same = np.flatnonzero(overlap > _SAME * (view.sizes + len(group.cells) - overlap))
        # more than half of a union is with one instance at most
        number = int(same[0]) if len(same) and int(same[0]) not in taken else None
        found.append(Ranked(group, number))
        taken.update([] if number is None else [number])
    if not found:
        return []
    size = config.min_relative_voxels * max(len(one.found.rows) for one in found)
    found = [one for one in found if len(one.found.rows) >= size]
    return sorted(found, key=lambda one: (-one.found.score, int(one.found.rows[0])))


def _answer(
    view: InstanceView, number: int, scores: NDArray[np.float32], config: QueryConfig, allowed: NDArray[np.bool_] | None
) -> Ranked | None:
    shape = view.shape(number, allowed)
    if shape is None or len(shape[0]) < config.min_object_voxels:
        return None
    cells = view.instances[number].cells
    return Ranked(Instance(cells, shape[0], robust_mean(scores[cells]), shape[1]), number)


def _overlap(view: InstanceView, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Encoder voxels that each instance has in common with ``cells``. Shape (I,)."""
    return np.bincount(view.owner[cells] + 1, minlength=len(view) + 1)[1:]
