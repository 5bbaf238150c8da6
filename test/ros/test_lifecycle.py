"""The life of perception_node: a lifecycle manager's view, parameters while it runs, and how it ends."""

import signal
import socket
import time
from pathlib import Path

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from mosaic3d_msgs.srv import QueryObjects
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from mosaic3d_ros.parameters import perception_specs

from .conftest import wait_until
from .robot import Robot

pytestmark = pytest.mark.ros
NODE = "mosaic3d_ros.perception_node"
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def robot():
    robot = Robot()
    yield robot
    robot.close()


def state(robot):
    return robot.call(GetState, "perception_node/get_state", GetState.Request()).current_state.id


def change(robot, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return robot.call(ChangeState, "perception_node/change_state", request).success


def set_parameter(robot, name, value):
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return robot.call(SetParameters, "perception_node/set_parameters", request).results[0]


def test_a_lifecycle_manager_takes_the_node_through_its_states_and_back(robot, start_node, checkpoint):
    process = start_node(NODE, "-p", f"checkpoint:={checkpoint}", "-p", "autostart:=false")
    assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
    assert not robot.node.count_subscribers("/depth/image")
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert state(robot) == State.PRIMARY_STATE_INACTIVE
    assert "no map yet" in robot.ask("floor").message
    assert not robot.node.count_subscribers("/depth/image")
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    wait_until(robot.connected, robot.spin, 60.0, "all subscriptions")
    robot.send_until(lambda: robot.ask("floor").success, "an answer")
    assert change(robot, Transition.TRANSITION_DEACTIVATE)
    wait_until(lambda: not robot.node.count_subscribers("/depth/image"), robot.spin, 30.0, "the end of the subscriptions")
    assert robot.ask("floor").success  # from the map that stays
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    wait_until(robot.connected, robot.spin, 60.0, "all subscriptions")
    before = robot.progress["fused"]
    robot.send_until(lambda: robot.progress["fused"] > before, "fusion into the same map")
    assert change(robot, Transition.TRANSITION_DEACTIVATE)
    assert change(robot, Transition.TRANSITION_CLEANUP)
    client = robot.node.create_client(QueryObjects, "query_objects")
    wait_until(lambda: not client.service_is_ready(), robot.spin, 30.0, "the end of the service")
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert "no map yet" in robot.ask("floor").message
    assert not change(robot, Transition.TRANSITION_CONFIGURE)  # no such way from here
    assert process.interrupt() == 0
    assert "Traceback" not in process.output()


def test_a_model_that_cannot_be_loaded_leaves_the_node_unconfigured_and_says_why(robot, start_node):
    process = start_node(NODE, "-p", "checkpoint:=/nowhere/model.safetensors", "-p", "autostart:=false")
    assert not change(robot, Transition.TRANSITION_CONFIGURE)
    assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
    assert "/nowhere/model.safetensors" in process.output()
    assert process.interrupt() == 0


def test_what_is_half_configured_is_taken_down_and_can_be_tried_again(robot, start_node, checkpoint):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start_node(NODE, "-p", f"checkpoint:={checkpoint}", "-p", "autostart:=false", "-p", f"viewer_port:={port}")
        assert not change(robot, Transition.TRANSITION_CONFIGURE)
        assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
        assert str(port) in process.output()
        assert not robot.node.count_publishers("/perception_node/labelled_cloud")
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert robot.node.count_publishers("/perception_node/labelled_cloud") == 1
    assert process.interrupt() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["while it loads", "while it maps"])
def test_it_ends_within_two_seconds_without_a_stack_trace(robot, start_node, number, when):
    there = set(SHARED_MEMORY.glob("fastdds_*"))
    process = start_node(NODE)  # the shipped model, which takes longest
    wait_until(lambda: robot.node.count_publishers("/perception_node/transition_event"), robot.spin, 60.0, "the node")
    if when == "while it maps":
        wait_until(robot.connected, robot.spin, 60.0, "all subscriptions")
        robot.send_until(lambda: robot.progress["fused"] >= 3, "fusion")
    maps = Path(f"/proc/{process.process.pid}/maps").read_text().splitlines()
    own = {Path(line.split()[-1]) for line in maps if f"{SHARED_MEMORY}/fastdds_" in line} - there
    process.process.send_signal(number)
    began = time.monotonic()
    assert process.process.wait(30) == 0, process.output()
    assert time.monotonic() - began < 2.0
    assert "Traceback" not in process.output()
    assert "terminate called" not in process.output()
    assert not [file for file in own if file.exists() and "port" not in file.name]  # 128 MB each


def test_parameters_change_while_it_runs_and_refusals_say_why(robot, start_node, checkpoint):
    start_node(NODE, "-p", f"checkpoint:={checkpoint}")
    wait_until(robot.connected, robot.spin, 60.0, "all subscriptions")
    robot.send_until(lambda: robot.ask("floor").success, "an answer")
    for name, value in (
        ("map.max_depth_m", 3.0),
        ("query.min_score", 0.9),
        ("encode_period_s", 0.1),
        ("instances.recent_s", 5.0),
    ):
        reply = set_parameter(robot, name, value)
        assert reply.successful, (name, reply.reason)
    refused = {
        "map.max_depth_m": (0.1, "max_depth_m (0.1) must be above min_depth_m"),
        "map.voxel_size_m": (0.04, "read-only"),
        "query.min_score": (7.0, "range"),
        "checkpoint": ("other.safetensors", "read-only"),
        "encode_period_s": ("soon", "type"),
    }
    for name, (value, reason) in refused.items():
        reply = set_parameter(robot, name, value)
        assert not reply.successful, name
        assert reason in reply.reason, (name, reply.reason)
    assert set_parameter(robot, "map.max_depth_m", 1.0).successful  # all of the scene is farther away
    assert robot.call(Trigger, "perception_node/reset_map", Trigger.Request()).success
    before = robot.progress["fused"]
    robot.send_until(lambda: robot.progress["fused"] >= before + 3, "frames without a point")
    assert "no map yet" in robot.ask("floor").message
    assert set_parameter(robot, "map.max_depth_m", 3.0).successful
    robot.send_until(lambda: robot.ask("floor").success, "an answer")


def test_every_parameter_has_a_description_and_says_whether_it_needs_a_restart(robot, start_node, checkpoint):
    start_node(NODE, "-p", f"checkpoint:={checkpoint}", "-p", "autostart:=false")
    names = robot.call(ListParameters, "perception_node/list_parameters", ListParameters.Request()).result.names
    own = {spec.name: spec for spec in perception_specs()}
    assert set(own) <= set(names)
    described = robot.call(DescribeParameters, "perception_node/describe_parameters", DescribeParameters.Request(names=list(own)))
    for descriptor in described.descriptors:
        spec = own[descriptor.name]
        assert descriptor.description == spec.description
        assert descriptor.read_only != spec.dynamic
        assert descriptor.type != ParameterType.PARAMETER_NOT_SET
        if isinstance(spec.default, int | float) and not isinstance(spec.default, bool):
            ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
            assert not ranges or ranges[0].from_value < ranges[0].to_value
