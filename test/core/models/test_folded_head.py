"""Cosines through the folded head equal those of the full text-space features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.models.folded_head import FoldedHead


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.sampled_from([384, 768]),
    channels=st.sampled_from([8, 48, 96]),
    rows=st.integers(0, 40),
    biased=st.booleans(),
)
def test_folded_cosines_equal_the_full_path(seed, dim, channels, rows, biased):
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(dim, channels)), rng.normal(size=dim)
    features = rng.normal(size=(rows, channels)).astype(np.float32)
    text = rng.normal(size=(3, dim))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    full = features @ weight.T + (bias if biased else 0.0)
    wanted = full @ text.T / np.linalg.norm(full, axis=1, keepdims=True)
    head = FoldedHead(weight, bias if biased else None)
    norms = head.norms(features)
    assert head.query_matrix(text).shape == (channels + biased, 3)
    np.testing.assert_allclose(norms, np.linalg.norm(full, axis=1), rtol=1e-4)
    np.testing.assert_allclose(head.cosine(features, norms, text), wanted, atol=1e-5)


def test_a_feature_of_zeros_has_cosine_zero():
    head = FoldedHead(np.eye(4, 2))
    features = np.zeros((1, 2), np.float32)
    assert head.cosine(features, head.norms(features), np.eye(1, 4)).tolist() == [[0.0]]


def test_text_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"shape \(Q, 4\) for this encoder, got \(1, 5\); use the text encoder"):
        FoldedHead(np.eye(4, 2)).query_matrix(np.ones((1, 5)))


def test_impossible_heads_are_refused():
    with pytest.raises(ValueError, match=r"shape \(D, C\)"):
        FoldedHead(np.ones(3))
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\)"):
        FoldedHead(np.eye(4, 2), np.ones(3))
