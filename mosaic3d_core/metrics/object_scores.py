"""How well proposals are the objects of a map: average precision with and without names, and things that touch.

Truth is given per map voxel. Walls, floor and ceiling are no objects: a proposal that mostly lies on them is neither right nor
wrong as such. Named after an object, it is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.synthetic.classes import CLASS_NAMES, STUFF_IDS, accepted_classes
from mosaic3d_core.metrics.class_lists import from_names
from mosaic3d_core.metrics.instance_ap import InstanceEvaluator
from mosaic3d_core.metrics.room_scores import MIN_VOXELS
from mosaic3d_core.models import FeatureMap
from mosaic3d_core.query import QueryEngine
from mosaic3d_core.query.calibration import VoxelLikelihoods
from mosaic3d_core.query.instances import robust_mean
from mosaic3d_core.query.proposals import Proposal

#: Names of the classes whose instances are objects.
OBJECT_NAMES = tuple(name for number, name in enumerate(CLASS_NAMES) if number not in STUFF_IDS)
#: A proposal is no answer to a name that scores less; so low that only the tail of the precision-recall curve is without it.
_LEAST_SCORE = 0.05
#: Two sets of voxels are the same thing when their intersection over union is larger.
SAME_IOU = 0.5


def voxels_of(proposals: Sequence[Proposal], feature_map: FeatureMap) -> NDArray[np.bool_]:
    """Map voxels of each proposal, whose own cells are encoder voxels. Shape (P, N)."""
    inside = np.zeros((len(proposals), len(feature_map.cells)), bool)
    for row, one in zip(inside, proposals, strict=True):
        row[one.cells] = True
    return inside[:, feature_map.voxel_of_point]


def query_scores(
    engine: QueryEngine, feature_map: FeatureMap, proposals: Sequence[Proposal], names: Sequence[str]
) -> NDArray[np.float64]:
    """Score of each proposal for each name as queries give it: the robust mean of its voxels' scores.

    Args:
        engine: The query engine.
        feature_map: The encoded map.
        proposals: Its proposals.
        names: What is asked.

    Returns:
        Scores in [0, 1], shape (P, K).
    """
    texts = np.asarray(engine.text_encoder.encode(list(names)), np.float32)
    affinity = engine.alternatives.affinity(texts, engine.config)
    likelihoods = engine.prepare(feature_map).likelihoods
    voxels = likelihoods.scores(feature_map.cosine(texts), affinity, engine.config.cosine_floor)
    found = [[robust_mean(row[one.cells]) for row in voxels] for one in proposals]
    return np.array(found, np.float64).reshape(len(proposals), len(names))


def embedding_scores(
    engine: QueryEngine, logit_scale: float, proposals: Sequence[Proposal], names: Sequence[str]
) -> NDArray[np.float64]:
    """Score of each proposal for each name by the proposal's own place in text space, with the formula for voxels.

    Args:
        engine: The query engine.
        logit_scale: Sharpness of the softmax.
        proposals: Proposals, all with an embedding.
        names: What is asked.

    Returns:
        Scores in [0, 1], shape (P, K).

    Raises:
        ValueError: If a proposal has no embedding.
    """
    embeddings = [one.embedding for one in proposals if one.embedding is not None]
    if len(embeddings) < len(proposals):
        raise ValueError("these proposals have no embedding: only those of a mask decoder do")
    texts = np.asarray(engine.text_encoder.encode(list(names)), np.float32)
    places = np.array(embeddings, np.float32).reshape(len(proposals), texts.shape[1])
    likelihoods = VoxelLikelihoods.build(places @ engine.alternatives.embeddings.T, logit_scale)
    affinity = engine.alternatives.affinity(texts, engine.config)
    return likelihoods.scores(places @ texts.T, affinity, engine.config.cosine_floor).T.astype(np.float64)


class ObjectScores:
    """Average precision of proposals over maps, by the protocol of `InstanceEvaluator`.

    Args:
        min_voxels: True instances with fewer observed map voxels are left out.
    """

    def __init__(self, min_voxels: int = MIN_VOXELS) -> None:
        self._any = InstanceEvaluator(from_names(["thing"]), min_voxels)
        self.proposals, self.maps, self.objects = 0, 0, 0
        self.min_voxels = min_voxels

    def add(
        self,
        proposals: Sequence[Proposal],
        feature_map: FeatureMap,
        segment: NDArray[np.integer],
        instance: NDArray[np.integer],
    ) -> None:
        """Add a map.

        Args:
            proposals: Its proposals; they are ranked by quality.
            feature_map: The encoded map.
            segment: True class per map voxel, (N,), -1 none.
            instance: True instance per map voxel, (N,), 0 none.
        """
        nothing = (segment < 0) | np.isin(segment, STUFF_IDS) | (instance <= 0)
        quality = [one.quality for one in proposals]
        masks = voxels_of(proposals, feature_map)
        self._any.add(masks, [0] * len(masks), quality, np.where(nothing, -1, 0), np.where(nothing, -1, instance))
        self.proposals += len(proposals)
        self.maps += 1
        self.objects += int((np.unique(instance[~nothing], return_counts=True)[1] >= self.min_voxels).sum())

    def result(self) -> dict[str, float]:
        """AP as "ap", "ap50" and "ap25" in [0, 1], NaN without an object; objects and proposals per map."""
        found = self._any.scores()
        per_map = max(self.maps, 1)
        return {
            "ap": found.map,
            "ap50": found.ap50,
            "ap25": found.ap25,
            "objects_per_map": self.objects / per_map,
            "proposals_per_map": self.proposals / per_map,
        }


class NamedScores:
    """Average precision when objects are asked for by name: every name is a list of answers, right where the class fits.

    Every kind of a class answers its name ("chair": office chairs too), as when queries are judged.

    Args:
        names: Names of classes of the generated rooms.
        min_voxels: True instances with fewer observed map voxels are left out.
    """

    def __init__(self, names: Sequence[str] = OBJECT_NAMES, min_voxels: int = MIN_VOXELS) -> None:
        self.names = tuple(names)
        classes = from_names(["it", "something else"])
        self._evaluators = [InstanceEvaluator(classes, min_voxels) for _ in self.names]
        self._right = [[n for n, one in enumerate(CLASS_NAMES) if one in accepted_classes(name)] for name in self.names]

    def add(
        self,
        proposals: Sequence[Proposal],
        scores: NDArray[np.floating],
        feature_map: FeatureMap,
        segment: NDArray[np.integer],
        instance: NDArray[np.integer],
    ) -> None:
        """Add a map.

        Args:
            proposals: Its proposals.
            scores: Score of each for each name, (P, K).
            feature_map: The encoded map.
            segment: True class per map voxel, (N,), -1 none.
            instance: True instance per map voxel, (N,), 0 none.
        """
        masks = voxels_of(proposals, feature_map)
        nothing = (segment < 0) | (instance <= 0)
        true = np.where(nothing, -1, instance)
        for evaluator, right, column in zip(self._evaluators, self._right, scores.T, strict=True):
            answers = np.flatnonzero(column >= _LEAST_SCORE)
            fits = np.where(nothing, -1, np.where(np.isin(segment, right), 0, 1))
            evaluator.add(masks[answers], [0] * len(answers), column[answers].tolist(), fits, true)

    def by_name(self) -> dict[str, tuple[float, float]]:
        """(AP50, AP25) of every name that has an object."""
        found = {name: one.scores().per_class[0] for name, one in zip(self.names, self._evaluators, strict=True)}
        return {name: (float(value[1]), float(value[2])) for name, value in found.items() if np.isfinite(value[1])}

    def result(self) -> dict[str, float]:
        """AP as "ap50" and "ap25", means over the names that have an object; NaN where none has."""
        values = np.array(list(self.by_name().values())).reshape(-1, 2)
        ap50, ap25 = values.mean(0) if len(values) else (np.nan, np.nan)
        return {"ap50": float(ap50), "ap25": float(ap25)}


def are_separated(
    proposals: Sequence[Proposal], feature_map: FeatureMap, instance: NDArray[np.integer], first: int, second: int
) -> bool:
    """Whether two true things are different proposals, each with an intersection over union above `SAME_IOU`.

    Args:
        proposals: Proposals of a map.
        feature_map: The encoded map.
        instance: True instance per map voxel, (N,), 0 none.
        first: Instance id of the one thing.
        second: Instance id of the other.
    """
    masks = voxels_of(proposals, feature_map)
    one, other = (_overlaps(masks, instance == number) > SAME_IOU for number in (first, second))
    # no set overlaps two separate ones that much: where both have a match, the matches are different ones
    return bool(one.any() and other.any())


def _overlaps(masks: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of each mask (P, N) with a true one (N,)."""
    both = (masks & true).sum(1)
    return both / np.maximum(masks.sum(1) + true.sum() - both, 1)
