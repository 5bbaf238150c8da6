"""The ``query_objects`` service: checks a request, asks the query engine, fills the reply."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mosaic3d_msgs.msg import Object3D
from mosaic3d_msgs.srv import QueryObjects
from numpy.typing import NDArray

from mosaic3d_core.errors import QueryError
from mosaic3d_core.geometry.transform_buffer import TransformBuffer, TransformLookupError
from mosaic3d_core.geometry.transforms import transform_points
from mosaic3d_core.models import FeatureMap
from mosaic3d_core.query import DetectedObject, QueryEngine, QueryResult
from mosaic3d_core.query.instance_map import PRESENT, UNSEEN
from mosaic3d_core.query.relations import RegionBox, RelationalResult, Viewpoint, is_optical_name, query_with_relations
from mosaic3d_ros import conversions as convert
from mosaic3d_ros.map_session import EncodedMap
from mosaic3d_ros.markers import box_matrix

NO_MAP = "There is no map yet; wait until the first frames are fused and encoded, then ask again."
_STATES = {PRESENT: Object3D.STATE_PRESENT, UNSEEN: Object3D.STATE_UNSEEN}
_LOGGER = logging.getLogger("mosaic3d_core.services")  # the node sends what is below mosaic3d_core to ROS


@dataclass(frozen=True)
class Answer:
    """A successful query, for publishing.

    Attributes:
        result: What the engine said.
        features: The encoded map that answered.
    """

    result: QueryResult
    features: FeatureMap


class FrameLookup:
    """Names of frames in a request, resolved against the map frame.

    Args:
        buffer: What TF said.
        map_frame: Frame of the map.
    """

    def __init__(self, buffer: TransformBuffer, map_frame: str) -> None:
        self._buffer = buffer
        self.map_frame = map_frame

    def name(self, frame: str) -> str:
        """The frame, the map frame where it is empty; without the leading slash of old recordings."""
        return frame.lstrip("/") or self.map_frame

    def pose(self, frame: str) -> NDArray[np.float64]:
        """Newest T_map_frame (4, 4) of a frame; raises TransformLookupError."""
        name = self.name(frame)
        return np.eye(4) if name == self.map_frame else self._buffer.lookup(self.map_frame, name)

    def from_map(self, frame: str) -> NDArray[np.float64]:
        """Newest T_frame_map (4, 4); raises TransformLookupError."""
        name = self.name(frame)
        return np.eye(4) if name == self.map_frame else self._buffer.lookup(name, self.map_frame)

    def viewpoint(self, frame: str, axes: int, up: NDArray[np.float64]) -> Viewpoint | None:
        """Where a request looks from; None where it names no frame.

        Raises:
            QueryError: For an unknown choice of axes.
            TransformLookupError: If TF does not know the frame.
        """
        known = (QueryObjects.Request.AXES_BY_NAME, QueryObjects.Request.AXES_ROBOT, QueryObjects.Request.AXES_OPTICAL)
        if axes not in known:
            raise QueryError(f"viewpoint_axes must be 0 (by name), 1 (robot) or 2 (optical), got {axes}")
        if not frame:
            return None
        optical = is_optical_name(frame) if axes == known[0] else axes == known[2]
        return Viewpoint.from_pose(self.pose(frame), optical, up)


def region_of(request: QueryObjects.Request, frames: FrameLookup) -> RegionBox | None:
    """The request's region, which lies along the axes of its frame; None when it has none."""
    if not request.use_region:
        return None
    low, high = request.region_min, request.region_max
    return RegionBox(((low.x, low.y, low.z), (high.x, high.y, high.z)), frames.pose(request.frame_id))


def printable(text: str) -> str:
    """A text that can be sent: what is no valid Unicode becomes a question mark, and nothing is longer than a page."""
    return text[:4000].encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


def sentence(text: str) -> str:
    """As :func:`printable`, in one line: a request may hold line breaks, and messages repeat parts of it."""
    return printable(" ".join(text.split()))


def error_message(error: Exception, service: str) -> str:
    """What a reply says about an error: the sentence of one that a user can act on; of any other that it is in the log."""
    if isinstance(error, (QueryError, TransformLookupError)):
        return sentence(str(error))
    _LOGGER.error("%s failed: %s: %s", service, type(error).__name__, error, exc_info=error)
    return sentence(f"{service} failed with an internal error ({type(error).__name__}); the node's log has the details.")


class QueryService:
    """Answers requests from the last complete feature map; never waits for the encoder.

    No request and no error ends the node: the reply says what was wrong.

    Args:
        engine: The present query engine (it may be exchanged when parameters change).
        newest: The last complete encoding with its instances, or None before the first.
        buffer: For replies in another frame.
        map_frame: Frame of the map.
        on_answer: Called with each successful answer, to publish it; its time does not count into the reply.
    """

    def __init__(
        self,
        engine: Callable[[], QueryEngine],
        newest: Callable[[], EncodedMap | None],
        buffer: TransformBuffer,
        map_frame: str,
        on_answer: Callable[[Answer], None],
    ) -> None:
        self._engine = engine
        self._newest = newest
        self._frames = FrameLookup(buffer, map_frame)
        self._on_answer = on_answer

    def handle(self, request: QueryObjects.Request, response: QueryObjects.Response) -> QueryObjects.Response:
        """Service callback."""
        began = time.perf_counter()
        answer = None
        try:
            answer = self._answer(request, response)
        except Exception as error:
            response = QueryObjects.Response(success=False, message=error_message(error, "query_objects"))
            response.header.frame_id = printable(self._frames.name(request.frame_id))
        response.elapsed_ms = (time.perf_counter() - began) * 1e3
        if answer is not None:
            self._publish(answer)
        return response

    def _publish(self, answer: Answer) -> None:
        try:
            self._on_answer(answer)
        except Exception as error:  # the client has its answer all the same
            _LOGGER.error("publishing a query failed: %s: %s", type(error).__name__, error, exc_info=error)

    def _answer(self, request: QueryObjects.Request, response: QueryObjects.Response) -> Answer:
        encoded = self._newest()
        if encoded is None:
            raise QueryError(NO_MAP)
        found = self._ask(request, encoded)
        to_frame = self._frames.from_map(request.frame_id)
        snapshot, result = encoded.features.snapshot, found.result
        response.header = convert.make_header(self._frames.name(request.frame_id), snapshot.stamp_ns)
        response.map_generation = result.generation
        response.understood = [printable(text) for text in found.understood]
        for one, reason in zip(result.objects, found.reasons):
            item = object_message(one, to_frame, reason)
            if request.include_points:
                rows = convert.structured_points(
                    convert.XYZRGB_DTYPE,
                    transform_points(to_frame, snapshot.centroids[one.voxel_indices]),
                    snapshot.colors[one.voxel_indices],
                )
                item.points = convert.cloud_message(rows, response.header)
            response.objects.append(item)
        response.success = True
        response.message = sentence(_summary(found, len(request.texts)))
        return Answer(result, encoded.features)

    def _ask(self, request: QueryObjects.Request, encoded: EncodedMap) -> RelationalResult:
        # 0 means "the default" in the request; everything else is checked by the engine.
        return query_with_relations(
            self._engine(),
            encoded.features,
            [printable(text) if len(text) < 4000 else text for text in request.texts],
            min_score=request.min_score or None,
            max_objects=request.max_objects or None,
            region=region_of(request, self._frames),
            instances=encoded.instances,
            viewpoint=self._frames.viewpoint(request.viewpoint_frame, request.viewpoint_axes, encoded.features.snapshot.up),
            parse_relations=request.parse_relations,
        )


def _summary(found: RelationalResult, num_texts: int) -> str:
    count = len(found.result.objects)
    first = f"{count} object{'s' if count != 1 else ''} for {num_texts} text{'s' if num_texts != 1 else ''}."
    return " ".join([first, *found.notes])


def object_message(found: DetectedObject, to_frame: NDArray[np.float64], reason: str) -> Object3D:
    """An answer as a message, without points.

    Args:
        found: The object, in the map.
        to_frame: T_frame_map (4, 4).
        reason: Why it answers.
    """
    item = Object3D(id=int(found.id), text=printable(found.text), score=float(found.score), reason=sentence(reason))
    item.pose = convert.pose_from_matrix(to_frame @ box_matrix(found))
    item.size.x, item.size.y, item.size.z = (float(value) for value in found.box.size)
    item.num_voxels = len(found.voxel_indices)
    known = found.instance
    if known is not None:
        item.state = _STATES[known.state]
        item.num_views = known.views
        item.first_seen = convert.ns_to_stamp(known.first_seen_ns)
        item.last_seen = convert.ns_to_stamp(known.last_seen_ns)
    return item
