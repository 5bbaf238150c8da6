"""Which objects of a map a text with relations means, and why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mosaic3d_core.errors import QueryError
from mosaic3d_core.query.engine import QueryEngine, check_max_objects, check_min_score, check_texts
from mosaic3d_core.query.instance_view import InstanceView
from mosaic3d_core.query.relations.candidates import Candidate, Match, names_of
from mosaic3d_core.query.relations.config import RelationConfig
from mosaic3d_core.query.relations.grammar import Thing, parse
from mosaic3d_core.query.relations.matching import Matcher
from mosaic3d_core.query.relations.region import RegionBox
from mosaic3d_core.query.relations.viewpoint import Viewpoint
from mosaic3d_core.query.relations.words import SURFACES
from mosaic3d_core.query.results import DetectedObject, QueryResult

if TYPE_CHECKING:
    from mosaic3d_core.models import FeatureMap


@dataclass(frozen=True, eq=False)
class RelationalResult:
    """The answer to texts that may hold relations.

    Attributes:
        result: Objects by text as asked; of a text with relations, ``voxel_scores`` is 0 outside its answers.
        reasons: Why each of ``result.objects`` answers, "" for a text without relations.
        understood: How each text was understood.
        notes: Sentences on what was not found, for a person.
    """

    result: QueryResult
    reasons: tuple[str, ...]
    understood: tuple[str, ...]
    notes: tuple[str, ...]


def query_with_relations(
    engine: QueryEngine,
    feature_map: FeatureMap,
    texts: Sequence[str],
    min_score: float | None = None,
    max_objects: int | None = None,
    region: RegionBox | None = None,
    instances: InstanceView | None = None,
    viewpoint: Viewpoint | None = None,
    parse_relations: bool = True,
    config: RelationConfig | None = None,
) -> RelationalResult:
    """Find the objects that each text describes, its relations included.

    A text without relations is answered by ``QueryEngine.query`` alone. The score of an object is the least of its own score,
    the grades of its relations, and the scores of the objects that it is related to; at a negation ("not near"), 1 minus the
    best grade.

    Args:
        engine: The query engine.
        feature_map: The encoded map.
        texts: What to look for, at least one (docs/query.md has the grammar).
        min_score: Least score of an answer, in [0, 1]; None for the configured default. Anchors must have the default.
        max_objects: Most objects per text; None or 0 for all.
        region: Where answers may be; None for everywhere. Anchors may be anywhere.
        instances: Instances of this map, which "anything" needs.
        viewpoint: Where one stands, for directions and "me"; None where nobody said.
        parse_relations: False to take every text as a description.
        config: When relations hold.

    Returns:
        The answer.

    Raises:
        QueryError: As ``QueryEngine.query``; or if a text needs a viewpoint or instances that are not given, or has too many
            relations.
    """
    start = time.perf_counter()
    config = config or RelationConfig()
    asked = check_texts(texts, engine.config)
    things = [parse(text) if parse_relations else Thing(text) for text in asked]
    for text, thing in zip(asked, things):
        if sum(1 for _ in thing.walk()) > config.max_relations + 1:
            raise QueryError(f'"{_short(text)}" has more than {config.max_relations} relations; ask for less at once')
    least, limit = check_min_score(min_score, engine.config), check_max_objects(max_objects)
    heads, anchors = names_of(things)
    if any(not one.noun and not one.is_viewer for thing in things for one in thing.walk()):
        anchors = list(dict.fromkeys([*anchors, *SURFACES]))
    if sum(map(len, (heads, anchors))) > engine.config.max_texts:
        raise QueryError(
            f"the texts name {len(heads) + len(anchors)} things, at most {engine.config.max_texts} are looked for at once"
        )
    search = _Search(engine, feature_map, instances, region, least)
    search.run(heads, anchors)
    matcher = Matcher(search.anchors, viewpoint, config, engine.config.min_score)
    objects: list[DetectedObject] = []
    reasons: list[str] = []
    rows = np.zeros((len(asked), len(feature_map.cells)), np.float32)
    for row, text, thing in zip(rows, asked, things):
        if thing.is_plain:
            found = search.objects[thing.noun][:limit]
            row[:] = search.scores[thing.noun]
            objects += [replace(one, text=text) for one in found]
            reasons += [""] * len(found)
            continue
        for match in matcher.answer(text, thing, search.heads(thing), least)[:limit]:
            assert match.candidate is not None
            one = match.candidate.found
            cells = feature_map.voxel_of_point[one.voxel_indices]
            row[cells] = search.scores[thing.noun][cells] if thing.noun else match.score
            objects.append(replace(one, text=text, score=match.score))
            reasons.append("; ".join(match.reasons))
    result = QueryResult(
        texts=asked,
        objects=objects,
        voxel_scores=rows,
        voxel_of_point=feature_map.voxel_of_point,
        snapshot=feature_map.snapshot,
        elapsed_ms=(time.perf_counter() - start) * 1e3,
    )
    return RelationalResult(
        result, tuple(reasons), tuple(thing.describe() for thing in things), tuple(dict.fromkeys(matcher.notes))
    )


class _Search:
    """Runs the plain queries behind texts with relations: each noun once for answers and once for anchors."""

    def __init__(
        self,
        engine: QueryEngine,
        feature_map: FeatureMap,
        instances: InstanceView | None,
        region: RegionBox | None,
        least: float,
    ) -> None:
        self._engine = engine
        self._map = feature_map
        self._instances = instances
        self._region = region
        self._least = least
        self.objects: dict[str, list[DetectedObject]] = {}
        self.scores: dict[str, np.ndarray] = {}
        self._anchors: dict[str, list[Match]] = {}
        self._of_anchors: dict[str, list[DetectedObject]] = {}

    def run(self, heads: list[str], anchors: list[str]) -> None:
        """Ask the engine."""
        alike = self._region is None and self._least == self._engine.config.min_score
        if heads:
            nouns = list(dict.fromkeys([*heads, *anchors])) if alike else heads
            self.objects, self.scores = self._query(nouns, self._least, self._region)
        if alike and heads:
            self._of_anchors = self.objects
        elif anchors:
            self._of_anchors, _ = self._query(anchors, None, None)

    def _query(
        self, nouns: list[str], least: float | None, region: RegionBox | None
    ) -> tuple[dict[str, list[DetectedObject]], dict[str, np.ndarray]]:
        bounds = None if region is None else region.bounds()
        result = self._engine.query(self._map, nouns, least, None, bounds, self._instances)
        found = {noun: result.of(noun) for noun in nouns}
        if region is not None:
            grid = self._engine.prepare(self._map).grid
            found = {noun: region.cut(objects, grid, self._engine.config) for noun, objects in found.items()}
        return found, dict(zip(nouns, result.voxel_scores))

    def heads(self, thing: Thing) -> list[Match]:
        """What the noun of a text may mean."""
        found = self.objects[thing.noun] if thing.noun else self._anything(self._region)
        return [Match.of(Candidate(one, self._map.snapshot, thing.noun)) for one in found]

    def anchors(self, thing: Thing) -> list[Match]:
        """What the noun of an anchor may mean; made once."""
        if thing.noun not in self._anchors:
            found = self._of_anchors[thing.noun] if thing.noun else self._anything(None)
            self._anchors[thing.noun] = [Match.of(Candidate(one, self._map.snapshot, thing.noun)) for one in found]
        return self._anchors[thing.noun]

    def _anything(self, region: RegionBox | None) -> list[DetectedObject]:
        view = self._instances
        if view is None:
            raise QueryError("a text that asks for anything needs the instances of the map; name what to look for")
        allowed = None if region is None else region.mask(self._map.snapshot.centroids)
        surface = np.zeros(len(self._map.voxel_of_point), bool)
        for name in SURFACES:
            for flat in self._of_anchors[name]:
                surface[flat.voxel_indices] = True
        found = []
        for number, one in enumerate(view.instances):
            shape = view.shape(number, allowed)
            if shape is not None and len(shape[0]) >= self._engine.config.min_object_voxels and surface[shape[0]].mean() <= 0.5:
                found.append(DetectedObject(one.id, "", 1.0, shape[1], shape[0], one))
        return found


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
