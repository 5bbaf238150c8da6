"""Publishes the labelled map and the answers to queries."""

from __future__ import annotations

import threading

import numpy as np
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from mosaic3d_core.visualization.palette import heat_colors, label_colors
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import detections
from mosaic3d_ros.entities import Entities
from mosaic3d_ros.map_session import MapUpdate
from mosaic3d_ros.markers import MarkerMemory
from mosaic3d_ros.qos import LATCHED
from mosaic3d_ros.query_service import Answer

_SHOWN_SCORE = 0.1
"""Points of the query cloud score at least this for one of the texts.

The rest of the map would only hide them.
"""

_NO_WORD_COLOR = (0.6, 0.6, 0.6)


class MapPublisher:
    """The latched outputs of the node; two more where vision_msgs is installed.

    Args:
        entities: Creates the publishers.
        map_frame: Frame of everything that is published.
    """

    def __init__(self, entities: Entities, map_frame: str) -> None:
        self._map_frame = map_frame
        self._cloud = entities.create_publisher(PointCloud2, "~/labelled_cloud", LATCHED)
        self._instances = entities.create_publisher(MarkerArray, "~/instances", LATCHED)
        self._query_cloud = entities.create_publisher(PointCloud2, "~/query_cloud", LATCHED)
        self._query_markers = entities.create_publisher(MarkerArray, "~/query_markers", LATCHED)
        self._detections = detections.DetectionPublisher(entities) if detections.AVAILABLE else None
        self._instance_memory = MarkerMemory("instances")
        self._query_memory = MarkerMemory("query")
        self._lock = threading.Lock()

    def publish_map(self, update: MapUpdate, label_threshold: float) -> None:
        """Labelled cloud, instance markers and detections.

        Args:
            update: The labelled map.
            label_threshold: Least score of a label.
        """
        header = convert.make_header(self._map_frame, update.features.snapshot.stamp_ns)
        with self._lock:
            self.publish_cloud(update, header)
            self.publish_objects(update, header, label_threshold)

    def publish_cloud(self, update: MapUpdate, header: Header) -> None:
        """The labelled cloud."""
        snapshot, labelling = update.features.snapshot, update.labelling
        rows = convert.structured_points(
            convert.POINT_DTYPE,
            snapshot.centroids,
            snapshot.colors,
            label=labelling.labels,
            instance=labelling.instances,
            score=labelling.scores,
        )
        self._cloud.publish(convert.cloud_message(rows, header))

    def publish_objects(self, update: MapUpdate, header: Header, label_threshold: float) -> None:
        """Instance markers, and detections where there are any."""
        labelling = update.labelling
        palette = label_colors(labelling.vocabulary) / 255.0
        color_of = {word: tuple(color) for word, color in zip(labelling.vocabulary, palette, strict=True)} | {"": _NO_WORD_COLOR}
        colored = [(found, color_of[found.text]) for found in labelling.objects]
        self._instances.publish(self._instance_memory.update(colored, header))
        if self._detections is not None:
            self._detections.publish(update, header, label_threshold)

    def publish_query(self, answer: Answer) -> None:
        """Heat of the query texts and boxes of what was found."""
        snapshot, result = answer.features.snapshot, answer.result
        header = convert.make_header(self._map_frame, snapshot.stamp_ns)
        best_text = result.voxel_scores.argmax(axis=0)
        best = np.take_along_axis(result.voxel_scores, best_text[None], axis=0)[0]
        scores, texts = best[result.voxel_of_point], best_text[result.voxel_of_point]
        shown = np.flatnonzero(scores >= _SHOWN_SCORE)
        rows = convert.structured_points(
            convert.XYZRGB_SCORE_DTYPE,
            snapshot.centroids[shown],
            heat_colors(scores[shown]),
            score=scores[shown],
            label=texts[shown].astype(np.uint16),
        )
        palette = label_colors(result.texts) / 255.0
        position = {text: number for number, text in enumerate(result.texts)}
        colored = [(found, palette[position[found.text]]) for found in result.objects]
        with self._lock:
            self._query_cloud.publish(convert.cloud_message(rows, header))
            self._query_markers.publish(self._query_memory.update(colored, header))

    def publish_empty(self, stamp_ns: int) -> None:
        """Empty clouds and a delete of all markers: a late subscriber must not see the map before the reset."""
        header = convert.make_header(self._map_frame, stamp_ns)
        with self._lock:
            for publisher, dtype in (
                (self._cloud, convert.POINT_DTYPE),
                (self._query_cloud, convert.XYZRGB_SCORE_DTYPE),
            ):
                publisher.publish(convert.cloud_message(np.zeros(0, dtype), header))
            self._instances.publish(self._instance_memory.clear(header))
            self._query_markers.publish(self._query_memory.clear(header))
            if self._detections is not None:
                self._detections.publish_objects((), (), header)
