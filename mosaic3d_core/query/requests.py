"""Checks of what is asked: each fault gets one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mosaic3d_core.errors import QueryError
from mosaic3d_core.query.config import QueryConfig

Region = tuple[Sequence[float], Sequence[float]]


def check_texts(texts: Sequence[str], config: QueryConfig) -> tuple[str, ...]:
    """Texts without surplus white space; QueryError if there is none or one is unusable."""
    if isinstance(texts, str):
        texts = [texts]
    if len(texts) == 0:
        raise QueryError("the query has no text; give at least one word or short description")
    if len(texts) > config.max_texts:
        raise QueryError(f"the query has {len(texts)} texts, at most {config.max_texts} are answered at once")
    cleaned = []
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise QueryError(f"query text {position + 1} is a {type(text).__name__}, expected a string")
        if len(text) > config.max_text_length:
            raise QueryError(
                f"query text {position + 1} is {len(text)} characters long, "
                f"at most {config.max_text_length} are accepted; use a word or a short description"
            )
        text = " ".join(text.split())
        if not any(character.isalnum() for character in text):
            raise QueryError(f"query text {position + 1} is empty; give a word or a short description")
        cleaned.append(text)
    return tuple(cleaned)


def check_vocabulary(vocabulary: Sequence[str] | Mapping[str, Sequence[str]], config: QueryConfig) -> dict[str, tuple[str, ...]]:
    """Prompts by label; a plain word is its own. QueryError if there is none, a label has none, or a text is unusable."""
    if isinstance(vocabulary, Mapping):
        labels = check_texts(list(vocabulary), config)
        prompts: dict[str, tuple[str, ...]] = {}
        for label, group in zip(labels, vocabulary.values(), strict=True):
            if isinstance(group, str) or len(group) == 0:
                raise QueryError(f"label '{label}' needs a list of prompts with at least one, got {group!r}")
            prompts[label] = (*prompts.get(label, ()), *check_texts(group, config))
        return prompts
    return {word: (word,) for word in check_texts(vocabulary, config)}


def check_min_score(min_score: float | None, config: QueryConfig) -> float:
    """The score limit to use; QueryError if it lies outside [0, 1]."""
    if min_score is None:
        return config.min_score
    if not (isinstance(min_score, (int, float, np.number)) and 0.0 <= float(min_score) <= 1.0):
        raise QueryError(f"min_score must lie between 0 and 1, got {min_score}")
    return float(min_score)


def check_max_objects(max_objects: int | None) -> int | None:
    """Most objects per text, None for all; QueryError if negative."""
    if max_objects is not None and max_objects < 0:
        raise QueryError(f"max_objects must be 0 (all) or positive, got {max_objects}")
    return max_objects or None


def region_mask(points: np.ndarray, region: Region | None) -> np.ndarray | None:
    """Which points (N, 3) lie in the region; None without one; QueryError if it is malformed."""
    if region is None:
        return None
    try:
        low, high = (np.asarray(corner, np.float64) for corner in region)
    except (TypeError, ValueError) as error:
        raise QueryError(f"a region is a lower and an upper corner of three numbers each, got {region!r}") from error
    if low.shape != (3,) or high.shape != (3,):
        raise QueryError(f"a region's corners have three numbers each, got shapes {low.shape} and {high.shape}")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise QueryError(f"a region's corners must be finite, got {low.tolist()} and {high.tolist()}")
    for axis, (a, b) in enumerate(zip(low, high, strict=True)):
        if a > b or math.isclose(a, b, abs_tol=0.0, rel_tol=0.0):
            raise QueryError(f"the region's lower corner must lie below its upper one, got {a} >= {b} along {'xyz'[axis]}")
    return np.asarray(((points >= low) & (points <= high)).all(axis=1))
