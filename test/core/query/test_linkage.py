"""Parts that lie apart: the same that one gets by comparing every voxel with every other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mosaic3d_core.query.linkage import linked_parts

clouds = hnp.arrays(np.int32, st.tuples(st.integers(0, 40), st.just(3)), elements=st.integers(-30, 30))


def all_pairs(cells: np.ndarray, gap: float) -> np.ndarray:
    """Slow twin: numbers spread over all distances until nothing changes."""
    near = np.linalg.norm(cells[:, None].astype(float) - cells[None], axis=2) <= gap + 1e-9
    number = np.arange(len(cells))
    while True:
        lowest = np.where(near, number[None], len(cells)).min(1) if len(cells) else number
        if (lowest == number).all():
            return np.unique(number, return_inverse=True)[1].reshape(-1)
        number = lowest


@given(clouds, st.sampled_from([0.0, 1.0, 1.5, 3.0, 5.0, 7.3, 23.75, 200.0]), st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_parts_are_those_of_all_pairs_whatever_the_order(cloud, gap, seed):
    cells = np.unique(cloud, axis=0)
    cells = cells[np.random.default_rng(seed).permutation(len(cells))]
    number, count = linked_parts(cells, gap)
    expected = all_pairs(cells, gap)
    assert (number == expected).all()
    assert count == (expected.max() + 1 if len(cells) else 0)


@pytest.mark.parametrize(("gap", "parts"), [(23.9, 2), (24.0, 1)])
def test_the_gap_itself_still_joins(gap, parts):
    assert linked_parts(np.array([[0, 0, 0], [24, 0, 0]]), gap)[1] == parts
