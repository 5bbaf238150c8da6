"""Pairing of colour and depth by time."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_ros.time_sync import PairSynchronizer

MS = 1_000_000


def make(slop_s=0.02, queue_size=5):
    pairs, drops = [], []
    return PairSynchronizer(slop_s, queue_size, lambda d, c: pairs.append((d, c)), drops.append), pairs, drops


def test_equal_stamps_pair_at_once_in_any_order():
    sync, pairs, drops = make()
    sync.add_depth(0, "d0")
    sync.add_color(0, "c0")
    sync.add_color(33 * MS, "c1")
    sync.add_depth(33 * MS, "d1")
    assert pairs == [("d0", "c0"), ("d1", "c1")]
    assert not drops


def test_nearest_color_within_the_slop_wins():
    sync, pairs, _ = make()
    sync.add_depth(33 * MS, "d")
    sync.add_color(20 * MS, "far")
    sync.add_color(35 * MS, "near")
    assert pairs == [("d", "near")]


def test_depth_without_partner_is_counted():
    sync, pairs, drops = make()
    sync.add_depth(0, "d0")
    sync.add_color(100 * MS, "c")
    assert pairs == []
    assert drops == ["no_color"]


def test_queues_are_bounded():
    sync, _, drops = make(queue_size=3)
    for k in range(10):
        sync.add_depth(k * 33 * MS, k)
    assert drops == ["no_color"] * 7


def test_no_interleaving_of_the_two_streams_loses_anything():
    for seed in range(20):
        sync, pairs, drops = make(queue_size=100)
        generator = random.Random(seed)
        ahead = {"d": 0, "c": 0}
        while min(ahead.values()) < 60:
            kind = generator.choice("dc") if max(ahead.values()) < 60 else min(ahead, key=ahead.get)
            (sync.add_depth if kind == "d" else sync.add_color)(ahead[kind] * 33 * MS, (kind, ahead[kind]))
            ahead[kind] += 1
        assert [(d[1], c[1]) for d, c in pairs] == [(k, k) for k in range(60)]
        assert not drops


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from("dcx"), st.integers(0, 60)), max_size=80), st.integers(1, 6))
def test_every_image_is_paired_dropped_unused_or_waiting(events, queue_size):
    """Any order, any rates, equal stamps, and clearing in between; partners are never further apart than the slop."""
    pairs, drops, unused = [], [], []
    sync = PairSynchronizer(0.02, queue_size, lambda d, c: pairs.append((d, c)), drops.append, lambda: unused.append(1))
    came = {"d": 0, "c": 0}
    for kind, moment in events:
        if kind == "x":
            sync.clear("time_jump")
            continue
        came[kind] += 1
        (sync.add_depth if kind == "d" else sync.add_color)(moment * 7 * MS, moment * 7)
        depth, color = sync.waiting
        assert came["d"] == len(pairs) + len(drops) + depth
        assert came["c"] == len(pairs) + len(unused) + color
        assert max(depth, color) <= queue_size
    assert all(abs(d - c) <= 20 for d, c in pairs)
    assert set(drops) <= {"no_color", "time_jump"}
