"""Level of detail: coarse points are part of the fine ones, lie evenly, and are exactly as many as may be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.visualization.viewer.level_of_detail import (
    BLOCK_BITS,
    COARSEST,
    arrange,
    detail_levels,
    voxel_hashes,
)

quick = settings(max_examples=40)

clouds = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 400), st.sampled_from([2, 8, 40, 300])).map(
    lambda args: make_cloud(*args)
)


def make_cloud(seed, count, spread):
    """Distinct voxel indices around a corner of blocks, in random order."""
    rng = np.random.default_rng(seed)
    indices = np.unique(rng.integers(-spread, spread, (count, 3)), axis=0).astype(np.int32)
    return rng.permutation(indices)


def slow_levels(indices, hashes):
    """The definition, cell by cell."""
    levels = []
    for row, index in enumerate(indices):
        level = 0
        for k in range(1, COARSEST + 1):
            rivals = [r for r, other in enumerate(indices) if all(a >> k == b >> k for a, b in zip(index, other))]
            if hashes[row] == min(hashes[r] for r in rivals):
                level = k
        levels.append(level)
    return levels


@quick
@given(clouds.filter(lambda indices: len(indices) <= 120))
def test_levels_equal_their_definition(indices):
    hashes = voxel_hashes(indices)
    assert detail_levels(indices, hashes).tolist() == slow_levels(indices.tolist(), hashes.tolist())


@quick
@given(clouds)
def test_every_occupied_cell_keeps_exactly_one_voxel(indices):
    levels = detail_levels(indices, voxel_hashes(indices))
    for level in range(1, COARSEST + 1):
        cells = indices >> level
        kept = cells[levels >= level]
        assert len(np.unique(kept, axis=0)) == len(kept)  # one
        assert len(kept) == len(np.unique(cells, axis=0))  # in each


@quick
@given(clouds, st.integers(0, 500), st.integers(0, 500))
def test_a_smaller_budget_shows_a_part_of_what_a_larger_one_shows(indices, one, other):
    arrangement = arrange(indices)
    small, large = sorted((one, other))
    shown = []
    for budget in (small, large):
        counts = arrangement.counts(budget)
        assert counts.sum() == min(budget, len(indices))  # exactly
        shown.append(
            {int(row) for chunk, n in zip(arrangement.chunks, counts) for row in arrangement.order[chunk.start : chunk.start + n]}
        )
    assert shown[0] <= shown[1]


@quick
@given(clouds, st.integers(0, 2**32 - 1))
def test_the_choice_does_not_depend_on_the_order_of_the_rows(indices, seed):
    shuffled = np.random.default_rng(seed).permutation(indices)
    first, second = arrange(indices), arrange(shuffled)
    assert np.array_equal(indices[first.order], shuffled[second.order])
    assert first.chunks == second.chunks


@quick
@given(clouds)
def test_chunks_cover_all_voxels_once_and_keep_to_their_block(indices):
    layers = indices[:, 2] % 3
    arrangement = arrange(indices, layers)
    assert sorted(arrangement.order) == list(range(len(indices)))
    levels = detail_levels(indices, voxel_hashes(indices))
    assert [chunk.start for chunk in arrangement.chunks] == [0, *(chunk.stop for chunk in arrangement.chunks[:-1])]
    assert arrangement.chunks[-1].stop == len(indices)
    assert len({chunk.key for chunk in arrangement.chunks}) == len(arrangement.chunks)
    for chunk in arrangement.chunks:
        rows = arrangement.order[chunk.start : chunk.stop]
        assert (indices[rows] >> BLOCK_BITS == chunk.block).all()
        assert (levels[rows] == chunk.level).all()
        assert (layers[rows] == chunk.layer).all()


@quick
@given(clouds)
def test_growth_elsewhere_changes_no_chunk(indices):
    """Live maps: only blocks in which something changed are sent again."""
    far = indices + np.array([10 << BLOCK_BITS, 0, 0], np.int32)
    before, after = arrange(indices), arrange(np.vstack([far, indices]))
    grown = {c.key: c for c in after.chunks}
    for chunk in before.chunks:
        twin = grown[chunk.key]
        old = indices[before.order[chunk.start : chunk.stop]]
        new = np.vstack([far, indices])[after.order[twin.start : twin.stop]]
        assert np.array_equal(old, new)


def test_a_thinned_level_lies_evenly():
    """Of a plane of voxels every quarter keeps its share: 4 standard deviations of drawing by chance, at most."""
    x, y = np.meshgrid(np.arange(256), np.arange(256))
    plane = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1).astype(np.int32)
    budget = 30_000
    arrangement = arrange(plane)
    counts = arrangement.counts(budget)
    rows = np.concatenate([arrangement.order[c.start : c.start + n] for c, n in zip(arrangement.chunks, counts)])
    per_tile = np.bincount((plane[rows, 0] // 32) * 8 + plane[rows, 1] // 32, minlength=64)
    share = budget / 64
    assert np.abs(per_tile - share).max() < 4 * np.sqrt(share)


@quick
@given(clouds)
def test_hashes_are_distinct(indices):
    assert len(np.unique(voxel_hashes(indices))) == len(indices)


def test_hashes_are_distinct_for_a_million_neighbours():
    grid = np.stack(np.meshgrid(*[np.arange(100)] * 3), -1).reshape(-1, 3).astype(np.int32)
    assert len(np.unique(voxel_hashes(grid))) == len(grid)


def test_an_empty_map_and_indices_out_of_range():
    assert arrange(np.zeros((0, 3), np.int32)).chunks == ()
    assert arrange(np.zeros((0, 3), np.int32)).counts(10).sum() == 0
    with pytest.raises(ValueError, match="2\\^20"):
        arrange(np.array([[1 << 20, 0, 0]], np.int32))
