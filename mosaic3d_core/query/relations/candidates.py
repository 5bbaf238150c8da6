"""What may be meant by the nouns of a text: objects of the query engine, any instance, or the place of the viewpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.query.boxes import OrientedBox, ground_basis
from mosaic3d_core.query.relations.grammar import Thing
from mosaic3d_core.query.relations.shapes import Shape, bounds_distance
from mosaic3d_core.query.relations.viewpoint import Viewpoint
from mosaic3d_core.query.results import DetectedObject

# Fewer voxels than these are no shape: an anchor that all but consists of the thing itself.
_LEAST_LEFT = 4


@dataclass(frozen=True, eq=False)
class Candidate:
    """One object that a noun may mean.

    Attributes:
        found: What the engine said.
        snapshot: The map.
        noun: For its name.
    """

    found: DetectedObject
    snapshot: MapSnapshot
    noun: str

    @property
    def name(self) -> str:
        """For sentences: noun and id."""
        return f"{self.noun or 'object'} {self.found.id}"

    @cached_property
    def shape(self) -> Shape:
        """Its voxels with z up."""
        return self.shape_of(self.found.voxel_indices)

    def shape_of(self, rows: NDArray[np.int64]) -> Shape:
        """Some of its voxels with z up, in its box."""
        # column by column in memory: bounds and cuts are made per axis
        points, box = self.snapshot.centroids[rows].astype(np.float64, order="F"), self.found.box
        if tuple(self.snapshot.up) == (0.0, 0.0, 1.0):
            return Shape(points, self.snapshot.voxel_size_m, box)
        basis = ground_basis(self.snapshot.up)
        level = OrientedBox(basis.T @ box.center, basis.T @ box.rotation, box.size)
        return Shape(points @ basis, self.snapshot.voxel_size_m, level)


@dataclass(frozen=True, eq=False)
class Match:
    """A candidate for which all relations of its text hold so far.

    Attributes:
        candidate: The object; None for the viewer.
        shape: Its voxels with z up.
        name: For sentences.
        score: The least of its own score, the grades of its relations and the scores of its anchors.
        product: Product of these; decides between equal scores.
        reasons: Sentences without a full stop.
    """

    candidate: Candidate | None
    shape: Shape
    name: str
    score: float
    product: float
    reasons: tuple[str, ...] = ()

    @classmethod
    def of(cls, candidate: Candidate) -> Match:
        """A candidate as the engine found it."""
        score = candidate.found.score
        return cls(candidate, candidate.shape, candidate.name, score, score)

    @classmethod
    def of_viewer(cls, view: Viewpoint) -> Match:
        """The place of the viewpoint."""
        return cls(None, Shape(view.position[None], 0.0), "me", 1.0, 1.0)

    def because(self, value: float, reason: str, *anchors: Match) -> Match:
        """The match with one more relation."""
        parts = [value, *(anchor.score for anchor in anchors)]
        reasons = dict.fromkeys([*self.reasons, reason, *(text for anchor in anchors for text in anchor.reasons)])
        return replace(
            self,
            score=min(self.score, *parts),
            product=self.product * float(np.prod(parts)),
            reasons=tuple(reasons),
        )

    def without(self, other: Match, same_share: float) -> Shape | None:
        """The shape without the voxels of another match; None where both are the same thing.

        Args:
            other: What is related to this.
            same_share: Intersection over union above which both are one thing.
        """
        if self.candidate is None or other.candidate is None:
            return None if self.candidate is other.candidate else self.shape
        own, others = self.candidate.found, other.candidate.found
        if own.id == others.id:
            return None
        if bounds_distance(self.shape, other.shape) > 0.0:
            return self.shape
        at = np.minimum(np.searchsorted(others.voxel_indices, own.voxel_indices), len(others.voxel_indices) - 1)
        shared = others.voxel_indices[at] == own.voxel_indices
        count = int(shared.sum())
        if count == 0:
            return self.shape
        left = own.voxel_indices[~shared]
        if count > same_share * (len(own.voxel_indices) + len(others.voxel_indices) - count) or len(left) < _LEAST_LEFT:
            return None
        return self.candidate.shape_of(left)


def names_of(things: list[Thing]) -> tuple[list[str], list[str]]:
    """Different nouns of what is asked for, and of what that is related to."""
    heads = dict.fromkeys(thing.noun for thing in things if thing.noun)
    anchors = dict.fromkeys(one.noun for thing in things for one in list(thing.walk())[1:] if one.noun)
    return list(heads), list(anchors)
