"""Filters candidates by the relations of a text and puts them in its order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mosaic3d_core.errors import QueryError
from mosaic3d_core.query.relations.candidates import Match
from mosaic3d_core.query.relations.config import RelationConfig
from mosaic3d_core.query.relations.geometry import grade, grades_between, ramp, upper_bound
from mosaic3d_core.query.relations.grammar import Clause, Ordering, Thing
from mosaic3d_core.query.relations.shapes import Shape, bounds_distance, distance
from mosaic3d_core.query.relations.viewpoint import Viewpoint
from mosaic3d_core.query.relations.words import BY_DISTANCE, DIRECTIONS, OF_PLACES, Order, Relation

_ORDINALS = {1: "", 2: "second ", 3: "third ", 4: "fourth ", 5: "fifth "}


@dataclass(frozen=True, eq=False)
class _Link:
    """A relation of a match to its anchors: grade, reason, anchors."""

    value: float
    reason: str
    anchors: tuple[Match, ...]


class Matcher:
    """Resolves things with relations on one map.

    Args:
        anchors: The candidates for the noun of an anchor.
        view: Where one stands, or None.
        config: When relations hold.
        anchor_score: Least score of a thing that others are related to.

    Attributes:
        notes: What was not found, as sentences.
    """

    def __init__(
        self,
        anchors: Callable[[Thing], list[Match]],
        view: Viewpoint | None,
        config: RelationConfig,
        anchor_score: float,
    ) -> None:
        self._candidates = anchors
        self._view = view
        self._config = config
        self._anchor_score = anchor_score
        self._text = ""
        self.notes: list[str] = []

    def answer(self, text: str, thing: Thing, candidates: list[Match], least: float) -> list[Match]:
        """The candidates that a text means, best first.

        Raises:
            QueryError: If the text needs a viewpoint and there is none, or a relation to "me" that has no meaning.
        """
        self._text = text
        if not candidates:
            self.notes.append(f"No {thing.noun or 'object'} was found.")
        return self._resolve(thing, candidates, least)

    def _resolve(self, thing: Thing, matches: list[Match], least: float) -> list[Match]:
        for clause in thing.clauses:
            # Anchors first, also where there is no candidate: an error of the text does not depend on the map.
            anchors = [self._anchors(anchor) for anchor in clause.anchors]
            matches = self._filter(matches, thing, clause, anchors, least)
        if thing.ordering is not None:
            matches = self._ordered(matches, thing, thing.ordering)
        return sorted(matches, key=lambda one: (-one.score, -one.product, one.candidate.found.id if one.candidate else 0))

    def _anchors(self, thing: Thing) -> list[Match]:
        if thing.is_viewer:
            return [Match.of_viewer(self._viewpoint())]
        return self._resolve(thing, self._candidates(thing), self._anchor_score)

    def _viewpoint(self) -> Viewpoint:
        if self._view is None:
            raise QueryError(
                f'"{self._text[:60]}" depends on where one stands; give a viewpoint (viewpoint_frame in a request, for example'
                " base_link; --viewpoint on the command line)"
            )
        return self._view

    # Relations ----------------------------------------------------------------------------------------------

    def _filter(
        self, matches: list[Match], thing: Thing, clause: Clause, anchors: list[list[Match]], least: float
    ) -> list[Match]:
        relation = clause.relation
        if relation in DIRECTIONS:
            self._viewpoint()
        if any(anchor.is_viewer for anchor in clause.anchors) and relation not in OF_PLACES:
            raise QueryError(f'nothing can be "{relation.value}" me in "{self._text[:60]}"; name a thing')
        kept = []
        for match in matches:
            link = self._link(match, clause, anchors)
            found = _denied(match, clause, link) if clause.negated else _joined(match, link)
            if found is not None and found.score >= least and found.score > 0.0:
                kept.append(found)
        if matches and (not kept or not all(anchors)):
            self._explain(f"{len(matches)} {thing.noun or 'object'}{'s' if len(matches) > 1 else ''}", clause, anchors)
        return kept

    def _link(self, match: Match, clause: Clause, anchors: list[list[Match]]) -> _Link | None:
        if clause.relation is Relation.BETWEEN:
            return self._best_pair(match, anchors, clause.negated)
        if clause.relation is Relation.FAR:  # far from every one
            nearest = self._nearest(match, anchors[0])
            if nearest is None:
                return None
            apart, anchor = nearest
            reason = f"{match.name} is {apart:.2f} m from {anchor.name} (far)"
            return _Link(ramp(apart, self._config.far_m), reason, (anchor,))
        return self._best(match, clause.relation, anchors[0], clause.negated)

    def _best(self, match: Match, relation: Relation, anchors: Sequence[Match], by_grade: bool) -> _Link | None:
        """The relation to the best anchor, also with a grade of 0; None without an anchor.

        Args:
            match: What is looked for.
            relation: One with a single anchor.
            anchors: Candidates.
            by_grade: True to leave the scores of the anchors out.
        """

        def worth(k: int, value: float) -> float:
            return value if by_grade else min(value, anchors[k].score)

        bounds = [worth(k, upper_bound(relation, match.shape, one.shape, self._config)) for k, one in enumerate(anchors)]
        best: tuple[tuple[float, float], _Link] | None = None
        for k in sorted(range(len(anchors)), key=lambda k: (-bounds[k], bounds_distance(match.shape, anchors[k].shape))):
            if best is not None and bounds[k] <= best[0][0]:
                break
            shape = anchors[k].without(match, self._config.same_share)
            if shape is None:
                continue
            if bounds[k] <= 0.0:  # the voxels cannot say more
                return _Link(0.0, "", (anchors[k],))
            graded = grade(relation, match.shape, shape, self._view, self._config)
            rank = worth(k, graded.value), graded.value * anchors[k].score
            if best is None or rank > best[0]:
                reason = f"{match.name} {graded.words.format(anchors[k].name)}"
                best = rank, _Link(graded.value, reason, (anchors[k],))
        return None if best is None else best[1]

    def _best_pair(self, match: Match, anchors: list[list[Match]], by_grade: bool) -> _Link | None:
        """The relation to the best two anchors; of a single kind, two different ones."""
        sides = []
        for side in (anchors[0], anchors[-1]):
            shapes = [(one, one.without(match, self._config.same_share)) for one in side]
            sides.append([(one, shape) for one, shape in shapes if shape is not None])
        one, two = sides
        if not one or not two:
            return None
        grades, angles = grades_between(match.shape, [shape for _, shape in one], [shape for _, shape in two], self._config)
        scores = np.minimum.outer([first.score for first, _ in one], [second.score for second, _ in two])
        ranks = grades if by_grade else np.minimum(grades, scores)
        for place in np.argsort(-ranks, axis=None, kind="stable"):
            i, j = (int(k) for k in np.unravel_index(place, ranks.shape))
            first, second = one[i][0], two[j][0]
            if first is second or second.without(first, self._config.same_share) is None:
                continue
            reason = f"{match.name} is between {first.name} and {second.name} ({angles[i, j]:.0f} degrees)"
            return _Link(float(grades[i, j]), reason, (first, second))
        return None

    def _explain(self, found: str, clause: Clause, anchors: list[list[Match]]) -> None:
        for anchor, matches in zip(clause.anchors, anchors):
            if not matches:
                end = "." if clause.negated else f", so nothing can be {clause.relation.value} it."
                self.notes.append(f"{_absent(anchor)}{end}")
                return
        names = " and ".join(anchor.describe() for anchor in clause.anchors)
        denied = "not " if clause.negated else ""
        self.notes.append(f"Of {found}, none is {denied}{clause.relation.value} {names}.")

    # Orders -------------------------------------------------------------------------------------------------

    def _ordered(self, matches: list[Match], thing: Thing, ordering: Ordering) -> list[Match]:
        name = f"{_ORDINALS[ordering.position]}{ordering.order.name.lower()} of {len(matches)}"
        if ordering.order in BY_DISTANCE:
            assert ordering.anchor is not None
            anchors = self._anchors(ordering.anchor)
            if not anchors:
                self.notes.append(f"{_absent(ordering.anchor)}, so nothing can be {ordering.order.value} it.")
                return []
            measured = self._by_distance(matches, anchors, ordering, name)
        else:
            measured = [self._measured(match, ordering.order, name) for match in matches]
        measured.sort(key=lambda one: (one[0], -one[1].score))
        if matches and len(measured) < ordering.position:
            self.notes.append(f'Only {len(measured)} found for "{thing.noun or "anything"}", not {ordering.position}.')
        return [match for _, match in measured[ordering.position - 1 : ordering.position]]

    def _by_distance(
        self, matches: list[Match], anchors: list[Match], ordering: Ordering, name: str
    ) -> list[tuple[float, Match]]:
        nearest = ordering.order is Order.NEAREST
        bounds = [min(bounds_distance(match.shape, anchor.shape) for anchor in anchors) for match in matches]
        measured: list[tuple[float, Match]] = []
        for k in sorted(range(len(matches)), key=lambda k: bounds[k]):
            # enough are nearer than the bounds of this one
            if nearest and sum(value < bounds[k] for value, _ in measured) >= ordering.position:
                break
            found = self._nearest(matches[k], anchors)
            if found is not None:
                apart, anchor = found
                reason = f"{matches[k].name} is the {name}, {apart:.2f} m from {anchor.name}"
                measured.append((apart if nearest else -apart, matches[k].because(1.0, reason, anchor)))
        return measured

    def _nearest(self, match: Match, anchors: Sequence[Match]) -> tuple[float, Match] | None:
        """Distance in metres to the nearest anchor that is another thing."""
        best: tuple[float, Match] | None = None
        for anchor in sorted(anchors, key=lambda one: bounds_distance(match.shape, one.shape)):
            if best is not None and bounds_distance(match.shape, anchor.shape) >= best[0]:
                break
            shape = anchor.without(match, self._config.same_share)
            if shape is not None:
                apart = distance(match.shape, shape)
                if best is None or apart < best[0]:
                    best = apart, anchor
        return best

    def _measured(self, match: Match, order: Order, name: str) -> tuple[float, Match]:
        value, unit = _size(match.shape, order)
        if order in (Order.LEFTMOST, Order.RIGHTMOST):
            view = self._viewpoint()
            value = float((match.shape.center - view.position)[:2] @ view.left)
            unit = "m to the left" if value >= 0 else "m to the right"
        sign = 1.0 if order in (Order.SMALLEST, Order.LOWEST, Order.RIGHTMOST) else -1.0
        return sign * value, match.because(1.0, f"{match.name} is the {name} ({abs(value):.2f} {unit})")


def _size(shape: Shape, order: Order) -> tuple[float, str]:
    if order in (Order.LARGEST, Order.SMALLEST):
        return (0.0 if shape.box is None else shape.box.volume), "m3 box"
    if order is Order.TALLEST:
        return shape.height, "m tall"
    return float(shape.center[2]), "m up"


def _absent(anchor: Thing) -> str:
    return f"No {anchor.noun or 'object'} was found" if anchor.is_plain else f'Nothing was found that is "{anchor.describe()}"'


def _joined(match: Match, link: _Link | None) -> Match | None:
    return None if link is None else match.because(link.value, link.reason, *link.anchors)


def _denied(match: Match, clause: Clause, link: _Link | None) -> Match:
    """The match of a negation: as sure as the relation does not hold, with whatever anchor comes closest to it."""
    if link is None:
        names = " and ".join(anchor.noun or "object" for anchor in clause.anchors)
        return match.because(1.0, f"no {names} was found that {match.name} could be {clause.relation.value}")
    names = " and ".join(anchor.name for anchor in link.anchors)
    return match.because(1.0 - link.value, f"{match.name} is not {clause.relation.value} {names} (grade {link.value:.2f})")
