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
from numba import njit

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
        cosine: Cosine of every alternative with every voxel: a query reads a few whole rows. Shape (K, V), float32.
        reference: Highest cosine per voxel, subtracted for numerical safety. Shape (V,), float32.
        likelihood: ``exp(scale * (cosine - reference))``. Shape (K, V), float32.
        total: Sums of ``likelihood`` over the alternatives. Shape (V,), float32.
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
        voxels = len(cosine)
        cosine = np.ascontiguousarray(np.asarray(cosine, np.float32).T)
        reference = cosine.max(axis=0) if cosine.size else np.zeros(voxels, np.float32)
        likelihood = (cosine - reference) * np.float32(scale)
        np.exp(likelihood, out=likelihood)
        return cls(cosine, reference, likelihood, likelihood.sum(axis=0), float(scale))

    def scores(self, query_cosine: np.ndarray, affinity: np.ndarray, floor: float) -> np.ndarray:
        """Scores of queries.

        Args:
            query_cosine: Cosine of voxels and queries, shape (V, Q), float32.
            affinity: Weights a, shape (Q, K).
            floor: Voxels below this cosine with the query and with all it means score 0.

        Returns:
            Scores in [0, 1], shape (Q, V), float32.
        """
        cosine = np.ascontiguousarray(np.asarray(query_cosine, np.float32).T)
        scores = np.empty(cosine.shape, np.float32)
        for q, weights in enumerate(np.asarray(affinity, np.float32)):
            meant = np.flatnonzero(weights)
            _score(
                cosine[q],
                self.cosine,
                self.likelihood,
                self.reference,
                self.total,
                meant,
                weights[meant],
                np.float32(self.scale),
                np.float32(floor),
                scores[q],
            )
        return scores


@njit(cache=True, nogil=True)
def _score(
    query: np.ndarray,
    cosine: np.ndarray,
    likelihood: np.ndarray,
    reference: np.ndarray,
    total: np.ndarray,
    meant: np.ndarray,
    weight: np.ndarray,
    scale: np.float32,
    floor: np.float32,
    out: np.ndarray,
) -> None:  # pragma: no cover - compiled
    for v in range(query.shape[0]):
        # e^60 times anything still fits a float32
        own = np.exp(min(scale * (query[v] - reference[v]), np.float32(60.0)))
        good, nearest = own, query[v]
        for k in range(meant.shape[0]):
            good += weight[k] * likelihood[meant[k], v]
            if weight[k] > 0.5:
                nearest = max(nearest, cosine[meant[k], v])
        share = good / (own + total[v])
        out[v] = min(max(share, np.float32(0.0)), np.float32(1.0)) if nearest >= floor else np.float32(0.0)
