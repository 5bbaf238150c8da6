"""Leaving out the taps that a chunk of rows lacks changes how long a convolution takes and nothing else."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.sparse.coordinates import CoordinateSet
from mosaic3d_core.sparse.tap_order import sort_by_taps


def floor_and_wall(side: int) -> torch.Tensor:
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    flat = np.stack([0 * x, x, y, 0 * x], -1).reshape(-1, 4)
    upright = np.stack([0 * x, x, 0 * x, y + 2], -1).reshape(-1, 4)
    return torch.from_numpy(np.concatenate([flat, upright]).astype(np.int32))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 3000), taps=st.integers(1, 27), share=st.floats(0, 1))
def test_every_row_is_in_one_chunk_with_all_its_taps(seed, rows, taps, share):
    generator = np.random.default_rng(seed)
    table = generator.integers(0, rows, (rows, taps), dtype=np.int32)
    table[generator.random(table.shape) >= share] = -1
    order = sort_by_taps(table)
    assert np.array_equal(np.sort(np.concatenate([chunk.rows for chunk in order.chunks])), np.arange(rows))
    for chunk in order.chunks:
        assert np.array_equal(chunk.table, table[np.ix_(chunk.rows, chunk.taps)])
        left_out = np.delete(table[chunk.rows], chunk.taps, axis=1)
        assert (left_out == -1).all()
        assert len(chunk.rows) == order.size or chunk is order.chunks[-1]


def test_rows_of_more_than_one_block_keep_their_numbers():
    rows = 2 * 65_536 + 5
    table = np.full((rows, 3), -1, np.int32)
    table[:, 1] = np.arange(rows)
    table[::2, 0] = 7
    order = sort_by_taps(table)
    for chunk in order.chunks:
        assert np.array_equal(chunk.table[:, list(chunk.taps).index(1)], chunk.rows)
    assert sum(len(chunk.rows) for chunk in order.chunks) == rows


def test_a_floor_and_a_wall_need_about_half_of_the_taps():
    cells = CoordinateSet(floor_and_wall(120))
    order = cells.tap_order()
    taps = sum(len(chunk.rows) * len(chunk.taps) for chunk in order.chunks) / len(cells)
    assert taps < 13  # 9 inside a plane, more in the chunks that hold the edge where the two meet


def test_small_sets_keep_their_order():
    assert CoordinateSet(floor_and_wall(20)).tap_order() is None
