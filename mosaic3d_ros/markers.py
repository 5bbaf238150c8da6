"""Objects as RViz markers.

A wire box and a text each, complete every time, with deletes for what vanished.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from mosaic3d_core.query import DetectedObject
from mosaic3d_ros.conversions import pose_from_matrix

# Pairs of corners of a unit box, by their signs along x, y, z.
_SIGNS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.count_nonzero(_SIGNS[a] != _SIGNS[b]) == 1]
_LINE_WIDTH_M = 0.02
_TEXT_HEIGHT_M = 0.12


def box_matrix(found: DetectedObject) -> np.ndarray:
    """Pose of the box as (4, 4): centre and axes."""
    matrix = np.eye(4)
    matrix[:3, :3] = found.box.rotation
    matrix[:3, 3] = found.box.center
    return matrix


class MarkerMemory:
    """Remembers which markers viewers have, so that each array deletes exactly the vanished ones.

    Args:
        prefix: Start of the marker namespaces ("<prefix>/boxes", "<prefix>/labels").
    """

    def __init__(self, prefix: str) -> None:
        self._namespaces = (f"{prefix}/boxes", f"{prefix}/labels")
        self._shown: set[int] = set()

    def update(self, objects: Sequence[tuple[DetectedObject, Sequence[float]]], header: Header) -> MarkerArray:
        """Markers of all objects, and deletes for those of the last call that are gone.

        Args:
            objects: Each object with its colour (red, green, blue in 0..1).
            header: Frame and time.
        """
        array = MarkerArray()
        for found, color in objects:
            array.markers += [self._box(found, color, header), self._text(found, color, header)]
        now = {int(found.id) for found, _ in objects}
        for gone in sorted(self._shown - now):
            array.markers += [self._delete(namespace, gone, header) for namespace in self._namespaces]
        self._shown = now
        return array

    def clear(self, header: Header) -> MarkerArray:
        """One marker that removes everything (after a reset)."""
        self._shown = set()
        return MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])

    @staticmethod
    def _delete(namespace: str, number: int, header: Header) -> Marker:
        return Marker(header=header, ns=namespace, id=number, action=Marker.DELETE)

    def _box(self, found: DetectedObject, color: Sequence[float], header: Header) -> Marker:
        marker = Marker(header=header, ns=self._namespaces[0], id=int(found.id), type=Marker.LINE_LIST, action=Marker.ADD)
        marker.pose = pose_from_matrix(box_matrix(found))
        marker.scale.x = _LINE_WIDTH_M
        marker.color = _rgba(color)
        corners = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in _SIGNS * np.asarray(found.box.size)]
        marker.points = [corners[index] for edge in _EDGES for index in edge]
        return marker

    def _text(self, found: DetectedObject, color: Sequence[float], header: Header) -> Marker:
        marker = Marker(
            header=header,
            ns=self._namespaces[1],
            id=int(found.id),
            type=Marker.TEXT_VIEW_FACING,
            action=Marker.ADD,
        )
        top = found.box.corners()[:, 2].max() + _TEXT_HEIGHT_M
        marker.pose.position = Point(x=float(found.box.center[0]), y=float(found.box.center[1]), z=float(top))
        marker.pose.orientation.w = 1.0
        marker.scale.z = _TEXT_HEIGHT_M
        marker.color = _rgba(color)
        marker.text = f"{found.text} {found.score:.2f}" if found.text else f"object {found.id}"
        return marker


def _rgba(color: Sequence[float]) -> ColorRGBA:
    red, green, blue = (float(value) for value in color)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
