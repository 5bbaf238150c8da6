"""The map at the encoder's resolution agrees with counting by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.query.grid import QueryGrid


@given(count=st.integers(0, 200), cells=st.integers(1, 30), seed=st.integers(0, 10_000))
@settings(max_examples=60)
def test_pooling_and_rows_agree_with_one_cell_after_the_other(count, cells, seed):
    rng = np.random.default_rng(seed)
    points, normals = rng.uniform(0, 1, (count, 3)).astype(np.float32), rng.normal(size=(count, 3)).astype(np.float32)
    colors = rng.uniform(0, 255, (count, 3)).astype(np.float32)
    ones, stamps = np.ones(count, np.float32), np.zeros(count, np.int64)
    snapshot = MapSnapshot(1, 0, 0.02, np.zeros((count, 3), np.int32), points, colors, normals, ones, stamps)
    owner = rng.integers(0, cells, count)
    grid = QueryGrid.build(snapshot, owner, rng.integers(0, 9, (cells, 3), np.int32), 0.04)
    for cell in range(cells):
        rows = np.flatnonzero(owner == cell)
        assert grid.counts[cell] == len(rows)
        if len(rows):
            np.testing.assert_allclose(grid.centroids[cell], points[rows].mean(0), atol=1e-5)
            np.testing.assert_allclose(grid.colors[cell], colors[rows].mean(0), atol=1e-3)
            total = normals[rows].astype(np.float64).sum(0)
            length = np.linalg.norm(total)
            if abs(length / len(rows) - 0.1) > 1e-4:  # at the border of "no direction" rounding decides
                expected = total / length if length > 0.1 * len(rows) else np.zeros(3)
                np.testing.assert_allclose(grid.normals[cell], expected, atol=1e-4)
    some = np.flatnonzero(rng.random(cells) < 0.5)
    allowed = rng.random(count) < 0.7
    assert (grid.rows(some) == np.flatnonzero(np.isin(owner, some))).all()
    assert (grid.rows(some, allowed) == np.flatnonzero(np.isin(owner, some) & allowed)).all()
