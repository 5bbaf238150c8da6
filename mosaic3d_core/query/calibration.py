"""From cosines to scores in [0, 1]: a query competes with everything else the voxel could be.

For a voxel with cosine ``c_q`` to the query and ``c_k`` to the alternatives k (the concepts of the vocabulary
and background words), with the checkpoint's logit scale s::

    score = (e^{s c_q} + sum_k a_k e^{s c_k}) / (e^{s c_q} + sum_k e^{s c_k})

``a_k`` in [0, 1] says how far alternative k is the very thing the query means ("couch" and "sofa"). Such a
concept counts for the query instead of against it; with a_k = 0 for all k this is the plain softmax of the
query against its negatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.vocabulary import BACKGROUND, CONCEPTS

if TYPE_CHECKING:
    from mosaic3d_core.models.text import TextEncoder


@dataclass(frozen=True)
class Alternatives:
    """The things a voxel may be, embedded once per text encoder.

    Attributes:
        names: Concept names followed by background words; K of them.
        embeddings: Their text embeddings, shape (K, D), float32, unit length.
        phrases: Embeddings of every name and synonym of the concepts, shape (P, D).
        concept_of_phrase: Which concept a phrase belongs to, shape (P,), int64.
        num_concepts: How many of ``names`` are concepts that a query may mean; the rest are background.
    """

    names: tuple[str, ...]
    embeddings: np.ndarray
    phrases: np.ndarray
    concept_of_phrase: np.ndarray
    num_concepts: int

    @classmethod
    def build(
        cls,
        encoder: TextEncoder,
        concepts: Mapping[str, Sequence[str]] = CONCEPTS,
        background: Sequence[str] = BACKGROUND,
    ) -> Alternatives:
        """Embed the concepts, their synonyms and the background words with ``encoder``."""
        texts, owner = list(concepts), list(range(len(concepts)))
        for number, synonyms in enumerate(concepts.values()):
            texts.extend(synonyms)
            owner.extend([number] * len(synonyms))
        unique = list(dict.fromkeys([*texts, *background]))
        row = {text: k for k, text in enumerate(unique)}
        embedded = np.asarray(encoder.encode(unique), np.float32)
        names = (*concepts, *background)
        return cls(
            names=names,
            embeddings=embedded[[row[name] for name in names]],
            phrases=embedded[[row[text] for text in texts]],
            concept_of_phrase=np.array(owner, np.int64),
            num_concepts=len(concepts),
        )

    def affinity(self, queries: np.ndarray, config: QueryConfig) -> np.ndarray:
        """How far each alternative is what each query means.

        Args:
            queries: Query embeddings (Q, D), unit length.
            config: ``same_concept_*`` are used.

        Returns:
            Weights a in [0, 1], shape (Q, K), float32; 0 for background words.
        """
        similarity = np.asarray(queries, np.float32) @ self.phrases.T
        per_concept = np.full((len(similarity), len(self.names)), -1.0, np.float32)
        for phrase, concept in enumerate(self.concept_of_phrase):
            np.maximum(per_concept[:, concept], similarity[:, phrase], out=per_concept[:, concept])
        per_concept[:, self.num_concepts :] = -1.0
        low, high = config.same_concept_low, config.same_concept_high
        absolute = (per_concept - low) / (high - low)
        best = per_concept.max(axis=1, keepdims=True)
        # Full weight within 40 % of the margin below the best concept, none beyond the margin.
        margin = max(config.same_concept_margin, 1e-6)
        relative = (per_concept - best + margin) / (0.6 * margin)
        return (np.clip(absolute, 0, 1) * np.clip(relative, 0, 1)).astype(np.float32)


@dataclass(frozen=True)
class VoxelLikelihoods:
    """The alternatives' share of the calculation for one encoded map; every query of that map reuses it.

    Attributes:
        cosine: Cosine of every voxel with every alternative. Shape (V, K), float32.
        reference: Highest cosine per voxel, subtracted for numerical safety. Shape (V,), float32.
        likelihood: ``exp(scale * (cosine - reference))``. Shape (V, K), float32.
        total: Row sums of ``likelihood``. Shape (V,), float32.
        scale: Logit scale used.
    """

    cosine: np.ndarray
    reference: np.ndarray
    likelihood: np.ndarray
    total: np.ndarray
    scale: float

    @classmethod
    def build(cls, cosine: np.ndarray, scale: float) -> VoxelLikelihoods:
        """Prepare from the cosines (V, K) of voxels and alternatives."""
        cosine = np.ascontiguousarray(cosine, np.float32)
        reference = cosine.max(axis=1) if cosine.size else np.zeros(len(cosine), np.float32)
        likelihood = (cosine - reference[:, None]) * np.float32(scale)
        np.exp(likelihood, out=likelihood)
        return cls(cosine, reference, likelihood, likelihood.sum(axis=1), float(scale))

    def scores(self, query_cosine: np.ndarray, affinity: np.ndarray, floor: float) -> np.ndarray:
        """Scores of queries.

        Args:
            query_cosine: Cosine of voxels and queries, shape (V, Q), float32.
            affinity: Weights a, shape (Q, K).
            floor: Voxels below this cosine with the query and with all it means score 0.

        Returns:
            Scores in [0, 1], shape (Q, V), float32.
        """
        own = np.subtract(query_cosine, self.reference[:, None], dtype=np.float32)
        own *= np.float32(self.scale)
        np.exp(np.minimum(own, 60.0, out=own), out=own)  # e^60 times anything still fits a float32
        scores = own + self.likelihood @ affinity.T.astype(np.float32)
        scores /= own + self.total[:, None]
        for q, weights in enumerate(affinity):
            nearest = query_cosine[:, q]
            for k in np.flatnonzero(weights > 0.5):
                nearest = np.maximum(nearest, self.cosine[:, k])
            scores[nearest < floor, q] = 0.0
        return np.ascontiguousarray(np.clip(scores, 0.0, 1.0, out=scores).T)
