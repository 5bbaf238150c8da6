"""The ``query_objects`` service: checks a request, asks the query engine, fills the reply."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mosaic3d_msgs.msg import Object3D
from mosaic3d_msgs.srv import QueryObjects
from numpy.typing import NDArray

from mosaic3d_core.errors import QueryError
from mosaic3d_core.geometry.transforms import transform_points
from mosaic3d_core.models import FeatureMap
from mosaic3d_core.query import DetectedObject, QueryEngine, QueryResult
from mosaic3d_core.query.engine import Region
from mosaic3d_core.query.instance_map import PRESENT, UNSEEN
from mosaic3d_ros import conversions as convert
from mosaic3d_ros.map_session import EncodedMap
from mosaic3d_ros.markers import box_matrix
from mosaic3d_ros.tf_buffer import TransformBuffer, TransformLookupError

_STATES = {PRESENT: Object3D.STATE_PRESENT, UNSEEN: Object3D.STATE_UNSEEN}


@dataclass(frozen=True)
class Answer:
    """A successful query, for publishing.

    Attributes:
        result: What the engine said.
        features: The encoded map that answered.
    """

    result: QueryResult
    features: FeatureMap


def region_of(request: QueryObjects.Request) -> Region | None:
    """Corners of the request's region in the map frame, None when it has none."""
    if not request.use_region:
        return None
    low, high = request.region_min, request.region_max
    return (low.x, low.y, low.z), (high.x, high.y, high.z)


class QueryService:
    """Answers requests from the last complete feature map; never waits for the encoder.

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
        self._buffer = buffer
        self._map_frame = map_frame
        self._on_answer = on_answer

    def handle(self, request: QueryObjects.Request, response: QueryObjects.Response) -> QueryObjects.Response:
        """Service callback."""
        began = time.perf_counter()
        frame = request.frame_id.lstrip("/") or self._map_frame
        response.header.frame_id = frame
        try:
            answer = self._ask(request)
            self._fill(response, answer, frame, request)
        except (QueryError, TransformLookupError) as error:
            response.success = False
            response.message = str(error)
            response.objects = []
            response.elapsed_ms = (time.perf_counter() - began) * 1e3
            return response
        response.elapsed_ms = (time.perf_counter() - began) * 1e3
        self._on_answer(answer)
        return response

    def _ask(self, request: QueryObjects.Request) -> Answer:
        encoded = self._newest()
        if encoded is None:
            raise QueryError("There is no map yet; wait until the first frames are fused and encoded, then ask again.")
        # 0 means "the default" in the request; everything else is checked by the engine.
        result = self._engine().query(
            encoded.features,
            list(request.texts),
            min_score=request.min_score or None,
            max_objects=request.max_objects or None,
            region=region_of(request),
            instances=encoded.instances,
        )
        return Answer(result, encoded.features)

    def _fill(self, response: QueryObjects.Response, answer: Answer, frame: str, request: QueryObjects.Request) -> None:
        snapshot = answer.features.snapshot
        to_frame = np.eye(4) if frame == self._map_frame else self._buffer.lookup(frame, self._map_frame)
        response.header = convert.make_header(frame, snapshot.stamp_ns)
        response.map_generation = answer.result.generation
        for found in answer.result.objects:
            item = self._object(found, to_frame)
            if request.include_points:
                rows = convert.structured_points(
                    convert.XYZRGB_DTYPE,
                    transform_points(to_frame, snapshot.centroids[found.voxel_indices]),
                    snapshot.colors[found.voxel_indices],
                )
                item.points = convert.cloud_message(rows, response.header)
            response.objects.append(item)
        count = len(answer.result.objects)
        response.success = True
        response.message = (
            f"{count} object{'s' if count != 1 else ''} for {len(request.texts)} text{'s' if len(request.texts) != 1 else ''}."
        )

    @staticmethod
    def _object(found: DetectedObject, to_frame: NDArray[np.float64]) -> Object3D:
        item = Object3D(id=int(found.id), text=found.text, score=float(found.score))
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
