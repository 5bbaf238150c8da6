"""What planners and viewers see of the same objects: a generated room played into the shipped model, as processes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rclpy
from mosaic3d_msgs.msg import Object3D
from mosaic3d_msgs.srv import LoadMap, QueryObjects, SaveMap, SetVocabulary
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String
from visualization_msgs.msg import Marker, MarkerArray

from mosaic3d_core.data.synthetic import build_room
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import detections, qos

from .conftest import wait_until

pytestmark = [pytest.mark.ros, pytest.mark.slow]
SEED, FRAMES = 3, 50


class Client:
    """Asks, and keeps the newest of what is published."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        self.node = Node("client", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.newest = {}
        for topic, kind in (("progress", String), ("instances", MarkerArray), ("labelled_cloud", PointCloud2)):
            name = f"perception_node/{topic}"
            self.node.create_subscription(
                kind, name, lambda message, topic=topic: self.newest.update({topic: message}), qos.LATCHED
            )
        if detections.AVAILABLE:
            for topic, kind in (("detections", detections.Detection3DArray), ("label_info", detections.LabelInfo)):
                name = f"perception_node/{topic}"
                self.node.create_subscription(
                    kind, name, lambda message, topic=topic: self.newest.update({topic: message}), qos.LATCHED
                )
        self.service = self.node.create_client(QueryObjects, "query_objects")
        self.shown = {}

    def call(self, kind, name, request):
        service = self.node.create_client(kind, name)
        wait_until(service.service_is_ready, self.spin, 60.0, f"service {name}")
        future = service.call_async(request)
        wait_until(future.done, self.spin, 60.0, "a reply")
        return future.result()

    def spin(self):
        self.executor.spin_once(timeout_sec=0.1)

    def progress(self):
        return json.loads(self.newest["progress"].data) if "progress" in self.newest else {"fused": 0}

    def ask(self, *texts):
        future = self.service.call_async(QueryObjects.Request(texts=list(texts)))
        wait_until(future.done, self.spin, 60.0, "a reply")
        return future.result()

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture(scope="module")
def client(start_node):
    """A client after the whole room was seen and encoded."""
    start_node("mosaic3d_ros.perception_node")
    client = Client()
    wait_until(client.service.service_is_ready, client.spin, 120.0, "the service")
    options = {"sequence": f"room:{SEED}", "sequence_options": f"['frames={FRAMES}','width=320','height=240']", "rate": 8.0,
               "wait_for_subscribers_s": 60.0}  # fmt: skip
    start_node("mosaic3d_ros.rgbd_player", *(part for name, value in options.items() for part in ("-p", f"{name}:={value}")))
    wait_until(lambda: client.progress()["fused"] >= FRAMES - 5, client.spin, 180.0, "fusion of the room")
    wait_until(
        lambda: client.progress()["encoded_generation"] == client.progress()["generation"], client.spin, 60.0, "its encoding"
    )
    for _ in range(20):  # the markers of that encoding
        client.spin()
    yield client
    client.close()


def test_an_armchair_is_the_same_object_for_planner_viewer_and_cloud(client):
    reply = client.ask("armchair")
    assert reply.success, reply.message
    found = reply.objects[0]
    truth = next(one for one in build_room(SEED, "test").instances if one.class_name == "armchair")
    center = np.array([found.pose.position.x, found.pose.position.y])
    assert np.linalg.norm(center - truth.bounds.mean(axis=0)[:2]) < 0.4
    boxes = {m.id: m for m in client.newest["instances"].markers if m.ns == "instances/boxes" and m.action == Marker.ADD}
    names = {m.id: m.text for m in client.newest["instances"].markers if m.ns == "instances/labels"}
    assert found.id in boxes
    assert names[found.id].startswith("armchair")
    rows = convert.points_from_cloud(client.newest["labelled_cloud"])
    mine = rows[rows["instance"] == found.id]
    assert len(mine) > 200
    assert np.linalg.norm([mine["x"].mean() - center[0], mine["y"].mean() - center[1]]) < 0.4


def test_an_object_says_how_long_it_is_known(client):
    found = client.ask("armchair").objects[0]
    assert found.state in (Object3D.STATE_PRESENT, Object3D.STATE_UNSEEN)
    assert found.num_views >= 2
    first, last = convert.stamp_to_ns(found.first_seen), convert.stamp_to_ns(found.last_seen)
    assert 0 < first <= last


def test_the_same_object_has_one_id_whatever_it_is_called(client):
    reply = client.ask("armchair", "lounge chair", "comfortable seat for one person")
    ids = {text: [one.id for one in reply.objects if one.text == text][:1] for text in ("armchair", "lounge chair")}
    assert ids["armchair"] == ids["lounge chair"] != []


def test_an_object_keeps_its_id_in_a_node_that_loads_the_saved_map(client, start_node, tmp_path):
    known = client.ask("armchair").objects[0]
    saved = client.call(SaveMap, "perception_node/save_map", SaveMap.Request(path=str(tmp_path / "room")))
    assert saved.success, saved.message
    start_node("mosaic3d_ros.perception_node", "-r", "__ns:=/later")
    loaded = client.call(LoadMap, "/later/perception_node/load_map", LoadMap.Request(path=str(tmp_path / "room")))
    assert loaded.success
    assert "keep their ids" in loaded.message

    def found():
        reply = client.call(QueryObjects, "/later/query_objects", QueryObjects.Request(texts=["armchair"]))
        return reply.objects[0] if reply.success and reply.objects else None

    wait_until(found, client.spin, 30.0, "an answer of the other node")
    again = found()
    assert again.id == known.id
    assert again.first_seen == known.first_seen
    assert again.num_views == known.num_views


@pytest.mark.skipif(not detections.AVAILABLE, reason="vision_msgs is not installed")
def test_detections_are_the_instances_and_label_info_names_their_classes(client):
    boxes = {m.id: m for m in client.newest["instances"].markers if m.ns == "instances/boxes" and m.action == Marker.ADD}
    names = {m.id: m.text for m in client.newest["instances"].markers if m.ns == "instances/labels"}
    words = {str(one.class_id): one.class_name for one in client.newest["label_info"].class_map}
    found = client.newest["detections"]
    assert found.header.frame_id == "map"
    assert {int(one.id) for one in found.detections} == set(boxes)
    for one in found.detections:
        assert one.bbox.center == boxes[int(one.id)].pose
        if one.results:
            assert names[int(one.id)].startswith(words[one.results[0].hypothesis.class_id])
            assert client.newest["label_info"].threshold <= one.results[0].hypothesis.score <= 1
        else:
            assert names[int(one.id)] == f"object {one.id}"
    assert any(one.results for one in found.detections)


def test_labels_with_prompts_of_their_own_are_used_at_run_time(client):
    """Last of this file: the vocabulary is another one afterwards."""
    prompts = {"seat": ["armchair", "sofa", "chair"], "ground": ["floor", "rug"]}
    texts = [text for group in prompts.values() for text in group]
    labels = [label for label, group in prompts.items() for _ in group]
    name = "perception_node/set_vocabulary"
    refused = client.call(SetVocabulary, name, SetVocabulary.Request(texts=texts, labels=labels[:-1]))
    assert not refused.success
    assert "4 labels for 5 texts" in refused.message
    assert client.call(SetVocabulary, name, SetVocabulary.Request(texts=texts, labels=labels)).success

    def shown():
        markers = client.newest["instances"].markers
        return {m.text.rsplit(" ", 1)[0] for m in markers if m.ns == "instances/labels" and m.action == Marker.ADD}

    wait_until(lambda: {"seat", "ground"} <= shown(), client.spin, 60.0, "the new labels")
    assert shown() <= {"seat", "ground", "object"}
    rows = convert.points_from_cloud(client.newest["labelled_cloud"])
    assert set(np.unique(rows["label"])) == {0, 1, 65535}
