"""Scores: they are the stated softmax, and what a query means counts for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import WordEncoder

from mosaic3d_core.data.synthetic.classes import CLASS_NAMES, CLASSES
from mosaic3d_core.query.calibration import Alternatives, VoxelLikelihoods
from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.labelling import label_voxels
from mosaic3d_core.query.results import NO_LABEL
from mosaic3d_core.query.vocabulary import CONCEPTS, DEFAULT_VOCABULARY

CONCEPT_WORDS = {"sofa": ("couch",), "chair": ("seat", "something to sit on"), "table": ()}


def written_out(cosine, query_cosine, affinity, scale, floor):
    """Slow twin of the score: the formula of the module, in double precision, one voxel at a time."""
    scores = np.zeros((query_cosine.shape[1], len(cosine)))
    for q in range(query_cosine.shape[1]):
        for v in range(len(cosine)):
            own = np.exp(scale * float(query_cosine[v, q]))
            rivals = np.exp(scale * cosine[v].astype(float))
            score = (own + affinity[q] @ rivals) / (own + rivals.sum())
            near = max([query_cosine[v, q], *cosine[v][affinity[q] > 0.5]])
            scores[q, v] = score if near >= floor else 0
    return scores


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4), st.floats(1, 100))
@settings(max_examples=80)
def test_scores_are_the_formula(seed, num_alternatives, queries, scale):
    rng = np.random.default_rng(seed)
    cosine = rng.uniform(-1, 1, (7, num_alternatives)).astype(np.float32)
    query_cosine = rng.uniform(-1, 1, (7, queries)).astype(np.float32)
    affinity = np.clip(rng.uniform(-1, 1, (queries, num_alternatives)), 0, 1).astype(np.float32)
    scores = VoxelLikelihoods.build(cosine, scale).scores(query_cosine, affinity, 0.1)
    # float32 exponentials of arguments up to 100: a relative error of 1e-5.
    assert scores == pytest.approx(written_out(cosine, query_cosine, affinity, scale, 0.1), abs=2e-4)


def test_meaning_decides_what_competes():
    encoder = WordEncoder({"divan": ("sofa", 0.8), "stone": ("sofa", 0.3)})
    alternatives = Alternatives.build(encoder, CONCEPT_WORDS, ("background",))
    config = QueryConfig()
    names = list(alternatives.names)
    affinity = alternatives.affinity(encoder.encode(["sofa", "couch", "divan", "stone", "something to sit on"]), config)
    sofa, chair = names.index("sofa"), names.index("chair")
    assert affinity[:3, sofa].tolist() == [1, 1, 1]
    assert affinity[3].max() == 0
    assert affinity[4, chair] == 1
    assert affinity[4, sofa] == 0
    assert affinity[:, names.index("background")].max() == 0


def test_an_unlike_word_is_cut_off_by_the_floor():
    cosine = np.array([[0.1, 0.05]], np.float32)
    likelihoods = VoxelLikelihoods.build(cosine, 100.0)
    query = np.array([[0.14]], np.float32)
    no_meaning = np.zeros((1, 2), np.float32)
    assert likelihoods.scores(query, no_meaning, 0.0)[0, 0] > 0.9
    assert likelihoods.scores(query, no_meaning, 0.15)[0, 0] == 0.0


@pytest.mark.parametrize(
    ("cosines", "expected"),
    [((0.9, 0.1, 0.2), 0), ((0.1, 0.9, 0.2), 1), ((0.1, 0.2, 0.9), NO_LABEL), ((-0.02, -0.01, -0.5), NO_LABEL)],
)
def test_labels_take_the_best_word_or_none(cosines, expected):
    word_cosine = np.array([cosines[:2]], np.float32)
    likelihoods = VoxelLikelihoods.build(np.array([[cosines[2]]], np.float32), 20.0)
    labels, scores = label_voxels(likelihoods, word_cosine, np.zeros((2, 1), np.float32), QueryConfig())
    assert labels[0] == expected
    assert (scores[0] > 0) == (expected != NO_LABEL)


def test_vocabulary_knows_the_room_classes_but_not_the_held_out_phrases():
    assert set(CLASS_NAMES) <= set(DEFAULT_VOCABULARY)

    def plain(phrase):
        return frozenset(phrase.split()) - {"a", "an", "the", "to", "of", "something", "somewhere", "place"}

    known = {plain(phrase) for name, others in CONCEPTS.items() for phrase in (name, *others)}
    assert not known & {plain(phrase) for one in CLASSES for phrase in one.held_out}


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"min_score": 1.5}, r"min_score must lie in \[0, 1\]"),
        ({"grow_score": 0.9, "seed_score": 0.5}, "must not exceed seed_score"),
        ({"same_concept_low": 0.8}, "must be below same_concept_high"),
        ({"cosine_floor": 2.0}, "cosine_floor"),
        ({"logit_scale": -1.0}, "logit_scale must be positive"),
        ({"min_object_voxels": 0}, "min_object_voxels must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings_, message):
    with pytest.raises(ValueError, match=message):
        QueryConfig(**settings_)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="unknown query settings"):
        QueryConfig.from_dict({"min_scor": 0.5})
    assert QueryConfig.from_dict({"min_score": 0.4}).min_score == 0.4
