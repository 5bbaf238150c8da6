"""The RViz and Foxglove views show what a running node really publishes, with the QoS that it really offers."""

import json
from pathlib import Path

import pytest
import yaml
from mosaic3d_msgs.srv import QueryObjects
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from .conftest import wait_until
from .robot import Robot

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
RVIZ = yaml.safe_load((ROOT / "config" / "perception.rviz").read_text(encoding="utf-8"))
FOXGLOVE = json.loads((ROOT / "config" / "foxglove.json").read_text(encoding="utf-8"))
SHOWN = {  # what each kind of display or panel can show
    "PointCloud2": "sensor_msgs/msg/PointCloud2",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
    "Image": "sensor_msgs/msg/Image",
}
EVERYTHING = {"labelled_cloud", "instances", "query_cloud", "query_markers"}


@pytest.fixture(scope="module")
def robot(start_node, checkpoint):
    """In a namespace, as the views must follow the node there."""
    start_node("mosaic3d_ros.perception_node", "-r", "__ns:=/robot1", "-r", "/tf:=tf", "-p", f"checkpoint:={checkpoint}")
    robot = Robot("robot1")
    wait_until(lambda: robot.node.count_publishers("perception_node/progress"), robot.spin, 60.0, "the node")
    wait_until(robot.connected, robot.spin, 60.0, "all subscriptions")
    yield robot
    robot.close()


def displays():
    return [d for d in RVIZ["Visualization Manager"]["Displays"] if "Topic" in d]


def kind_of(display):
    return display["Class"].split("/")[1]


def topic_of(display):
    return display["Topic"]["Value"]


def offered(robot, topic):
    """(type, QoS) of the node's publisher."""
    (end,) = robot.node.get_publishers_info_by_topic(topic)
    return end.topic_type, end.qos_profile


@pytest.mark.parametrize("display", displays(), ids=lambda display: display["Name"])
def test_a_display_of_rviz_connects_to_a_topic_of_the_node_in_any_namespace(robot, display):
    topic = topic_of(display)
    assert not topic.startswith("/")  # relative: it follows the namespace that RViz is started in
    wanted = display["Topic"]
    if kind_of(display) == "Image":  # an input of the node: shown under the name that the node listens to
        assert topic in robot.out
        assert wanted["Reliability Policy"] == "Best Effort"  # connects to every camera
        return
    shown, profile = offered(robot, topic)
    assert shown == SHOWN[kind_of(display)]
    assert profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert profile.reliability == ReliabilityPolicy.RELIABLE
    assert wanted["Durability Policy"] == "Transient Local"
    assert wanted["Reliability Policy"] == "Reliable"
    assert wanted["Depth"] == profile.depth or profile.depth == 0  # depth is not told by every middleware


def test_rviz_shows_everything_at_once():
    assert {topic_of(d).removeprefix("perception_node/") for d in displays() if d["Enabled"]} == {*EVERYTHING, "rgb/image"}
    assert "rviz_default_plugins/TF" in {d["Class"] for d in RVIZ["Visualization Manager"]["Displays"]}


def panels(kind):
    return {name: config for name, config in FOXGLOVE["configById"].items() if name.split("!")[0] == kind}


def placed(part):
    return {part} if isinstance(part, str) else placed(part["first"]) | placed(part["second"])


def test_every_panel_of_foxglove_has_a_place_and_settings():
    assert placed(FOXGLOVE["layout"]) == set(FOXGLOVE["configById"])


def test_foxglove_shows_topics_that_the_node_publishes(robot):
    (scene,) = panels("3D").values()
    assert {topic.removeprefix("/perception_node/") for topic in scene["topics"]} == EVERYTHING
    for topic in scene["topics"]:
        shown, _ = offered(robot, topic.removeprefix("/"))
        assert shown == ("sensor_msgs/msg/PointCloud2" if topic.endswith("cloud") else "visualization_msgs/msg/MarkerArray")
    (raw,) = panels("RawMessages").values()
    assert offered(robot, raw["topicPath"].removeprefix("/"))[0] == "std_msgs/msg/String"
    (summary,) = panels("DiagnosticSummary").values()
    assert summary["topicToRender"] == "/diagnostics"  # of all nodes of a robot, as REP-107 wants
    (image,) = panels("Image").values()
    assert image["imageMode"]["imageTopic"].removeprefix("/") in robot.out
    assert image["imageMode"]["calibrationTopic"].removeprefix("/") in robot.out


def test_the_query_panel_of_foxglove_calls_the_service(robot):
    (panel,) = panels("CallService").values()
    request = QueryObjects.Request(**json.loads(panel["requestPayload"]))
    reply = robot.call(QueryObjects, panel["serviceName"].removeprefix("/"), request)
    assert "no map yet" in reply.message  # understood, and answered by the node
