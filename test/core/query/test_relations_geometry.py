"""Spatial predicates: against slow obvious twins, and what they must not depend on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.query.boxes import fit_upright_box
from mosaic3d_core.query.relations.config import RelationConfig
from mosaic3d_core.query.relations.geometry import grade, grades_between, ramp, upper_bound
from mosaic3d_core.query.relations.shapes import Shape, bounds_distance, distance, outline_distance, outline_of
from mosaic3d_core.query.relations.viewpoint import Viewpoint, is_optical_name
from mosaic3d_core.query.relations.words import DIRECTIONS, Relation

CONFIG = RelationConfig()
UP = np.array([0.0, 0, 1])
VOXEL = 0.04
ROUNDING = 1e-9  # metres and grades: sums of a few float64 numbers of size 10
ONE_ANCHOR = [r for r in Relation if r not in (Relation.BETWEEN, Relation.FAR)]
EAST = Viewpoint(np.zeros(3), np.array([1.0, 0.0]), np.array([0.0, 1.0]))


def block(center, size, step=VOXEL):
    """The voxels of a solid block."""
    axes = [np.arange(-s / 2 + step / 2, s / 2, step) if s >= step else np.zeros(1) for s in size]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3) + np.asarray(center, float)
    return Shape(points, step, fit_upright_box(points, UP, step))


def cloud(seed, count, center=(0, 0, 0), spread=1.0):
    points = np.random.default_rng(seed).uniform(-spread, spread, (count, 3)) + np.asarray(center, float)
    return Shape(points, VOXEL, fit_upright_box(points, UP, VOXEL))


places = st.tuples(*[st.floats(-4, 4)] * 3)
sizes = st.tuples(*[st.floats(0.05, 1.2)] * 3)
blocks = st.builds(lambda c, s: block(c, s, 0.1), places, sizes)


def slow_distance(a, b):
    return min(math.dist(p, q) for p in a.points for q in b.points)


def slow_outline_distance(points, place):
    """0 if the place is a mix of three points, else the distance to the nearest segment between two."""

    def to_segment(p, q):
        edge, way = q - p, place - p
        share = np.clip(way @ edge / max(edge @ edge, 1e-18), 0, 1)
        return float(np.linalg.norm(way - share * edge))

    for a, b, c in itertools.combinations(points, 3):
        matrix = np.column_stack([b - a, c - a])
        if abs(np.linalg.det(matrix)) > 1e-12:
            s, t = np.linalg.solve(matrix, place - a)
            if s >= 0 and t >= 0 and s + t <= 1:
                return 0.0
    return min(to_segment(p, q) for p in points for q in points)


# Kernels ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 60), places)
def test_distance_is_that_of_the_nearest_voxels(seed, n, m, center):
    a, b = cloud(seed, n), cloud(seed + 1, m, center)
    assert distance(a, b) == pytest.approx(slow_distance(a, b), abs=ROUNDING)
    assert bounds_distance(a, b) <= distance(a, b) + ROUNDING


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(200, 900), places)
def test_distance_is_exact_for_large_things_too(seed, n, center):
    a, b = cloud(seed, n), cloud(seed + 1, 700, center)
    every = np.linalg.norm(a.points[:, None] - b.points[None], axis=2).min()
    assert distance(a, b) == pytest.approx(every, abs=ROUNDING)
    assert distance(a, b) == pytest.approx(distance(b, a), abs=ROUNDING)


@given(st.integers(0, 10_000), st.integers(1, 7), st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_outline_distance_is_that_to_the_nearest_mix_of_points(seed, n, place):
    points = np.random.default_rng(seed).uniform(-1, 1, (n, 2))
    found = outline_distance(outline_of(points), np.array([place]))[0]
    assert found == pytest.approx(slow_outline_distance(points, np.array(place)), abs=1e-6)


def test_outline_of_points_in_a_line_is_the_line():
    points = np.array([[0.0, 0], [1, 1], [3, 3], [2, 2]])
    assert outline_distance(outline_of(points), np.array([[0.0, 2.0], [4.0, 4.0], [1.5, 1.5]])) == pytest.approx(
        [math.sqrt(2), math.sqrt(2), 0.0]
    )


@given(st.floats(-10, 10), st.tuples(st.floats(0, 5), st.floats(0, 5)).filter(lambda x: abs(x[0] - x[1]) > 1e-3))
def test_a_ramp_falls_from_its_first_number_to_its_second(value, limits):
    full, none = limits
    expected = np.interp(value, sorted(limits), [1.0, 0.0] if full < none else [0.0, 1.0])
    assert ramp(value, limits) == pytest.approx(expected, abs=1e-9)


# Predicates against twins -----------------------------------------------------------------------------------


ON_IT = 1e-6  # metres: a place on the outline is over the thing, whichever way the last digit falls


def slow_grade(relation, thing, anchor, view):
    """The definitions of docs/query.md, voxel by voxel. For relations of distance and direction."""
    limits = {Relation.NEAR: CONFIG.near_m, Relation.AGAINST: CONFIG.against_m, Relation.BESIDE: CONFIG.beside_m}
    if relation in limits:
        value = ramp(slow_distance(thing, anchor), limits[relation])
        if relation is Relation.BESIDE:
            tops, bottoms = [max(s.points[:, 2]) for s in (thing, anchor)], [min(s.points[:, 2]) for s in (thing, anchor)]
            shared = min(tops) - max(bottoms) + thing.voxel_size_m
            lower = min(t - b + thing.voxel_size_m for t, b in zip(tops, bottoms, strict=True))
            value = min(value, ramp(shared / lower, CONFIG.beside_overlap))
        return value
    axis = {Relation.LEFT: view.left, Relation.RIGHT: -view.left, Relation.FRONT: -view.forward, Relation.BEHIND: view.forward}
    middle = (thing.points.max(0) + thing.points.min(0))[:2] / 2
    corners = outline_of(anchor.points[:, :2])
    if slow_outline_distance(corners, middle) < ON_IT:
        return 0.0
    # the nearest of many places along the outline
    ends = np.roll(corners, -1, axis=0)
    border = np.vstack([np.linspace(p, q, 2001) for p, q in zip(corners, ends, strict=True)])
    way = middle - border[np.linalg.norm(border - middle, axis=1).argmin()]
    length = np.linalg.norm(way)
    off = math.degrees(math.acos(np.clip(way @ axis[relation] / length, -1, 1)))
    return min(ramp(off, CONFIG.direction_deg), ramp(length, CONFIG.direction_reach_m))


def test_a_thing_is_on_no_side_of_what_stands_in_its_place():
    thin = block((0.5, 0.0, 0.0), (0.5, 0.125, 1.0), 0.1)  # one row of voxels: its middle lies on its outline
    forward = np.array([1.0, 0.0])
    view = Viewpoint(np.zeros(3), forward, np.array([0.0, 1.0]))
    for relation in DIRECTIONS:
        assert grade(relation, thin, thin, view, CONFIG).value == 0.0


@settings(max_examples=40)
@given(blocks, blocks, st.floats(0, 6.28), st.sampled_from([Relation.NEAR, Relation.AGAINST, Relation.BESIDE, *DIRECTIONS]))
def test_grades_equal_their_definition(thing, anchor, heading, relation):
    forward = np.array([np.cos(heading), np.sin(heading)])
    view = Viewpoint(np.zeros(3), forward, np.array([-forward[1], forward[0]]))
    found = grade(relation, thing, anchor, view, CONFIG).value
    # the twin walks the outline in steps of up to 1 mm, which turns ways of some centimetres by a degree
    assert found == pytest.approx(slow_grade(relation, thing, anchor, view), abs=0.04)


@settings(max_examples=40)
@given(blocks, blocks, blocks)
def test_between_is_the_angle_at_the_thing(thing, first, second):
    grades, angles = grades_between(thing, [first, first], [second], CONFIG)
    assert grades.shape == (2, 1)
    middle = thing.center[:2]
    if min(slow_outline_distance(one.outline, middle) for one in (first, second)) < ON_IT:
        assert (grades == 0).all()
        return
    ways = []
    for anchor in (first, second):
        ends = np.roll(anchor.outline, -1, axis=0)
        border = np.vstack([np.linspace(p, q, 2001) for p, q in zip(anchor.outline, ends, strict=True)])
        ways.append(border[np.linalg.norm(border - middle, axis=1).argmin()] - middle)
    expected = math.degrees(math.acos(np.clip(ways[0] @ ways[1] / np.prod([np.linalg.norm(w) for w in ways]), -1, 1)))
    if min(np.linalg.norm(w) for w in ways) > 0.02:  # nearer, a step of the twin turns the way by degrees
        assert angles[0, 0] == pytest.approx(expected, abs=5.0)
        assert grades[1, 0] == pytest.approx(ramp(angles[0, 0], CONFIG.between_deg))


@settings(max_examples=150)
@given(blocks, blocks, st.sampled_from(ONE_ANCHOR))
def test_grades_lie_between_0_and_the_bound_of_the_boxes(thing, anchor, relation):
    graded = grade(relation, thing, anchor, EAST, CONFIG)
    assert 0.0 <= graded.value <= upper_bound(relation, thing, anchor, CONFIG) + ROUNDING
    assert graded.words.count("{}") == 1


@settings(max_examples=80)
@given(blocks, blocks, st.sampled_from(ONE_ANCHOR), st.floats(0, 6.28), places)
def test_grades_do_not_depend_on_where_the_map_begins_or_points_to(thing, anchor, relation, angle, shift):
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

    def moved(shape):
        points = shape.points @ turn.T + shift
        return Shape(points, shape.voxel_size_m, fit_upright_box(points, UP, shape.voxel_size_m))

    # bounds and columns lie along the map's axes, so of shapes seen at an angle only these relations are exactly the same
    straight = relation in (Relation.NEAR, Relation.AGAINST, Relation.BESIDE)
    if not straight:
        turn = np.eye(3)
        shift = np.round(np.asarray(shift) / 0.05) * 0.05  # whole columns
    view = Viewpoint(np.asarray(shift, float), turn[:2, :2] @ EAST.forward, turn[:2, :2] @ EAST.left)
    before = grade(relation, thing, anchor, EAST, CONFIG).value
    after = grade(relation, moved(thing), moved(anchor), view, CONFIG).value
    assert after == pytest.approx(before, abs=1e-6 if straight or relation in DIRECTIONS else 0.3)


@given(blocks, blocks)
def test_left_and_right_front_and_behind_exclude_each_other(thing, anchor):
    for one, other in ((Relation.LEFT, Relation.RIGHT), (Relation.FRONT, Relation.BEHIND)):
        grades = [grade(relation, thing, anchor, EAST, CONFIG).value for relation in (one, other)]
        assert min(grades) == 0.0


# Predicates on things whose relations are plain to see --------------------------------------------------------

TABLE_TOP = block((0, 0, 0.74), (1.2, 0.8, 0.04))
LEGS = [block((x, y, 0.36), (0.06, 0.06, 0.72)).points for x in (-0.5, 0.5) for y in (-0.3, 0.3)]
TABLE_POINTS = np.vstack([TABLE_TOP.points, *LEGS])
TABLE = Shape(TABLE_POINTS, VOXEL, fit_upright_box(TABLE_POINTS, UP, VOXEL))
SHELF_POINTS = np.vstack(
    [*[block((3, 0, z), (0.8, 0.32, 0.04)).points for z in (0.1, 0.5, 0.9, 1.3)],
     *[block((3 + x, 0, 0.7), (0.04, 0.32, 1.3)).points for x in (-0.42, 0.42)]]
)  # fmt: skip
SHELF = Shape(SHELF_POINTS, VOXEL, fit_upright_box(SHELF_POINTS, UP, VOXEL))
FLOOR = block((0, 0, 0), (6, 6, 0.04))
WALL = block((0, 3, 1.25), (6, 0.04, 2.5))
CEILING = block((0, 0, 2.5), (6, 6, 0.04))
CUP = block((0.3, 0.1, 0.82), (0.08, 0.08, 0.12))
BOX_BELOW = block((0.1, 0, 0.22), (0.4, 0.4, 0.36))
CHAIR = block((0, 0.75, 0.45), (0.44, 0.44, 0.84))
BOOK = block((3, 0, 0.64), (0.08, 0.2, 0.24))
PICTURE = block((1, 2.94, 1.6), (0.6, 0.04, 0.5))
PENDANT = block((0, 0, 2.28), (0.3, 0.3, 0.36))
SOFA = block((1, 2.45, 0.4), (1.8, 0.8, 0.7))

HOLDS = [
    (CUP, Relation.ON, TABLE),
    (CHAIR, Relation.ON, FLOOR),
    (BOX_BELOW, Relation.ON, FLOOR),
    (PICTURE, Relation.ON, WALL),
    (PENDANT, Relation.ON, CEILING),
    (BOOK, Relation.ON, SHELF),
    (BOX_BELOW, Relation.UNDER, TABLE),
    (TABLE, Relation.ON, FLOOR),
    (CUP, Relation.ABOVE, BOX_BELOW),
    (PICTURE, Relation.ABOVE, SOFA),
    (SOFA, Relation.UNDER, PICTURE),
    (BOOK, Relation.IN, SHELF),
    (CHAIR, Relation.BESIDE, TABLE),
    (CHAIR, Relation.NEAR, TABLE),
    (SOFA, Relation.AGAINST, WALL),
    (PENDANT, Relation.ABOVE, TABLE),
]
FAILS = [
    (BOX_BELOW, Relation.ON, TABLE),
    (CHAIR, Relation.ON, TABLE),
    (CUP, Relation.ON, FLOOR),
    (CUP, Relation.UNDER, TABLE),
    (CHAIR, Relation.UNDER, TABLE),
    (CHAIR, Relation.ON, WALL),
    (SOFA, Relation.ON, WALL),
    (TABLE, Relation.UNDER, PICTURE),
    (CUP, Relation.BESIDE, TABLE),
    (PICTURE, Relation.BESIDE, SOFA),
    (TABLE, Relation.ON, CUP),
    (SHELF, Relation.IN, BOOK),
    (CUP, Relation.IN, TABLE),
    (CHAIR, Relation.AGAINST, WALL),
    (PENDANT, Relation.ON, TABLE),
    (CUP, Relation.ON, CHAIR),
]


@pytest.mark.parametrize(("thing", "relation", "anchor"), HOLDS)
def test_what_a_person_would_say_holds(thing, relation, anchor):
    assert grade(relation, thing, anchor, None, CONFIG).value >= 0.5


@pytest.mark.parametrize(("thing", "relation", "anchor"), FAILS)
def test_what_nobody_would_say_does_not_hold(thing, relation, anchor):
    assert grade(relation, thing, anchor, None, CONFIG).value <= 0.1


@given(st.floats(0, 0.6))
def test_support_fades_with_the_gap_below_a_thing(gap):
    lifted = Shape(CUP.points + np.array([0, 0, gap]), VOXEL, CUP.box)
    value = grade(Relation.ON, lifted, TABLE, None, CONFIG).value
    assert value <= ramp(gap - 2 * VOXEL, CONFIG.support_gap_m) + ROUNDING


# Viewpoints -------------------------------------------------------------------------------------------------


@given(st.floats(-3.1, 3.1), st.floats(-0.6, 0.6), places)
def test_a_robot_and_its_camera_see_the_same_left(yaw, pitch, position):
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    robot = np.eye(4)
    robot[:3, :3] = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]) @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    robot[:3, 3] = position
    camera = robot.copy()
    camera[:3, :3] = robot[:3, :3] @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    views = [Viewpoint.from_pose(robot, False, UP), Viewpoint.from_pose(camera, True, UP)]
    for view in views:
        assert view.forward == pytest.approx([cy, sy], abs=1e-9)
        assert view.left == pytest.approx([-sy, cy], abs=1e-9)
        assert view.position == pytest.approx(np.array(position), abs=1e-9)


def test_a_camera_that_looks_down_has_its_own_left():
    looking_down = np.diag([1.0, -1.0, -1.0, 1.0])  # image right is x, image up is y
    view = Viewpoint.from_pose(looking_down, True, UP)
    assert view.left == pytest.approx([-1, 0])
    assert view.forward == pytest.approx([0, 1])


@pytest.mark.parametrize(
    ("frame", "optical"),
    [
        ("base_link", False),
        ("camera_link", False),
        ("camera_color_optical_frame", True),
        ("left_optical", True),
        ("optical_table", False),
    ],
)
def test_optical_frames_are_known_by_the_ending_of_their_name(frame, optical):
    assert is_optical_name(frame) is optical


def test_in_front_of_me_is_where_i_look_to_and_in_front_of_a_thing_is_my_side_of_it():
    view = Viewpoint(np.zeros(3), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    me = Shape(np.zeros((1, 3)), 0.0)
    table, chair = block((2, 0, 0.4), (0.6, 0.6, 0.7)), block((1, 0, 0.4), (0.4, 0.4, 0.8))
    assert grade(Relation.FRONT, chair, me, view, CONFIG).value == 1.0
    assert grade(Relation.FRONT, chair, table, view, CONFIG).value == 1.0
    assert grade(Relation.BEHIND, table, chair, view, CONFIG).value == 1.0


def test_a_picture_is_told_to_be_mounted_on_its_wall_also_where_the_wall_has_a_ledge_by_noise():
    wall, ledge = block((0, 0, 1.2), (4, 0.08, 2.4)), block((0, 0.06, 1.42), (0.8, 0.04, 0.04))
    points = np.concatenate([wall.points, ledge.points])
    noisy = Shape(points, VOXEL, fit_upright_box(points, UP, VOXEL))
    found = grade(Relation.ON, block((0, 0.06, 1.8), (0.6, 0.04, 0.72)), noisy, None, CONFIG)
    assert found.value == 1.0
    assert found.words.startswith("is mounted on")


@pytest.mark.parametrize(
    ("values", "what"),
    [({"near_m": (1.5, 0.5)}, "near_m"), ({"far_m": (1.0, 2.0)}, "far_m"), ({"column_m": (-1.0, 2.0)}, "column_m"),
     ({"support_layer_m": 0.0}, "support_layer_m"), ({"between_deg": (100.0, float("inf"))}, "between_deg")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_by_name(values, what):
    with pytest.raises(ValueError, match=what):
        RelationConfig(**values)
