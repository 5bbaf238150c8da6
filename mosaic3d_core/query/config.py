"""Settings of the query engine, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class QueryConfig:
    """Thresholds and limits of queries and labelling.

    Attributes:
        min_score: An object is reported when its score is at least this. The query must take 40 % of the probability
            against some 75 alternatives; higher loses small things, lower reports absent ones (weighed on validation rooms).
        seed_score: A voxel that scores at least this starts an object ...
        grow_score: ... and connected voxels down to this belong to it (hysteresis: the border of an object
            scores lower than its middle, because neighbouring voxels mix).
        cosine_floor: A voxel whose cosine with the query (or the concept it means) is below this is never a match, however
            badly the alternatives fit. Cosines of contrastively trained features are small in absolute terms, so the default
            only asks that they point the same way.
        same_concept_low: Similarity between the query and a concept of the vocabulary (or one of its
            synonyms) under which they are different things ...
        same_concept_high: ... and above which they mean the same, so that the concept counts for the query,
            not against it. Unrelated nouns reach 0.5 with the default text encoder, synonyms lie around 0.65
            and higher.
        same_concept_margin: A concept this much less similar than the best one is a different thing: "chair"
            means "office chair" (0.87) but not "stool" (0.60), although a bare "seat" means all of them.
        logit_scale: Sharpness of the softmax; None takes the scale that the checkpoint was trained with.
        gap_voxels: Map voxels of a mask at most this many cells apart (Chebyshev) are connected, rounded to encoder voxels
            (touching ones always are); 2 bridges one missing voxel.
        min_object_voxels: Smaller connected parts are dropped as noise.
        min_relative_voxels: Parts smaller than this share of the largest object of the same text are dropped
            as well.
        merge_gap_m: A small fragment closer than this to a larger object of the same text is part of it (seen
            through a gap).
        merge_share: What counts as a small fragment: at most this share of the larger object.
        stack_gap_m: A part that stands below or above another one of the same text with at most this much between them
            is joined to it (a table's leg and its top, whose underside no camera saw); 0 turns it off. The underside of
            a shade or a seat hides up to about 20 cm of what carries it.
        stack_overlap: Share of the smaller footprint that must lie within the larger one for that. Of a shade often only
            the front half is seen, and the pole stands at its edge.
        split_large: Split objects that touch (corner of two walls, two chairs side by side).
        min_label_score: Labelling leaves a voxel unlabelled when no word of the vocabulary scores at least
            this.
        max_texts: Most texts in one query.
        max_text_length: Longest accepted text, characters.
    """

    min_score: float = 0.4
    seed_score: float = 0.35
    grow_score: float = 0.18
    cosine_floor: float = 0.0
    same_concept_low: float = 0.55
    same_concept_high: float = 0.70
    same_concept_margin: float = 0.20
    logit_scale: float | None = None
    gap_voxels: int = 2
    min_object_voxels: int = 30
    min_relative_voxels: float = 0.08
    merge_gap_m: float = 0.08
    merge_share: float = 0.25
    stack_gap_m: float = 0.25
    stack_overlap: float = 0.35
    split_large: bool = True
    min_label_score: float = 0.25
    max_texts: int = 256
    max_text_length: int = 1000

    def __post_init__(self) -> None:
        unit = ("min_score", "seed_score", "grow_score", "same_concept_low", "same_concept_high",
                "min_relative_voxels", "merge_share", "stack_overlap", "min_label_score")  # fmt: skip
        for name in unit:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.grow_score > self.seed_score:
            raise ValueError(f"grow_score ({self.grow_score}) must not exceed seed_score ({self.seed_score})")
        if self.same_concept_low >= self.same_concept_high:
            raise ValueError(
                f"same_concept_low must be below same_concept_high, got {self.same_concept_low} and {self.same_concept_high}"
            )
        if not -1.0 <= self.cosine_floor <= 1.0:
            raise ValueError(f"cosine_floor must lie in [-1, 1], got {self.cosine_floor}")
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.logit_scale is not None and not self.logit_scale > 0:
            raise ValueError(f"logit_scale must be positive, got {self.logit_scale}")
        for name in ("merge_gap_m", "stack_gap_m"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a length in metres >= 0, got {getattr(self, name)}")
        for name in ("gap_voxels", "min_object_voxels", "max_texts", "max_text_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> QueryConfig:
        """Build from a mapping, refusing unknown names (ValueError names them and the known ones)."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown query settings {unknown}; known are {sorted(known)}")
        return cls(**values)  # type: ignore[arg-type]
