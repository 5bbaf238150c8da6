"""Ids: an object keeps its id while it lives, and no id is used twice."""

import threading

import numpy as np

from mosaic3d_core.query.boxes import fit_upright_box
from mosaic3d_core.query.tracker import InstanceTracker

UP = np.array([0, 0, 1.0])


def cube(corner, side=10):
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return (grid + np.array(corner)).astype(np.int32)


def assign(tracker, text, sets, generation):
    boxes = [fit_upright_box((indices + 0.5) * 0.02, UP, 0.02) for indices in sets]
    return tracker.assign(text, sets, boxes, generation)


def test_ids_follow_objects_that_grow_and_change_order():
    tracker = InstanceTracker()
    a, b = cube((0, 0, 0)), cube((50, 0, 0))
    first = assign(tracker, "chair", [a, b], 1)
    assert len(set(first)) == 2
    assert min(first) >= 1
    assert assign(tracker, "chair", [cube((50, 0, 0), 12), cube((-1, 0, 0), 12)], 2) == first[::-1]


def test_ids_survive_an_absence_but_not_a_reset():
    tracker = InstanceTracker()
    (one,) = assign(tracker, "chair", [cube((0, 0, 0))], 1)
    assert assign(tracker, "chair", [], 2) == []
    assert assign(tracker, "chair", [cube((0, 0, 0))], 3) == [one]
    tracker.reset()
    assert assign(tracker, "chair", [cube((0, 0, 0))], 1) == [one + 1]


def test_texts_do_not_share_ids_and_case_does_not_matter():
    tracker = InstanceTracker()
    (chair,) = assign(tracker, "chair", [cube((0, 0, 0))], 1)
    (seat,) = assign(tracker, "seat", [cube((0, 0, 0))], 1)
    assert chair != seat
    assert assign(tracker, "Chair", [cube((0, 0, 0))], 1) == [chair]


def test_when_an_object_splits_the_larger_part_keeps_the_id():
    tracker = InstanceTracker()
    whole = cube((0, 0, 0), 12)
    (one,) = assign(tracker, "table", [whole], 1)
    large, small = whole[whole[:, 0] < 9], whole[whole[:, 0] >= 10]
    ids = assign(tracker, "table", [small, large], 2)
    assert ids[1] == one
    assert ids[0] != one


def test_voxels_that_moved_are_recognised_by_their_box():
    tracker = InstanceTracker()
    (one,) = assign(tracker, "chair", [cube((0, 0, 0))[::2]], 1)
    assert assign(tracker, "chair", [cube((0, 0, 0))[1::2]], 2) == [one]


def test_memory_stays_bounded():
    tracker = InstanceTracker(max_texts=3, keep_generations=5)
    for k in range(50):
        assign(tracker, f"text {k}", [cube((0, 0, 0), 2)], k)
    assert len(tracker._tracks) == 3
    for k in range(50):
        assign(tracker, "moving", [cube((100 * k, 0, 0), 2)], k)
    assert len(tracker._tracks["moving"]) <= 7


def test_threads_never_get_the_same_new_id():
    tracker = InstanceTracker()
    seen = []

    def work(name):
        for k in range(30):
            seen.extend(assign(tracker, f"{name} {k}", [cube((0, 0, 0), 3)], 1))

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == 60
