"""Two robots, two nodes, one machine: neither sees or answers for the other."""

import pytest
from mosaic3d_msgs.srv import SetVocabulary
from std_srvs.srv import Trigger

from .conftest import wait_until
from .robot import Robot

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def robots(start_node, checkpoint):
    names = ("first", "second")
    for name in names:
        # both have a frame "camera": the transforms of each stay in its namespace
        remaps = ["-r", f"__ns:=/{name}", "-r", "/tf:=tf", "-r", "/tf_static:=tf_static"]
        start_node("mosaic3d_ros.perception_node", *remaps, "-p", f"checkpoint:={checkpoint}")
    robots = {name: Robot(namespace=f"/{name}") for name in names}
    for robot in robots.values():
        wait_until(robot.connected, robot.spin, 60.0, "all subscriptions")
    yield robots
    for robot in robots.values():
        robot.close()


def test_frames_and_transforms_of_one_robot_stay_with_it(robots):
    first, second = robots["first"], robots["second"]
    first.send_until(lambda: first.ask("floor").success, "an answer of the first")
    for _ in range(10):
        second.spin()
    assert second.progress["fused"] == 0
    assert second.progress.get("received", {}) == {}
    assert "no map yet" in second.ask("floor").message
    second.send_until(lambda: second.ask("floor").success, "an answer of the second")


def test_services_act_on_their_own_node_only(robots):
    first, second = robots["first"], robots["second"]
    assert first.call(SetVocabulary, "perception_node/set_vocabulary", SetVocabulary.Request(texts=["floor"])).success
    assert first.call(Trigger, "perception_node/reset_map", Trigger.Request()).success
    assert not first.ask("floor").success
    assert second.ask("floor").success
