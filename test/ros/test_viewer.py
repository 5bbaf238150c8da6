"""The parameter viewer_port: a browser sees the map of the node while it grows, and asks it."""

import socket
import sys
import time
from types import SimpleNamespace

import pytest
from std_srvs.srv import Trigger

from .conftest import ROOT, wait_until
from .robot import Robot

pytest.importorskip("viser", reason="the 3D view needs viser (extra 'viewer')")
sys.path.insert(0, str(ROOT / "test" / "core" / "visualization"))

from viewer_client import ViewerClient

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def process(start_node, checkpoint, port):
    return start_node("mosaic3d_ros.perception_node", "-p", f"checkpoint:={checkpoint}", "-p", f"viewer_port:={port}")


@pytest.fixture(scope="module")
def robot(process):
    robot = Robot()
    yield robot
    robot.close()


def test_a_browser_sees_the_map_grow_asks_it_and_sees_it_emptied(robot, process, port):
    wait_until(lambda: f"http://127.0.0.1:{port}" in process.output(), robot.spin, 60.0, "the address of the page")
    with ViewerClient.connected(SimpleNamespace(url=f"http://127.0.0.1:{port}")) as client:
        assert client.pump(lambda: "Waiting for the first map" in client.html())
        wait_until(robot.connected, robot.spin, 60.0, "all subscriptions")
        robot.send_until(lambda: robot.progress["fused"] >= 3, "fusion")

        def newest_is_shown():
            generation = robot.progress["generation"]
            return generation > 0 and f"generation {generation}," in client.html()

        def look():
            robot.spin(0.05)
            client.pump(timeout_s=0.05)

        wait_until(newest_is_shown, look, 60.0, "the newest map in the page")
        assert client.pump(lambda: len(client.points()[0]) > 1000)
        client.settle()
        points, colors = client.points()
        red = (colors[:, 0] > 120) & (colors[:, 1] < 90)
        assert abs(points[red, 2].max() - 0.4) < 0.03  # the top of the box, 1.1 m below a camera at 1.5 m
        client.find("box")
        assert client.pump(lambda: "&quot;box&quot;" in client.html())  # what a random encoder finds does not matter
        reply = robot.ask("box")
        numbered = lambda: [label for label in client.buttons() if label.rsplit("#", 1)[-1].isdigit()]  # noqa: E731
        assert client.pump(lambda: len(numbered()) == min(len(reply.objects), 8))
        robot.call(Trigger, "perception_node/reset_map", Trigger.Request())
        assert client.pump(lambda: not client.clouds() and "Waiting for the first map" in client.html())


def test_ctrl_c_ends_the_node_with_a_browser_looking(robot, process, port):
    with ViewerClient.connected(SimpleNamespace(url=f"http://127.0.0.1:{port}")) as client:
        assert client.pump(lambda: bool(client.controls))
        began = time.monotonic()
        assert process.interrupt() == 0
        assert time.monotonic() - began < 5.0
    assert "Traceback" not in process.output()
