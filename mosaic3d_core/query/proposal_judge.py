"""Proposals judged by a learnt scorer, and cut in two or three where the parts look more like whole objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2

from mosaic3d_core.models.proposal_scorer.views import Surroundings
from mosaic3d_core.query.boxes import ground_basis
from mosaic3d_core.query.proposals import Proposal, mean_positions

if TYPE_CHECKING:
    from mosaic3d_core.models.proposal_scorer import ProposalScorer
    from mosaic3d_core.models.scene_encoder import FeatureMap

_PARTS = (2, 3)
_ITERATIONS = 15


@dataclass(frozen=True)
class JudgeConfig:
    """How much a scorer has to say, and when proposals are cut.

    Attributes:
        own_share: Share of the source's own quality that stays, whatever the scorer says: it knows things, and takes walls and
            floors for none.
        min_gain: Parts replace a whole when the mean of their scores exceeds the score of the whole by so much; 1 cuts nothing.
        min_whole: Wholes with lower scores are not tried: walls, floors and crumbs have no better parts.
        min_part_cells: Smaller parts are not tried, encoder voxels.
        max_cut_m: What is longer along an axis is not tried, metres: no furniture, but walls and floors.

    Raises:
        ValueError: If a value is out of its range.
    """

    own_share: float = 0.2
    min_gain: float = 0.02
    min_whole: float = 0.3
    min_part_cells: int = 16
    max_cut_m: float = 4.0

    def __post_init__(self) -> None:
        for name in ("own_share", "min_gain", "min_whole"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} of judged proposals must be in [0, 1], got {getattr(self, name)}")
        if self.min_part_cells < 1 or self.max_cut_m < 0:
            raise ValueError(f"min_part_cells >= 1 and max_cut_m >= 0, got {self.min_part_cells} and {self.max_cut_m}")


class ProposalJudge:
    """Gives proposals of all sources qualities that mean the same, and cuts what is two or three things.

    The quality of a proposal becomes its own times the overlap with a true object that the scorer expects, but for a share.

    Args:
        scorer: The scorer, in evaluation mode, made for the features of the encoder.
        config: How much the scorer has to say, and when proposals are cut.
    """

    def __init__(self, scorer: ProposalScorer, config: JudgeConfig | None = None) -> None:
        self.scorer, self.config = scorer, config or JudgeConfig()

    def judged(self, found: Sequence[Proposal], feature_map: FeatureMap) -> list[Proposal]:
        """Proposals of a map, with other qualities and partly in parts, best first."""
        if not found:
            return []
        features, surroundings = feature_map.features, surroundings_of(feature_map)
        judge = partial(self.scorer.scores, features, surroundings)
        wholes = judge([one.cells for one in found])
        better = self._better_parts(found, wholes, surroundings.positions, judge)
        result = []
        for number, (one, score) in enumerate(zip(found, wholes, strict=True)):
            if number in better:
                parts = zip(*better[number], strict=True)
                result += [
                    replace(one, cells=cells, feature=features[cells].mean(0), quality=self._quality(one, s))
                    for cells, s in parts
                ]
            else:
                result.append(replace(one, quality=self._quality(one, score)))
        return sorted(result, key=lambda one: -one.quality)

    def _quality(self, one: Proposal, score: float) -> float:
        own = self.config.own_share
        return float(one.quality * (own + (1 - own) * score))

    def _better_parts(
        self,
        found: Sequence[Proposal],
        wholes: NDArray[np.float64],
        positions: NDArray[np.float32],
        judge: Callable[[list[NDArray[np.int64]]], NDArray[np.float64]],
    ) -> dict[int, tuple[list[NDArray[np.int64]], NDArray[np.float64]]]:
        """Parts and their scores, by the number of the proposal that they replace."""
        cuts = [
            (number, parts)
            for number, one in enumerate(found)
            if self.config.min_whole <= wholes[number] < 1 - self.config.min_gain
            for parts in cuts_of(one.cells, positions, self.config)
        ]
        scores = judge([cells for _, parts in cuts for cells in parts])
        needed, better = wholes + self.config.min_gain, {}
        end = 0
        for number, parts in cuts:
            start, end = end, end + len(parts)
            if scores[start:end].mean() > needed[number]:
                needed[number], better[number] = scores[start:end].mean(), (parts, scores[start:end])
        return better


def surroundings_of(feature_map: FeatureMap) -> Surroundings:
    """The encoder voxels of a map as the scorer takes them: z up."""
    upright = mean_positions(feature_map) @ ground_basis(feature_map.snapshot.up).astype(np.float32)
    return Surroundings(upright, feature_map.cell_size_m)


def cuts_of(cells: NDArray[np.int64], positions: NDArray[np.float32], config: JudgeConfig) -> list[list[NDArray[np.int64]]]:
    """Ways to cut voxels in two and in three: k-means of their places seen from above, from the places farthest apart.

    Args:
        cells: Rows of the voxels, ascending. Shape (M,).
        positions: Positions of all voxels, metres, z up. Shape (V, 3).
        config: What is tried.
    """
    seen = positions[cells, :2].astype(np.float64)
    if len(cells) < _PARTS[0] * config.min_part_cells or np.ptp(seen, axis=0).max() > config.max_cut_m:
        return []
    starts = [seen[np.argmax(((seen - seen.mean(0)) ** 2).sum(1))]]
    found = []
    for count in _PARTS:
        while len(starts) < count:
            distance = np.min([((seen - one) ** 2).sum(1) for one in starts], axis=0)
            starts.append(seen[np.argmax(distance)])
        try:
            _, part = kmeans2(seen, np.array(starts), iter=_ITERATIONS, minit="matrix", missing="raise")
        except ClusterError:  # fewer places than parts, or nearly so
            continue
        parts = [cells[part == number] for number in range(count)]
        if min(map(len, parts)) >= config.min_part_cells:
            found.append(parts)
    return found
