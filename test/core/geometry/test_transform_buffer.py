"""The transform tree against a slow twin on random trees, and against tf2 where that is installed."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mosaic3d_core.geometry.transform_buffer import TransformBuffer, TransformLookupError

SECOND = 1_000_000_000
CACHE_S = 10.0
#: Both sides compute in float64; positions are below 20 m and paths below 8 edges.
TOLERANCE = 1e-9


def slow_matrix(place, q):
    """Rotation by the columns q i q*, q j q*, q k q* (quaternion products written out)."""

    def product(a, b):
        ax, ay, az, aw = a
        bx, by, bz, bw = b
        return (
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        )

    conjugate = (-q[0], -q[1], -q[2], q[3])
    out = [[0.0] * 4 for _ in range(4)]
    for column, unit in enumerate(((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))):
        turned = product(product(q, unit), conjugate)
        for row in range(3):
            out[row][column] = turned[row]
    for row in range(3):
        out[row][3] = place[row]
    out[3][3] = 1.0
    return np.array(out)


def slow_slerp(a, b, share):
    cosine = sum(x * y for x, y in zip(a, b, strict=True))
    if cosine < 0:
        b, cosine = tuple(-x for x in b), -cosine
    angle = math.acos(min(1.0, cosine))
    if math.sin(angle) < 1e-9:
        mixed = [(1 - share) * x + share * y for x, y in zip(a, b, strict=True)]
    else:
        wa, wb = math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
        mixed = [wa * x + wb * y for x, y in zip(a, b, strict=True)]
    length = math.sqrt(sum(x * x for x in mixed))
    return tuple(x / length for x in mixed)


class SlowTree:
    """All samples of all edges in lists; a lookup walks to the root from both ends and multiplies."""

    def __init__(self):
        self.parent, self.samples, self.static = {}, {}, set()

    def set(self, parent, child, stamp, place, q, static):
        self.parent[child] = parent
        self.samples.setdefault(child, {})[stamp] = (place, q)
        if static:
            self.static.add(child)
            self.samples[child] = {0: (place, q)}

    def edge(self, child, stamp):
        """T_parent_child, or None outside the known times."""
        samples = self.samples[child]
        if child in self.static:
            return slow_matrix(*samples[0])
        if stamp in samples:
            return slow_matrix(*samples[stamp])
        before = [s for s in samples if s < stamp]
        after = [s for s in samples if s > stamp]
        if not before or not after:
            return None
        t0, t1 = max(before), min(after)
        share = (stamp - t0) / (t1 - t0)
        (p0, q0), (p1, q1) = samples[t0], samples[t1]
        return slow_matrix([(1 - share) * a + share * b for a, b in zip(p0, p1, strict=True)], slow_slerp(q0, q1, share))

    def up(self, frame):
        path = [frame]
        while path[-1] in self.parent:
            path.append(self.parent[path[-1]])
        return path

    def lookup(self, target, source, stamp):
        """T_target_source, None where tf2 would refuse."""
        up_target, up_source = self.up(target), self.up(source)
        shared = [f for f in up_source if f in up_target]
        if not shared:
            return None
        edges = []
        for path in (up_target, up_source):
            total = np.eye(4)
            for child in path[: path.index(shared[0])]:
                step = self.edge(child, stamp)
                if step is None:
                    return None
                total = step @ total
            edges.append(total)
        return np.linalg.inv(edges[0]) @ edges[1]


@st.composite
def trees(draw):
    """Frames f0..fn, each with a parent before it (or none), static or with stamps within the history of the buffer."""
    count = draw(st.integers(2, 7))
    numbers = st.floats(-10, 10)
    edges = []
    for child in range(1, count):
        parent = draw(st.integers(-1 if child > 2 else 0, child - 1))
        if parent < 0:
            continue
        static = draw(st.booleans())
        stamps = [0] if static else draw(st.lists(st.integers(1, 9_000), min_size=1, max_size=5, unique=True))
        turns: list[np.ndarray] = []
        for stamp in stamps:
            q = np.array(draw(st.tuples(numbers, numbers, numbers, numbers)))
            q = np.array([0, 0, 0, 1.0]) if np.linalg.norm(q) < 0.1 else q / np.linalg.norm(q)
            # between turns half a revolution apart there are two ways that are equally short, and both are right
            assume(all(abs(q @ other) > 1e-6 for other in turns))
            turns.append(q)
            place = draw(st.tuples(numbers, numbers, numbers))
            edges.append((f"f{parent}", f"f{child}", 100 * SECOND + stamp * 1_000_000, place, tuple(q.tolist()), static))
    ends = draw(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)))
    return edges, f"f{ends[0]}", f"f{ends[1]}", 100 * SECOND + draw(st.integers(1, 9_000)) * 1_000_000


def filled(edges):
    # the jump that means a new beginning is longer than the stamps are apart: any order of arrival is an ordinary one
    buffer, twin = TransformBuffer(CACHE_S, jump_back_s=60.0), SlowTree()
    for parent, child, stamp, place, q, static in edges:
        buffer.set(parent, child, stamp, slow_matrix(place, q), static)
        twin.set(parent, child, stamp, place, q, static)
    return buffer, twin


@settings(max_examples=300)
@given(trees())
def test_lookups_on_random_trees_equal_the_slow_twin(case):
    edges, target, source, stamp = case
    buffer, twin = filled(edges)
    wanted = np.eye(4) if target == source else twin.lookup(target, source, stamp)
    if wanted is None:
        with pytest.raises(TransformLookupError):
            buffer.lookup(target, source, stamp)
    elif target == source or {target, source} <= set(buffer.frames()):
        np.testing.assert_allclose(buffer.lookup(target, source, stamp), wanted, atol=TOLERANCE)


@settings(max_examples=100)
@given(trees())
def test_without_a_time_all_edges_are_taken_at_the_newest_time_they_share(case):
    edges, target, source, _ = case
    buffer, twin = filled(edges)
    if target == source or not {target, source} <= set(buffer.frames()):
        return
    up_target, up_source = twin.up(target), twin.up(source)
    shared = [f for f in up_source if f in up_target]
    moving = [c for p in (up_target, up_source) if shared for c in p[: p.index(shared[0])] if c not in twin.static]
    stamp = min((max(twin.samples[c]) for c in moving), default=1)
    wanted = twin.lookup(target, source, stamp)
    if wanted is None:
        with pytest.raises(TransformLookupError):
            buffer.lookup(target, source)
    else:
        np.testing.assert_allclose(buffer.lookup(target, source), wanted, atol=TOLERANCE)


@settings(max_examples=200)
@given(trees())
def test_lookups_on_random_trees_equal_tf2(case):
    # the C++ buffer that tf2_ros.Buffer is made of, without the node that feeds it
    tf2 = pytest.importorskip("tf2_py", reason="tf2 comes with a ROS installation only")
    from geometry_msgs.msg import TransformStamped
    from rclpy.duration import Duration
    from rclpy.time import Time

    edges, target, source, stamp = case
    buffer, _ = filled(edges)
    theirs = tf2.BufferCore(Duration(seconds=CACHE_S))
    for parent, child, time, place, q, static in edges:
        message = TransformStamped(child_frame_id=child)
        message.header.frame_id = parent
        message.header.stamp = Time(nanoseconds=time).to_msg()
        move, turn = message.transform.translation, message.transform.rotation
        move.x, move.y, move.z = place
        turn.x, turn.y, turn.z, turn.w = q
        (theirs.set_transform_static if static else theirs.set_transform)(message, "test")
    for time in (stamp, None):
        try:
            found = theirs.lookup_transform_core(target, source, Time(nanoseconds=time or 0)).transform
        except tf2.TransformException:
            if target != source:
                with pytest.raises(TransformLookupError):
                    buffer.lookup(target, source, time)
            continue
        move, turn = found.translation, found.rotation
        wanted = slow_matrix((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
        np.testing.assert_allclose(buffer.lookup(target, source, time), wanted, atol=TOLERANCE)


def test_over_a_gap_only_what_stood_still_has_a_pose():
    buffer = TransformBuffer(max_gap_s=0.5)
    there = np.eye(4)
    there[0, 3] = 1.0
    for second, pose in ((0.0, np.eye(4)), (0.4, there), (2.0, there), (3.0, np.eye(4))):
        buffer.set("map", "camera", round(second * 1e9), pose)
    assert np.isclose(buffer.lookup("map", "camera", round(0.2e9))[0, 3], 0.5)
    assert np.isclose(buffer.lookup("map", "camera", round(1.2e9))[0, 3], 1.0)
    with pytest.raises(TransformLookupError, match="would be a guess") as error:
        buffer.lookup("map", "camera", round(2.5e9))
    assert error.value.reason == "pose_gap"
    unlimited = TransformBuffer()
    for second, pose in ((2.0, there), (3.0, np.eye(4))):
        unlimited.set("map", "camera", round(second * 1e9), pose)
    assert np.isclose(unlimited.lookup("map", "camera", round(2.5e9))[0, 3], 0.5)
