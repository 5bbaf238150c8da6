"""Instances that live on: ids stay through growth, flicker and absence; merges, splits, removal and moves are noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.scene_encoder import FeatureMap
from mosaic3d_core.query.instance_map import GONE, PRESENT, UNSEEN, InstanceMap, InstanceMapConfig
from mosaic3d_core.query.proposals import Proposal

S = 1_000_000_000


def block(x: int, y: int = 0, size: int = 4) -> np.ndarray:
    """A cube of cells."""
    steps = np.arange(size)
    return np.stack(np.meshgrid(steps + x, steps + y, steps, indexing="ij"), -1).reshape(-1, 3)


class World:
    """A map of blocks, and what a source proposes of it."""

    def __init__(self, *blocks: np.ndarray) -> None:
        self.cells = np.unique(np.concatenate(blocks), axis=0)
        self.seen = np.zeros(len(self.cells), np.int64)

    def encoded(self, second: float, order: np.random.Generator | None = None) -> FeatureMap:
        rows = np.arange(len(self.cells)) if order is None else order.permutation(len(self.cells))
        cells = self.cells[rows].astype(np.int32)
        n, points = len(cells), (self.cells[rows] * 0.04 + 0.02).astype(np.float32)
        zeros = np.zeros((n, 3), np.float32)
        snapshot = MapSnapshot(1, int(second * S), 0.04, cells, points, zeros, zeros, np.ones(n, np.float32), self.seen[rows])
        head = FoldedHead(np.eye(3, dtype=np.float32))
        features = np.ones((n, 3), np.float32)
        return FeatureMap(snapshot, features, head.norms(features), np.arange(n), cells, 0.04, head, "none", 20.0, 0.0)

    def look(self, second: float) -> None:
        self.seen[:] = int(second * S)


def propose(features: FeatureMap, *blocks: np.ndarray, quality: float = 0.9) -> list[Proposal]:
    found = []
    for cells in blocks:
        wanted = {tuple(c) for c in cells.tolist()}
        rows = np.array([k for k, c in enumerate(features.cells.tolist()) if tuple(c) in wanted], np.int64)
        found.append(Proposal(rows, quality, np.full(3, len(rows), np.float32)))
    return found


def ids(instances, state=PRESENT):
    return [one.id for one in instances if one.state == state]


def cells_of(instances, features):
    return {one.id: {tuple(c) for c in features.cells[one.cells].tolist()} for one in instances}


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_things_keep_their_ids_in_any_order_of_voxels_and_proposals(seed):
    rng = np.random.default_rng(seed)
    blocks = [block(6 * k, size=int(rng.integers(2, 5))) for k in range(5)]
    world, living = World(*blocks), InstanceMap()
    first = None
    for step in range(5):
        world.look(step)
        features = world.encoded(step, rng)
        shown = [blocks[k] for k in rng.permutation(5)]
        # a few voxels are missing from each mask, others each time
        shown = [cells[np.sort(rng.permutation(len(cells))[: max(2, int(0.8 * len(cells)))])] for cells in shown]
        found = cells_of(living.update(features, propose(features, *shown)), features)
        assert all(a.isdisjoint(b) for i, a in found.items() for j, b in found.items() if i != j)
        places = {int(np.mean(list(cells), 0)[0] // 6): i for i, cells in found.items()}
        first = first or places
        assert places == first


def test_a_thing_that_comes_into_view_bit_by_bit_is_one_thing():
    thing = block(0, size=6)
    living = InstanceMap()
    for step, share in enumerate((0.2, 0.4, 0.7, 1.0)):
        part = thing[: int(share * len(thing))]
        world = World(part)
        world.look(step)
        features = world.encoded(step)
        (one,) = living.update(features, propose(features, part))
        assert one.id == 1
        assert len(one.cells) == len(part)
    assert one.views == 4
    assert (one.first_seen_ns, one.last_seen_ns) == (0, 3 * S)


def test_a_single_proposal_over_two_things_changes_nothing_and_a_lasting_one_joins_them():
    a, b = block(0), block(4)
    world, living = World(a, b), InstanceMap()
    both = np.concatenate([a, b])
    features = world.encoded(0)
    assert ids(living.update(features, propose(features, a, b))) == [1, 2]
    for masks in ([both], [both], [a, b], [both], [both]):  # never three times in a row
        found = living.update(features, propose(features, *masks))
        assert ids(found) == [1, 2]
        assert cells_of(found, features)[2] in ({tuple(c) for c in a.tolist()}, {tuple(c) for c in b.tolist()})
    found = living.update(features, propose(features, both))
    assert ids(found) == [1]  # the older id lives on
    assert len(found[0].cells) == len(both)
    assert living.current_id(2) == 1


def test_one_thing_that_turns_out_to_be_two_splits_after_some_patience():
    a, b = block(0, size=4), block(4, size=3)
    world, living = World(a, b), InstanceMap()
    features = world.encoded(0)
    both = np.concatenate([a, b])
    assert ids(living.update(features, propose(features, both))) == [1]
    for _ in range(2):
        assert ids(living.update(features, propose(features, a, b))) == [1]
    found = living.update(features, propose(features, a, b))
    assert ids(found) == [1, 2]
    places = cells_of(found, features)
    assert places[1] == {tuple(c) for c in a.tolist()}  # the larger part keeps the id
    assert places[2] == {tuple(c) for c in b.tolist()}
    for _ in range(2):  # one proposal over both, twice: not believed
        assert ids(living.update(features, propose(features, both))) == [1, 2]


def test_an_id_goes_to_what_is_like_its_thing_not_to_what_swallows_it_for_a_moment():
    thing, beside, large = block(0), block(0, y=4), block(4, size=9)
    world, living = World(thing, beside, large), InstanceMap()
    features = world.encoded(0)
    assert ids(living.update(features, propose(features, thing))) == [1]
    drifted = np.concatenate([thing[thing[:, 1] >= 2], beside[beside[:, 1] < 6]])  # half of it, and as much of what is beside it
    everything = np.concatenate([thing, large])
    found = living.update(features, propose(features, everything, drifted))
    assert len(next(one.cells for one in found if one.id == 1)) < len(large) / 2
    found = cells_of(living.update(features, propose(features, thing, large)), features)
    assert found[1] == {tuple(c) for c in thing.tolist()}


def test_what_is_not_proposed_or_not_in_view_stays_and_says_when_it_was_seen():
    a, b = block(0), block(10)
    world, living = World(a, b), InstanceMap()
    features = world.encoded(0)
    living.update(features, propose(features, a, b))
    world.seen[world.cells[:, 0] < 5] = 20 * S  # the camera looks at the first one
    features = world.encoded(20)
    found = living.update(features, propose(features, a))
    assert (ids(found), ids(found, UNSEEN)) == ([1], [2])
    assert found[1].last_seen_ns == 0
    assert len(found[1].cells) == len(b)
    world.look(30)
    features = world.encoded(30)
    assert ids(living.update(features, propose(features, a, b))) == [1, 2]


def test_a_removed_thing_is_gone_and_a_moved_one_is_found_at_its_new_place():
    a, b = block(0), block(10)
    living = InstanceMap()
    before = World(a, b).encoded(0)
    living.update(before, propose(before, a, b))
    moved = block(20)
    after = World(a, moved).encoded(2)
    found = living.update(after, propose(after, a, moved))
    assert (ids(found), ids(found, GONE)) == ([1, 3], [2])
    gone = found[1]
    assert len(gone.cells) == 0
    later = World(a, moved).encoded(40)
    assert [one.id for one in living.update(later, propose(later, a, moved))] == [1, 3]  # no longer reported
    partly = World(a[:50], moved).encoded(41)
    assert ids(living.update(partly, propose(partly, a[:50], moved)), UNSEEN) == [1, 3]


def test_what_comes_back_to_its_place_has_its_old_id_and_another_thing_has_not():
    a, b = block(0), block(10)
    living = InstanceMap(InstanceMapConfig(keep_gone_s=20.0))
    both, alone = World(a, b), World(a)
    both.look(0)
    features = both.encoded(0)
    living.update(features, propose(features, a, b))
    features = alone.encoded(2)
    assert ids(living.update(features, propose(features, a)), GONE) == [2]
    other = World(a, block(12, y=20))
    features = other.encoded(4)
    assert 3 in [one.id for one in living.update(features, propose(features, a, block(12, y=20)))]
    both.look(6)
    features = both.encoded(6)
    found = living.update(features, propose(features, a, b))
    assert 2 in ids(found)
    assert next(one for one in found if one.id == 2).first_seen_ns == 0
    features = alone.encoded(10)
    living.update(features, propose(features, a))
    features = alone.encoded(40)  # long gone
    living.update(features, propose(features, a))
    both.look(41)
    features = both.encoded(41)
    assert ids(living.update(features, propose(features, a, b))) == [1, 4]


def test_a_thing_that_was_proposed_once_and_never_again_is_dropped():
    a, b = block(0), block(10)
    world, living = World(a, b), InstanceMap(InstanceMapConfig(spurious_misses=4))
    features = world.encoded(0)
    living.update(features, propose(features, a, b))
    for _ in range(3):
        assert ids(living.update(features, propose(features, a))) == [1, 2]
    assert ids(living.update(features, propose(features, a))) == [1]


def test_features_and_qualities_are_running_means():
    a = block(0)
    world, living = World(a), InstanceMap()
    features = world.encoded(0)
    for quality in (0.2, 0.4, 0.9):
        (one,) = living.update(features, propose(features, a, quality=quality))
    assert np.isclose(one.quality, 0.5)
    assert np.allclose(one.feature, 64)
    half = a[:32]
    (one,) = living.update(features, propose(features, half))
    assert np.allclose(one.feature, (3 * 64 + 32) / 4)


def test_an_empty_map_and_no_proposals_are_no_trouble():
    living = InstanceMap()
    empty = World(np.zeros((0, 3), int)).encoded(0)
    assert living.update(empty, []) == ()
    a = block(0)
    features = World(a).encoded(1)
    assert living.update(features, []) == ()
    assert ids(living.update(features, propose(features, a))) == [1]
    assert ids(living.update(empty, []), GONE) == [1]


def test_after_a_reset_ids_go_on():
    a = block(0)
    features = World(a).encoded(0)
    living = InstanceMap()
    living.update(features, propose(features, a))
    living.reset()
    assert living.instances == ()
    assert ids(living.update(features, propose(features, a))) == [2]


@pytest.mark.parametrize("change", [{"min_overlap": 0.0}, {"patience": 0}, {"recent_s": -1.0}, {"vanished": 2.0}])
def test_settings_without_sense_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        InstanceMapConfig(**change)


def test_the_newest_instances_may_vanish_down_to_a_few_voxels_of_the_map():
    """What is left of them is still in the map, but belongs to nobody: their ids are above all others."""
    old, new, newest = block(0, size=4), block(10, size=6), block(20, size=6)
    living = InstanceMap()
    features = World(old, new, newest).encoded(1.0)
    living.update(features, propose(features, old, new, newest))
    features = World(old, new[:20], newest[:20]).encoded(2.0)  # under a third of them
    found = living.update(features, propose(features, old))
    assert [one.state for one in found] == [PRESENT, GONE, GONE]
