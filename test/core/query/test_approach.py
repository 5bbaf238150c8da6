"""Goals in front of objects: never in an obstacle, always on seen floor, facing the object."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mosaic3d_core.errors import QueryError
from mosaic3d_core.mapping import MapSnapshot, VoxelMap
from mosaic3d_core.models.encoder_input import estimate_floor_height
from mosaic3d_core.query.approach import ApproachConfig, find_approach
from mosaic3d_core.query.boxes import ground_basis

VOXEL = 0.05
GRAY = 120.0


def sheet(low, high, step=VOXEL):
    """Points that fill a box, one per voxel."""
    axes = [np.arange(a + step / 2, max(b, a + step), step) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def shell(low, high):
    points = sheet(low, high)
    low, high = points.min(0), points.max(0)
    return points[((points < low + VOXEL / 2) | (points > high - VOXEL / 2)).any(axis=1)]


def snapshot_of(*parts, turn=None):
    """A map of parts and, for each part, its rows."""
    points = np.vstack(parts)
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    turn = np.eye(3) if turn is None else turn
    normals = np.tile(turn[:, 2], (len(points), 1))
    made, row = MapSnapshot.from_points_with_inverse(
        points @ turn.T, np.full(points.shape, GRAY), VOXEL if turn is None else 0.02, normals=normals, up=turn[:, 2]
    )
    return made, [np.unique(row[owner == k]) for k in range(len(parts))]


def brute_clearance(snapshot, pose, config, floor_m):
    """Horizontal distance of the goal to the nearest voxel that a robot would touch, over all voxels."""
    up = snapshot.up
    height = snapshot.centroids @ up - floor_m
    touched = snapshot.centroids[(height > config.floor_clearance_m) & (height < config.robot_height_m)]
    ways = touched - pose[:3, 3]
    return float(np.linalg.norm(ways - np.outer(ways @ up, up), axis=1).min()) if len(ways) else np.inf


def check(snapshot, rows, found, config):
    """What every goal promises."""
    up, pose = snapshot.up, found.T_map_goal
    floor_m = config.floor_height_m
    if floor_m is None:
        floor_m = estimate_floor_height(snapshot.centroids, snapshot.normals, up)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(pose[:3, 2], up, atol=1e-9)
    assert pose[:3, 3] @ up == pytest.approx(floor_m, abs=1e-6)
    # centroids are float32: 1e-5 m for coordinates of some metres
    assert found.clearance_m == pytest.approx(brute_clearance(snapshot, pose, config, floor_m), abs=1e-5)
    assert found.clearance_m > config.robot_radius_m
    flat = snapshot.centroids - np.outer(snapshot.centroids @ up, up)
    place = pose[:3, 3] - up * (pose[:3, 3] @ up)
    floor = flat[np.abs(snapshot.centroids @ up - floor_m) <= config.floor_band_m]
    assert np.linalg.norm(floor - place, axis=1).min() <= config.cell_m * np.sqrt(0.5) + 1e-5
    ways = flat[rows] - place
    assert found.distance_m == pytest.approx(np.linalg.norm(ways, axis=1).min(), abs=1e-5)
    assert config.robot_radius_m <= found.distance_m <= config.wanted_m + config.max_extra_m
    # the line ahead runs between the object's outermost voxels
    side = np.degrees(np.arctan2(ways @ pose[:3, 1], ways @ pose[:3, 0]))
    assert side.min() - 1 <= 0 <= side.max() + 1


boxes = st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 1.0), st.floats(0.1, 1.0), st.floats(0.1, 1.4))
robots = st.tuples(st.floats(-2.5, 2.5), st.floats(-2.5, 2.5))


@settings(max_examples=60)
@given(
    boxes, st.lists(boxes, max_size=6), st.one_of(st.none(), robots), st.floats(0.1, 0.5), st.floats(0, 1.2), st.integers(0, 3)
)
def test_a_goal_never_collides_lies_on_seen_floor_and_faces_the_object(aim, clutter, robot, radius, wanted, tilt):
    parts = [shell((x, y, 0.05), (x + a, y + b, 0.05 + h)) for x, y, a, b, h in [aim, *clutter]]
    turn = ground_basis(np.array([[0, 0, 1.0], [0, 1, 0], [0.3, -0.2, 0.9], [1, 0, 0]][tilt]))
    snapshot, rows = snapshot_of(*parts, sheet((-3, -3, 0), (3, 3, 0.01)), turn=turn)
    config = ApproachConfig(
        robot_radius_m=radius, distance_m=wanted, floor_height_m=float(np.mean(snapshot.centroids[rows[-1]] @ snapshot.up))
    )
    place = None if robot is None else turn @ np.array([*robot, 0.0])
    try:
        found = find_approach(snapshot, rows[0], place, config)
    except QueryError:
        assume(False)
    check(snapshot, rows[0], found, config)
    assert found.reachable is (robot is not None)


def room(*more):
    """A 6 x 5 m floor with a table in the middle."""
    return [sheet((-3, -2.5, 0), (3, 2.5, 0.01)), shell((-0.6, -0.4, 0.05), (0.6, 0.4, 0.75)), *more]


def test_with_nothing_in_the_way_the_goal_is_at_the_wanted_distance_on_the_robots_side():
    snapshot, rows = snapshot_of(*room())
    for robot, side in (((-2.5, 0, 0), (-1, 0)), ((2.5, 0, 0), (1, 0)), ((0, 2.2, 0), (0, 1))):
        found = find_approach(snapshot, rows[1], np.array(robot), ApproachConfig(distance_m=0.6))
        place = found.T_map_goal[:2, 3]
        assert place @ side > 0.5
        assert found.distance_m == pytest.approx(0.6, abs=0.06)
        assert found.T_map_goal[:2, 0] @ side < -0.9


def test_behind_a_wall_without_a_door_is_no_goal():
    wall = sheet((-3, 1.0, 0.05), (3, 1.05, 1.5))
    snapshot, rows = snapshot_of(*room(wall))
    found = find_approach(snapshot, rows[1], np.array([0.0, -2.0, 0.0]))
    assert found.T_map_goal[1, 3] < 1.0
    with pytest.raises(QueryError, match="not connected to the robot"):
        find_approach(snapshot, rows[1], np.array([0.0, 2.0, 0.0]), ApproachConfig(blind_m=0.3, max_extra_m=0.1))


def test_a_door_wide_enough_for_the_robot_connects_two_rooms_and_a_narrow_one_does_not():
    for width, passes in ((1.0, True), (0.4, False)):
        walls = [sheet((-3, 1.0, 0.05), (-width / 2, 1.05, 1.5)), sheet((width / 2, 1.0, 0.05), (3, 1.05, 1.5))]
        snapshot, rows = snapshot_of(*room(*walls))
        robot, config = np.array([0.0, 2.0, 0.0]), ApproachConfig(robot_radius_m=0.3, distance_m=0.5, max_extra_m=0.05)
        if passes:
            assert find_approach(snapshot, rows[1], robot, config).reachable
        else:
            with pytest.raises(QueryError, match="not connected"):
                find_approach(snapshot, rows[1], robot, config)


def test_the_free_side_of_a_wall_is_taken_even_where_the_reach_goes_through_it():
    picture = sheet((-0.3, 1.05, 1.2), (0.3, 1.1, 1.6))
    wall = sheet((-3, 1.1, 0.05), (3, 1.15, 2.4))
    snapshot, rows = snapshot_of(*room(picture, wall))
    found = find_approach(snapshot, rows[2], None, ApproachConfig(distance_m=0.5, robot_height_m=0.5))
    assert found.T_map_goal[1, 3] < 1.0


@pytest.mark.parametrize(
    ("parts", "target", "robot", "options", "why"),
    [
        ([sheet((0, 0, 1), (1, 1, 1.2))], 0, None, {"floor_height_m": 0.0}, "no floor was seen"),
        ([sheet((-3, -3, 0), (0, 0, 0.01)), shell((5, 5, 0.1), (5.5, 5.5, 0.5))], 1, None, {}, "no floor was seen within"),
        (room(), 1, None, {"robot_radius_m": 3.0}, "room for a robot"),
        (room(), 1, (9.0, 9.0, 0.0), {}, "no free floor was seen within"),
        (room(), 1, (0.0, 0.0, 0.0), {}, "within its radius of an obstacle"),
        (room(), 1, (1e6, 0.0, 0.0), {}, "at most"),
    ],
)
def test_where_there_is_no_place_one_sentence_says_why(parts, target, robot, options, why):
    snapshot, rows = snapshot_of(*parts)
    with pytest.raises(QueryError, match=why) as caught:
        find_approach(snapshot, rows[target], None if robot is None else np.array(robot), ApproachConfig(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["robot_radius_m", "cell_m", "distance_m", "travel_weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_numbers_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        ApproachConfig(**{name: value})


def test_a_robot_as_large_as_a_house_is_refused_before_memory_is_taken():
    with pytest.raises(ValueError, match="robot_radius_m must be at most 5 m"):
        ApproachConfig(robot_radius_m=1e6)


def test_furniture_of_a_generated_room_can_be_approached():
    pytest.importorskip("open3d")
    from mosaic3d_core.data.synthetic import open_room
    from mosaic3d_core.data.synthetic.record import fuse_sequence, true_labels

    sequence = open_room(3, "test", frames=24, width=320, height=240)
    snapshot = fuse_sequence(sequence)
    _, instance = true_labels(sequence, snapshot.centroids)
    robot = np.array([*sequence.scene.free_cells[len(sequence.scene.free_cells) // 2], 0.0])
    reached = {}
    for number, thing in enumerate(sequence.scene.instances, start=1):
        rows = np.flatnonzero(instance == number)
        if thing.class_name in ("floor", "ceiling", "wall") or len(rows) < 200:
            continue
        config = ApproachConfig(robot_radius_m=0.2, distance_m=0.5, max_extra_m=1.5)
        try:
            found = find_approach(snapshot, rows, robot, config)
        except QueryError:
            reached[f"{thing.class_name} {number}"] = False
            continue
        check(snapshot, rows, found, config)
        reached[f"{thing.class_name} {number}"] = True
    print(reached)
    assert sum(reached.values()) >= 0.8 * len(reached)


def test_in_the_real_living_room_a_goal_is_free(shared_data):
    from mosaic3d_core.data.sequences import open_sequence

    sequence = open_sequence(shared_data / "icl_livingroom")
    voxel_map = VoxelMap()
    for k in range(0, len(sequence), 3):
        voxel_map.integrate(sequence[k])
    snapshot = voxel_map.snapshot()
    floor_m = estimate_floor_height(snapshot.centroids, snapshot.normals, snapshot.up)
    height = snapshot.centroids @ snapshot.up - floor_m
    middle = (height > 0.2) & (height < 0.8)
    assert middle.any()
    rows = np.flatnonzero(middle)
    some = rows[np.linalg.norm(snapshot.centroids[rows] - snapshot.centroids[rows[len(rows) // 2]], axis=1) < 0.3]
    config = ApproachConfig(robot_radius_m=0.2, max_extra_m=1.5)
    found = find_approach(snapshot, some, None, config)
    check(snapshot, some, found, config)
