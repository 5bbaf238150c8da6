"""Connected components: the same parts that a plain flood fill finds, whatever the order of the voxels.

Invariant (*): two voxels have the same number  <=>  a chain of voxels of their group joins them, each at most
``reach`` cells (Chebyshev) from the next.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mosaic3d_core.query.components import connected_components, pack_indices


def flood_fill(indices, groups, reach):
    """Slow twin: a dictionary of voxels and a stack."""
    rows = {tuple(index): k for k, index in enumerate(indices.tolist())}
    numbers = [-1] * len(indices)
    steps = range(-reach, reach + 1)
    count = 0
    for start in range(len(indices)):
        if numbers[start] >= 0:
            continue
        stack, numbers[start] = [start], count
        while stack:
            k = stack.pop()
            x, y, z = indices[k].tolist()
            for dx in steps:
                for dy in steps:
                    for dz in steps:
                        j = rows.get((x + dx, y + dy, z + dz))
                        if j is not None and numbers[j] < 0 and groups[j] == groups[k]:
                            numbers[j] = count
                            stack.append(j)
        count += 1
    return np.array(numbers, np.int64), count


clouds = hnp.arrays(np.int32, st.tuples(st.integers(0, 60), st.just(3)), elements=st.integers(-6, 6))


@given(clouds, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_agrees_with_a_flood_fill(cloud, reach, num_groups, seed):
    indices = np.unique(cloud, axis=0)
    rng = np.random.default_rng(seed)
    indices = indices[rng.permutation(len(indices))]
    groups = rng.integers(0, num_groups, len(indices))
    numbers, count = connected_components(indices, groups, reach=reach)
    expected, expected_count = flood_fill(indices, groups, reach)
    assert count == expected_count
    assert (numbers == expected).all()


@given(clouds, st.integers(1, 3))
@settings(max_examples=60)
def test_scattered_clouds_give_the_same_parts_by_way_of_the_hash(cloud, reach):
    indices = np.unique(cloud, axis=0)
    far = np.array([[500_000, -500_000, 400_000]])  # makes the bounding box far too large for a table
    numbers, count = connected_components(np.vstack([indices, far]), reach=reach)
    expected, expected_count = flood_fill(indices, np.zeros(len(indices)), reach)
    assert count == expected_count + 1
    assert (numbers[:-1] == expected).all()


@given(clouds, st.tuples(*[st.integers(-100_000, 100_000)] * 3))
@settings(max_examples=50)
def test_moving_the_cloud_changes_nothing(cloud, shift):
    indices = np.unique(cloud, axis=0)
    here, _ = connected_components(indices)
    there, _ = connected_components(indices + np.array(shift))
    assert (here == there).all()


def test_no_voxel_and_one_voxel():
    assert connected_components(np.zeros((0, 3), int))[1] == 0
    numbers, count = connected_components(np.array([[5, -7, 0]]))
    assert (numbers.tolist(), count) == ([0], 1)


def test_keys_are_unique_at_the_edges_of_the_range():
    limit = 2**20 - 10
    grid = np.array([[x, y, z] for x in (-limit, 0, limit) for y in (-limit, 0, limit) for z in (-limit, 0, limit)])
    assert len(np.unique(pack_indices(grid))) == 27


def test_out_of_range_is_refused():
    with pytest.raises(ValueError, match="voxel indices must lie within"):
        pack_indices(np.array([[0, 0, 2**21]]))
    with pytest.raises(ValueError, match="reach must be 1 to 4"):
        connected_components(np.zeros((1, 3), int), reach=0)
    with pytest.raises(ValueError, match="groups must have shape"):
        connected_components(np.zeros((1, 3), int), np.zeros(2, int))
