"""Proposals without a mask decoder: connected voxels that look like the same thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.grid import QueryGrid
from mosaic3d_core.query.instances import group_cells
from mosaic3d_core.query.proposals import Proposal

if TYPE_CHECKING:
    from mosaic3d_core.models.scene_encoder import FeatureMap
    from mosaic3d_core.query.engine import QueryEngine


class ComponentProposals:
    """Objects from connected voxels of the same built-in concept, each voxel taking the one that fits best.

    They are cut where two things touch and joined where one thing was seen apart, as in queries.

    Args:
        engine: Shares its concepts, its settings and what it has calculated for a map.
    """

    def __init__(self, engine: QueryEngine) -> None:
        self._engine = engine

    def propose(self, feature_map: FeatureMap) -> list[Proposal]:
        """Objects of a map, best first; the quality is the mean share of the softmax that the concept has."""
        if not len(feature_map.cells):
            return []
        prepared = self._engine.prepare(feature_map)
        alternatives, config = self._engine.alternatives, self._engine.config
        likelihood = prepared.likelihoods.likelihood
        best = likelihood.argmax(axis=0)
        scores = np.take_along_axis(likelihood, best[None], axis=0)[0] / prepared.likelihoods.total
        found = []
        for concept in np.unique(best):
            if concept < alternatives.num_concepts:
                found += _of_concept(np.flatnonzero(best == concept), scores, feature_map, prepared.grid, config)
        return sorted(found, key=lambda one: -one.quality)


def _of_concept(
    cells: np.ndarray, scores: np.ndarray, feature_map: FeatureMap, grid: QueryGrid, config: QueryConfig
) -> list[Proposal]:
    parts = group_cells(grid, scores, cells, config, seed=0.0)
    return [Proposal(one.cells, min(max(one.score, 0.0), 1.0), feature_map.features[one.cells].mean(0)) for one in parts]
