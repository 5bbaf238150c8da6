"""The objects of the map as vision_msgs, where that package is installed: ~/detections and ~/label_info."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from std_msgs.msg import Header

from mosaic3d_core.query import DetectedObject
from mosaic3d_ros import conversions as convert
from mosaic3d_ros.entities import Entities
from mosaic3d_ros.map_session import MapUpdate
from mosaic3d_ros.markers import box_matrix
from mosaic3d_ros.qos import LATCHED

try:
    from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True


class DetectionPublisher:
    """Latched ``~/detections`` (Detection3DArray) and ``~/label_info`` (LabelInfo).

    A detection's ``id`` is that of the instance; ``class_id`` is the label's number as in the labelled cloud and in LabelInfo. An
    instance without a label has no hypothesis.

    Args:
        entities: Creates the publishers.
    """

    def __init__(self, entities: Entities) -> None:
        self._detections = entities.create_publisher(Detection3DArray, "~/detections", LATCHED)
        self._labels = entities.create_publisher(LabelInfo, "~/label_info", LATCHED)
        self._sent: tuple[tuple[str, ...], float] | None = None

    def publish(self, update: MapUpdate, header: Header, threshold: float) -> None:
        """All objects of the map; the labels when they are others.

        Args:
            update: The labelled map.
            header: Frame and time.
            threshold: Least score of a label.
        """
        words = update.labelling.vocabulary
        if self._sent != (words, threshold):
            self._sent = words, threshold
            classes = [VisionClass(class_id=number, class_name=word) for number, word in enumerate(words)]
            self._labels.publish(LabelInfo(header=header, class_map=classes, threshold=threshold))
        self.publish_objects(update.labelling.objects, words, header)

    def publish_objects(self, objects: Sequence[DetectedObject], words: Sequence[str], header: Header) -> None:
        """Detections of objects whose texts are words of the vocabulary, or empty."""
        number = {word: str(position) for position, word in enumerate(words)}
        self._detections.publish(Detection3DArray(header=header, detections=[_detection(one, number, header) for one in objects]))


def _detection(found: DetectedObject, number: dict[str, str], header: Header) -> Any:
    box = BoundingBox3D(center=convert.pose_from_matrix(box_matrix(found)))
    box.size.x, box.size.y, box.size.z = (float(value) for value in found.box.size)
    detection = Detection3D(header=header, bbox=box, id=str(found.id))
    if found.text in number:
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = number[found.text], float(found.score)
        hypothesis.pose.pose = box.center
        detection.results.append(hypothesis)
    return detection
