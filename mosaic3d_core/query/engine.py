"""The query engine: texts and an encoded map in, objects with scores and boxes out."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mosaic3d_core.query.calibration import Alternatives, VoxelLikelihoods
from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.grid import QueryGrid
from mosaic3d_core.query.instance_labels import left_over, word_of_instances
from mosaic3d_core.query.instance_view import InstanceView
from mosaic3d_core.query.instances import Instance, extract_instances, group_cells
from mosaic3d_core.query.labelling import label_voxels
from mosaic3d_core.query.ranking import Ranked, rank
from mosaic3d_core.query.requests import (
    Region,
    check_max_objects,
    check_min_score,
    check_texts,
    check_vocabulary,
    region_mask,
)
from mosaic3d_core.query.results import NO_LABEL, DetectedObject, Labelling, QueryResult
from mosaic3d_core.query.tracker import InstanceTracker

if TYPE_CHECKING:
    from mosaic3d_core.models import FeatureMap
    from mosaic3d_core.models.text import TextEncoder
    from mosaic3d_core.query.instance_map import MapInstance


@dataclass(frozen=True, eq=False)
class PreparedMap:
    """What all queries on one encoded map share: the alternatives' likelihoods, and the map at the encoder's resolution."""

    likelihoods: VoxelLikelihoods
    grid: QueryGrid


class QueryEngine:
    """Answers text queries on encoded maps.

    Safe to use from several threads. What depends on the map only is calculated by the first query of a
    generation and kept until another map is asked about.

    Args:
        text_encoder: The encoder the checkpoint is aligned with (see ``check_text_encoder``).
        config: Thresholds and limits.
        tracker: Source of stable ids; a fresh one by default.
    """

    def __init__(
        self,
        text_encoder: TextEncoder,
        config: QueryConfig | None = None,
        tracker: InstanceTracker | None = None,
    ) -> None:
        self.text_encoder = text_encoder
        self.config = config or QueryConfig()
        self.tracker = tracker or InstanceTracker()
        self._alternatives: Alternatives | None = None
        # two maps: while a new one is made ready, queries still ask about the present one
        self._prepared: deque[tuple[weakref.ref[FeatureMap], PreparedMap]] = deque(maxlen=2)
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Embed the alternatives now, so that the first query does not wait for it."""
        self._get_alternatives()

    @property
    def alternatives(self) -> Alternatives:
        """The built-in concepts and background words, embedded."""
        return self._get_alternatives()

    def prepare(self, feature_map: FeatureMap) -> PreparedMap:
        """Calculate what all queries on a map share, or return it when it is there.

        Call it on the thread that encodes, before the map is handed to those who ask: their first query is then as
        fast as the next. Should two threads both make it, the result is one.
        """
        with self._lock:
            for of_map, prepared in self._prepared:
                if of_map() is feature_map:
                    return prepared
        alternatives = self._get_alternatives()
        scale = self.config.logit_scale or float(feature_map.logit_scale)
        prepared = PreparedMap(
            VoxelLikelihoods.build(_cosine(feature_map, alternatives.embeddings), scale),
            QueryGrid.build(feature_map.snapshot, feature_map.voxel_of_point, feature_map.cells, feature_map.cell_size_m),
        )
        with self._lock:
            self._prepared.append((weakref.ref(feature_map), prepared))
        return prepared

    def view(self, feature_map: FeatureMap, instances: Sequence[MapInstance]) -> InstanceView:
        """Make the instances of a map ready for :meth:`query` and :meth:`label`.

        Args:
            feature_map: The encoded map that the instances' voxels are rows of.
            instances: What an ``InstanceMap`` said of it.
        """
        return InstanceView(self.prepare(feature_map).grid, instances)

    def reset(self) -> None:
        """Forget the objects seen so far; call it when the map is reset."""
        self.tracker.reset()
        with self._lock:
            self._prepared.clear()

    def query(
        self,
        feature_map: FeatureMap,
        texts: Sequence[str],
        min_score: float | None = None,
        max_objects: int | None = None,
        region: Region | None = None,
        instances: InstanceView | None = None,
    ) -> QueryResult:
        """Find the objects that each text describes.

        Args:
            feature_map: The encoded map.
            texts: What to look for: words or short descriptions, at least one.
            min_score: Objects below this score are left out, in [0, 1]; None for the configured default.
            max_objects: Most objects per text; None or 0 for all.
            region: Lowest and highest corner (metres, map frame) of the box to look in; None for everywhere.
            instances: Instances of this very map (see :meth:`view`): answers are these where they fit, under their ids; None to
                answer from voxels alone.

        Returns:
            The answer. Something that is not there has no object. An empty map gives an answer without
            objects.

        Raises:
            QueryError: If there is no text, a text is empty or too long, ``min_score`` is outside [0, 1],
                ``max_objects`` is negative, or the region is not finite or has a lower corner above its upper
                one.
        """
        start = time.perf_counter()
        texts = check_texts(texts, self.config)
        least = check_min_score(min_score, self.config)
        limit = check_max_objects(max_objects)
        snapshot = feature_map.snapshot
        allowed = region_mask(snapshot.centroids, region)
        grid = self.prepare(feature_map).grid
        scores = self._voxel_scores(feature_map, texts)
        objects: list[DetectedObject] = []
        for text, row in zip(texts, scores, strict=True):
            groups = extract_instances(grid, row, self.config, allowed)
            if instances is None:
                found = [Ranked(one, None) for one in groups if one.score >= least]
            else:
                found = rank(instances, row, groups, least, self.config, allowed)
            objects += self._with_ids(text, found[:limit], grid, instances)
        return QueryResult(
            texts=texts,
            objects=objects,
            voxel_scores=scores,
            voxel_of_point=feature_map.voxel_of_point,
            snapshot=snapshot,
            elapsed_ms=(time.perf_counter() - start) * 1e3,
        )

    def label(
        self,
        feature_map: FeatureMap,
        vocabulary: Sequence[str] | Mapping[str, Sequence[str]],
        instances: InstanceView | None = None,
    ) -> Labelling:
        """Give every map voxel its best word of ``vocabulary``, or none, and group words into objects.

        Args:
            feature_map: The encoded map.
            vocabulary: Words or short descriptions, at least one; repeated ones count once. A mapping gives each label its
                prompts: what fits one of them has the label.
            instances: Instances of this very map (see :meth:`view`). All of them are objects then, under their ids, each with the
                word that most of its voxels have ("" where there is none); what belongs to none of them is grouped as without.

        Returns:
            Labels, instance ids and scores per voxel, and the objects.

        Raises:
            QueryError: As ``query`` for the texts.
        """
        start = time.perf_counter()
        prompts = check_vocabulary(vocabulary, self.config)
        words = tuple(prompts)
        snapshot = feature_map.snapshot
        embedded = self._embed([text for group in prompts.values() for text in group])
        label_of_text = np.repeat(np.arange(len(prompts)), [len(group) for group in prompts.values()])
        affinity = self._get_alternatives().affinity(embedded, self.config)
        prepared = self.prepare(feature_map)
        labels, scores = label_voxels(prepared.likelihoods, _cosine(feature_map, embedded), affinity, self.config, label_of_text)
        objects = self._labelled_objects(prepared.grid, words, labels, scores, instances)
        owner = np.zeros(len(snapshot.indices), np.uint32)
        for thing in objects:
            owner[thing.voxel_indices] = thing.id
        return Labelling(
            labels=labels[feature_map.voxel_of_point],
            instances=owner,
            scores=scores[feature_map.voxel_of_point],
            objects=objects,
            vocabulary=words,
            generation=snapshot.generation,
            elapsed_ms=(time.perf_counter() - start) * 1e3,
        )

    def _labelled_objects(
        self, grid: QueryGrid, words: tuple[str, ...], labels: np.ndarray, scores: np.ndarray, view: InstanceView | None
    ) -> list[DetectedObject]:
        view = InstanceView(grid, ()) if view is None else view
        # Labels already compete with each other: every voxel of the word may start an object.
        word, score = word_of_instances(view, labels, scores, len(words))
        groups = left_over(
            view,
            labels,
            word,
            len(words),
            lambda cells: group_cells(grid, scores, cells, self.config, seed=0.0),
            self.config.min_relative_voxels,
        )
        objects: list[DetectedObject] = []
        for number in (*range(len(words)), -1):
            found = [Ranked(one, None) for one in groups[number]] if number >= 0 else []
            for k in np.flatnonzero(word == number):
                shape = view.shape(int(k))
                if shape is not None:
                    found.append(Ranked(Instance(view.instances[k].cells, shape[0], float(score[k]), shape[1]), int(k)))
            found.sort(key=lambda one: (-one.found.score, int(one.found.rows[0])))
            objects += self._with_ids(words[number] if number >= 0 else "", found, grid, view)
        return objects

    def _with_ids(self, text: str, found: list[Ranked], grid: QueryGrid, view: InstanceView | None) -> list[DetectedObject]:
        """Objects with the ids of their instances; those that are none get one from the tracker."""
        unknown = [one.found for one in found if one.number is None]
        fresh = iter(
            self.tracker.assign(
                text, [grid.cells[one.cells] for one in unknown], [one.box for one in unknown], grid.snapshot.generation
            )
        )
        objects = []
        for one in found:
            known = None if one.number is None or view is None else view.instances[one.number]
            number = next(fresh) if known is None else known.id
            score = min(max(one.found.score, 0.0), 1.0)
            objects.append(DetectedObject(number, text, score, one.found.box, one.found.rows, known))
        return objects

    def _voxel_scores(self, feature_map: FeatureMap, texts: Sequence[str]) -> np.ndarray:
        embedded = self._embed(texts)
        affinity = self._get_alternatives().affinity(embedded, self.config)
        likelihoods = self.prepare(feature_map).likelihoods
        return likelihoods.scores(_cosine(feature_map, embedded), affinity, self.config.cosine_floor)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(self.text_encoder.encode(list(texts)), np.float32)

    def _get_alternatives(self) -> Alternatives:
        with self._lock:
            if self._alternatives is None:
                self._alternatives = Alternatives.build(self.text_encoder)
            return self._alternatives


def _cosine(feature_map: FeatureMap, embeddings: np.ndarray) -> np.ndarray:
    cosine = np.asarray(feature_map.cosine(embeddings), np.float32)
    # A voxel without features (all zero) has no direction; it matches nothing.
    return np.nan_to_num(cosine, copy=False, nan=-1.0, posinf=-1.0, neginf=-1.0)


__all__ = ["NO_LABEL", "QueryEngine", "Region", "check_max_objects", "check_min_score", "check_texts", "region_mask"]
