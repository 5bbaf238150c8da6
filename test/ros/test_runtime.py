"""What keeps a node going: failing callbacks, failing jobs, many requests at once."""

import threading
import time

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from mosaic3d_ros import qos, runtime
from mosaic3d_ros.entities import Entities
from mosaic3d_ros.workers import LatestWorker, QueueWorker

from .conftest import wait_until

pytestmark = pytest.mark.ros


@pytest.fixture
def node():
    rclpy.init(args=[])
    node = rclpy.create_node("under_test")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=runtime._spin, args=(executor, node))
    thread.start()
    yield node
    executor.shutdown()
    thread.join(10.0)
    assert not thread.is_alive()
    node.destroy_node()
    rclpy.try_shutdown()


def rest():
    time.sleep(0.02)


def broken(*_):
    raise RuntimeError("broken on purpose")


def test_a_callback_that_fails_does_not_end_the_node_and_its_client_gets_a_reply(node):
    entities = Entities(node)
    entities.create_service(Trigger, "broken", broken)
    entities.create_subscription(Empty, "hurt", broken, 10)
    done = []
    entities.create_subscription(Empty, "after", done.append, 10)
    publishers = [node.create_publisher(Empty, name, 10) for name in ("hurt", "after")]
    wait_until(lambda: all(one.get_subscription_count() for one in publishers), rest, 20.0, "the subscriptions")
    publishers[0].publish(Empty())
    publishers[1].publish(Empty())
    wait_until(lambda: done, rest, 20.0, "a callback after one that failed")
    client = node.create_client(Trigger, "broken")
    assert client.wait_for_service(20.0)
    future = client.call_async(Trigger.Request())
    wait_until(future.done, rest, 20.0, "a reply")
    assert not future.result().success
    assert "broken on purpose" in future.result().message


def test_a_hundred_requests_at_once_all_get_their_reply(node):
    def slowly(_request, response):
        time.sleep(0.01)
        response.success = True
        return response

    Entities(node).create_service(Trigger, "slow", slowly)
    client = node.create_client(Trigger, "slow", qos_profile=qos.SERVICE)
    assert client.wait_for_service(20.0)
    futures = [client.call_async(Trigger.Request()) for _ in range(100)]
    wait_until(lambda: all(one.done() for one in futures), rest, 30.0, "all replies")
    assert all(one.result().success for one in futures)


def test_entities_end_together_and_can_be_made_again(node):
    entities = Entities(node)
    for _ in range(2):
        entities.create_service(Trigger, "short_lived", broken)
        entities.create_subscription(Empty, "short_lived", broken, 1)
        entities.create_publisher(Empty, "short_lived", 1)
        entities.create_timer(10.0, broken)
        wait_until(lambda: node.count_subscribers("/short_lived") == 1, rest, 20.0, "the subscription")
        entities.destroy()
        wait_until(lambda: node.count_subscribers("/short_lived") == 0, rest, 20.0, "its end")
        assert node.count_publishers("/short_lived") == 0
        assert not list(node.timers)


def test_a_job_that_fails_is_tried_again_without_being_asked():
    errors, done = [], threading.Event()

    def job():
        if len(errors) < 2:
            raise MemoryError("no room")
        done.set()

    worker = LatestWorker("job", job, 0.0, errors.append)
    worker.retry_s = 0.01
    worker.start()
    worker.request()
    assert done.wait(10.0)
    assert len(errors) == 2
    assert worker.stop()


def test_a_frame_whose_handling_fails_is_counted_and_the_next_is_handled():
    dropped, errors, handled = [], [], threading.Event()

    def handle(item):
        if item == "bad":
            raise MemoryError("no room")
        handled.set()

    worker = QueueWorker("fusion", 10, handle, lambda reason, text, item: dropped.append((reason, text, item)), errors.append)
    worker.start()
    worker.put("bad")
    worker.put("good")
    assert handled.wait(10.0)
    assert dropped == [("failed", "MemoryError: no room", "bad")]
    assert len(errors) == 1
    assert worker.stop()
