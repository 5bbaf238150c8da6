"""query_goal over Fast DDS on a generated room, its handler under hostile requests, and the planner example."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosaic3d_msgs.srv import QueryGoal
from rclpy.serialization import serialize_message

from mosaic3d_core.data.synthetic import open_room
from mosaic3d_core.data.synthetic.record import fuse_sequence
from mosaic3d_core.models.encoder_input import estimate_floor_height
from mosaic3d_core.query.approach import ApproachConfig
from mosaic3d_ros import conversions as convert

from .conftest import ROOT
from .served_room import Served, Services, pose
from .test_query_service import anything, frames, small_map

pytestmark = pytest.mark.ros
RADIUS = 0.2


@pytest.fixture(scope="module")
def served():
    pytest.importorskip("open3d", reason="generated rooms need open3d")
    sequence = open_room(3, "test", frames=20, width=320, height=240)
    served = Served(Services(fuse_sequence(sequence)))
    free = sequence.scene.free_cells
    served.place = (float(free[len(free) // 2][0]), float(free[len(free) // 2][1]))
    served.services.buffer.set("map", "base_link", 0, pose(*served.place, 0.0, 0.7), True)
    served.services.buffer.set("map", "odom", 0, pose(1.0, -2.0, 0.5, 1.1), True)
    yield served
    served.close()


def floor_of(snapshot):
    return estimate_floor_height(snapshot.centroids, snapshot.normals, snapshot.up)


def test_the_goal_is_free_on_the_floor_and_faces_the_object(served):
    snapshot = served.services.encoded.features.snapshot
    floor = floor_of(snapshot)
    for text in ("sofa", "table", "pillow on the sofa"):
        reply = served.goal(text, robot_frame="base_link", robot_radius=RADIUS, distance=0.5)
        assert reply.success, reply.message
        assert reply.reachable
        assert reply.goal.header.frame_id == "map"
        goal = convert.matrix_from_pose(reply.goal.pose)
        assert goal[2, 3] == pytest.approx(floor, abs=1e-6)
        assert goal[:3, 2] == pytest.approx([0, 0, 1], abs=1e-9)
        # brute force: no voxel that the robot would touch lies within its radius
        height = snapshot.centroids[:, 2] - floor
        config = ApproachConfig()
        touched = snapshot.centroids[(height > config.floor_clearance_m) & (height < config.robot_height_m), :2]
        clearance = np.linalg.norm(touched - goal[:2, 3], axis=1).min()
        assert clearance > RADIUS
        assert reply.clearance == pytest.approx(clearance, abs=1e-4)  # float32
        seen = snapshot.centroids[np.abs(height) <= config.floor_band_m, :2]
        assert np.linalg.norm(seen - goal[:2, 3], axis=1).min() < config.cell_m
        # the object is ahead, within its own width
        thing = reply.object
        way = np.array([thing.pose.position.x, thing.pose.position.y]) - goal[:2, 3]
        assert way @ goal[:2, 0] > 0
        assert abs(way @ goal[:2, 1]) <= max(thing.size.x, thing.size.y) / 2 + 0.05
        assert thing.text == text


def test_the_object_is_that_of_query_objects_with_its_reason(served):
    asked = served.ask("pillow on the sofa", viewpoint_frame="base_link").objects[0]
    reply = served.goal("pillow on the sofa", robot_frame="base_link", robot_radius=RADIUS)
    assert reply.object.id == asked.id
    assert reply.object.reason == asked.reason
    by_id = served.goal(object_id=asked.id, robot_frame="base_link", robot_radius=RADIUS)
    assert by_id.success, by_id.message
    # a text's voxels are not quite those of the instance
    places = [np.array([g.pose.position.x, g.pose.position.y]) for g in (by_id.goal, reply.goal)]
    assert np.linalg.norm(places[0] - places[1]) < 0.5
    assert by_id.object.id == asked.id


def test_a_goal_in_another_frame_is_the_same_place(served):
    here = served.goal("table", robot_frame="base_link", robot_radius=RADIUS)
    there = served.goal("table", robot_frame="base_link", robot_radius=RADIUS, frame_id="odom")
    assert there.goal.header.frame_id == "odom"
    T_map_odom = served.services.buffer.lookup("map", "odom")
    np.testing.assert_allclose(
        T_map_odom @ convert.matrix_from_pose(there.goal.pose), convert.matrix_from_pose(here.goal.pose), atol=1e-9
    )


def test_words_about_me_mean_the_robot(served):
    reply = served.goal("nearest to me", robot_frame="base_link", robot_radius=RADIUS)
    assert reply.success, reply.message
    assert "m from me" in reply.object.reason
    reply = served.goal("nearest to me")
    assert not reply.success
    assert "viewpoint" in reply.message


def test_without_a_robot_the_reply_says_that_nobody_knows_the_way(served):
    reply = served.goal("table", robot_radius=RADIUS)
    assert reply.success
    assert not reply.reachable
    assert "not known to be reachable" in reply.message


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "names nothing"),
        ({"text": "submarine"}, "nothing in the map fits"),
        ({"text": "sofa near the submarine"}, "No submarine was found"),
        ({"object_id": 4_000_000_000}, "no instance of the map"),
        ({"text": "sofa", "object_id": 4_000_000_000}, "not among the answers"),
        ({"text": "sofa", "robot_frame": "nowhere"}, "'nowhere'"),
        ({"text": "sofa", "frame_id": "nowhere"}, "'nowhere'"),
        ({"text": "sofa", "robot_radius": -1.0}, "robot_radius must be positive"),
        ({"text": "sofa", "robot_radius": 1e9}, "robot_radius must be at most"),
        ({"text": "sofa", "robot_radius": 2.5}, "room for a robot"),
        ({"text": "sofa", "distance": float("nan")}, "distance must be 0 or more"),
        ({"text": "sofa", "robot_height": 0.01}, "robot_height must be above"),
        ({"text": "sofa", "min_score": 2.0}, "min_score"),
    ],
)
def test_a_request_without_a_goal_gets_one_sentence(served, fields, why):
    reply = served.goal(**fields)
    assert not reply.success
    assert why in reply.message
    assert "\n" not in reply.message


def test_before_the_first_map_the_reply_says_so():
    reply = Services(None).goals.handle(QueryGoal.Request(text="chair"), QueryGoal.Response())
    assert not reply.success
    assert "no map yet" in reply.message


# Hostile requests ---------------------------------------------------------------------------------------------

numbers = st.one_of(st.just(0.0), st.floats(0.0625, 0.25, width=32), st.floats(width=32))


@pytest.fixture(scope="module")
def small(checkpoint):
    services = Services(small_map(), checkpoint, "components")
    services.buffer.set("map", "base_link", 0, pose(1.0, 1.0), True)
    services.buffer.set("map", "far", 0, pose(1e7, 1e12), True)
    services.buffer.set("map", "broken", 0, np.full((4, 4), np.nan), True)
    return services


@st.composite
def requests(draw, ids):
    request = QueryGoal.Request()
    request._text = draw(st.one_of(st.just(""), anything))
    request._object_id = draw(st.one_of(st.just(0), st.sampled_from(ids), st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):  # one that may well have a goal
        request.robot_frame, request.min_score = draw(st.sampled_from(["", "base_link"])), 0.01
        request.robot_radius, request.distance = draw(st.floats(0.0625, 0.25, width=32)), draw(st.floats(0, 0.5, width=32))
        return request
    request._frame_id = draw(frames)
    request._robot_frame = draw(st.one_of(frames, st.sampled_from(["base_link", "far", "broken"])))
    request._min_score = draw(st.sampled_from([0.0, 0.01, float("nan"), -1.0, 5.0]))
    request._robot_radius, request._robot_height, request._distance = draw(numbers), draw(numbers), draw(numbers)
    return request


def test_no_request_is_too_hostile(small):
    ids = [one.id for one in small.encoded.instances.instances] or [1]
    seen = {True: 0, False: 0}

    @settings(max_examples=1000, suppress_health_check=list(HealthCheck))
    @given(request=requests(ids))
    def handle(request):
        reply = small.goals.handle(request, QueryGoal.Response())
        serialize_message(reply)  # what cannot be sent would end the node
        assert reply.message
        assert "\n" not in reply.message
        assert "internal error" not in reply.message
        seen[reply.success] += 1
        if reply.success:
            assert np.isfinite(convert.matrix_from_pose(reply.goal.pose)).all()

    handle()
    assert min(seen.values()) > 5, seen


# The planner example --------------------------------------------------------------------------------------------


def planner(served, *arguments, remap="", timeout=60):
    names = ["--ros-args", "-r", f"__ns:={served.namespace}", *(["-r", remap] if remap else [])]
    command = [sys.executable, str(ROOT / "examples" / "planner.py"), *arguments, *names]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=dict(os.environ), check=False)


def test_the_planner_example_prints_a_goal(served):
    done = planner(served, "table", "--robot-frame", "base_link", "--robot-radius", "0.2", "--timeout", "20")
    assert done.returncode == 0, done.stderr
    reply = served.goal("table", robot_frame="base_link", robot_radius=0.2)
    place = reply.goal.pose.position
    assert f"position: {place.x:.3f} {place.y:.3f} {place.z:.3f}" in done.stdout
    assert "frame: map" in done.stdout


def test_the_planner_example_says_what_is_missing(served):
    done = planner(served, "submarine", "--timeout", "20")
    assert done.returncode == 1
    assert "submarine" in done.stderr
    assert "Traceback" not in done.stderr
    done = planner(served, "table", "--timeout", "2", remap="query_objects:=/nowhere/query_objects")
    assert done.returncode == 2
    assert "/nowhere/query_objects" in done.stderr
    assert "Traceback" not in done.stderr
