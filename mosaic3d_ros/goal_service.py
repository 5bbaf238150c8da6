"""The ``query_goal`` service: a pose on free floor from which to approach an object."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from mosaic3d_msgs.srv import QueryGoal

from mosaic3d_core.errors import QueryError
from mosaic3d_core.geometry.transform_buffer import TransformBuffer
from mosaic3d_core.query import DetectedObject, QueryEngine
from mosaic3d_core.query.approach import Approach, ApproachConfig, find_approach
from mosaic3d_core.query.relations import query_with_relations
from mosaic3d_ros import conversions as convert
from mosaic3d_ros.map_session import EncodedMap
from mosaic3d_ros.query_service import NO_MAP, FrameLookup, error_message, object_message, printable, sentence

# Of many objects that answer a text, goals are looked for at this many, best first.
_MOST_TRIED = 10
# Name in the request of each setting of the core that a request can change.
_FIELDS = {"robot_radius_m": "robot_radius", "robot_height_m": "robot_height", "distance_m": "distance"}


class GoalService:
    """Answers from the last complete feature map; never waits for the encoder.

    No request and no error ends the node: the reply says what was wrong.

    Args:
        engine: The present query engine.
        newest: The last complete encoding with its instances, or None before the first.
        buffer: For goals in another frame, and for the place of the robot.
        map_frame: Frame of the map.
        config: What requests do not say.
    """

    def __init__(
        self,
        engine: Callable[[], QueryEngine],
        newest: Callable[[], EncodedMap | None],
        buffer: TransformBuffer,
        map_frame: str,
        config: ApproachConfig | None = None,
    ) -> None:
        self._engine = engine
        self._newest = newest
        self._frames = FrameLookup(buffer, map_frame)
        self._config = config or ApproachConfig()

    def handle(self, request: QueryGoal.Request, response: QueryGoal.Response) -> QueryGoal.Response:
        """Service callback."""
        began = time.perf_counter()
        try:
            self._answer(request, response)
        except Exception as error:
            response = QueryGoal.Response(success=False, message=error_message(error, "query_goal"))
            response.goal.header.frame_id = printable(self._frames.name(request.frame_id))
        response.elapsed_ms = (time.perf_counter() - began) * 1e3
        return response

    def _answer(self, request: QueryGoal.Request, response: QueryGoal.Response) -> None:
        encoded = self._newest()
        if encoded is None:
            raise QueryError(NO_MAP)
        to_frame = self._frames.from_map(request.frame_id)
        robot = self._frames.pose(request.robot_frame)[:3, 3] if request.robot_frame else None
        config = self._config_of(request)
        found, reason, goal = _first_goal(self._candidates(request, encoded), encoded, robot, config)
        snapshot = encoded.features.snapshot
        response.goal.header = convert.make_header(self._frames.name(request.frame_id), snapshot.stamp_ns)
        response.goal.pose = convert.pose_from_matrix(to_frame @ goal.T_map_goal)
        response.object = object_message(found, to_frame, reason)
        response.clearance, response.object_distance = _float32(goal.clearance_m), _float32(goal.distance_m)
        response.reachable = goal.reachable
        response.map_generation = snapshot.generation
        response.success = True
        name = f"object {found.id}" + (f' ("{found.text[:60]}")' if found.text else "")
        reach = "" if goal.reachable else ", not known to be reachable (no robot_frame)"
        response.message = sentence(
            f"Goal {goal.distance_m:.2f} m from {name}, {goal.clearance_m:.2f} m from the nearest obstacle{reach}."
        )

    def _config_of(self, request: QueryGoal.Request) -> ApproachConfig:
        """The settings with what the request says; 0 leaves a setting as it is."""
        changes = {ours: float(getattr(request, theirs)) for ours, theirs in _FIELDS.items() if getattr(request, theirs) != 0}
        try:
            return replace(self._config, **changes)
        except ValueError as error:
            message = str(error)
            for ours, theirs in _FIELDS.items():
                message = message.replace(ours, theirs)
            raise QueryError(message) from error

    def _candidates(self, request: QueryGoal.Request, encoded: EncodedMap) -> list[tuple[DetectedObject, str]]:
        """Objects that the request means, best first, each with its reason."""
        view = encoded.instances
        if not request.text.strip():
            if request.object_id == 0:
                raise QueryError("the request names nothing to approach; give a text or an object_id")
            number = next((k for k, one in enumerate(view.instances) if one.id == request.object_id), None)
            shape = None if number is None else view.shape(number)
            if number is None or shape is None:
                raise QueryError(
                    f"object {request.object_id} is no instance of the map now; ask by text, or query again for its id"
                )
            return [(DetectedObject(request.object_id, "", 1.0, shape[1], shape[0], view.instances[number]), "")]
        text = printable(request.text) if len(request.text) < 4000 else request.text
        answer = query_with_relations(
            self._engine(),
            encoded.features,
            [text],
            min_score=request.min_score or None,
            instances=view,
            viewpoint=self._frames.viewpoint(request.robot_frame, 0, encoded.features.snapshot.up),
        )
        found = list(zip(answer.result.objects, answer.reasons))
        if not found:
            raise QueryError(" ".join([f'nothing in the map fits "{text[:60]}".', *answer.notes]))
        if request.object_id:
            found = [(one, reason) for one, reason in found if one.id == request.object_id]
            if not found:
                raise QueryError(
                    f'object {request.object_id} is not among the answers to "{text[:60]}"; leave object_id 0 for the best one'
                )
        return found


def _first_goal(
    found: list[tuple[DetectedObject, str]], encoded: EncodedMap, robot: np.ndarray | None, config: ApproachConfig
) -> tuple[DetectedObject, str, Approach]:
    """The goal for the best object that has one; the error of the best object where none has."""
    first: QueryError | None = None
    for one, reason in found[:_MOST_TRIED]:
        try:
            return one, reason, find_approach(encoded.features.snapshot, one.voxel_indices, robot, config)
        except QueryError as error:
            first = first or error
    assert first is not None
    more = "" if len(found) == 1 else f" (the best of {len(found)} objects; none of the others has a free place either)"
    raise QueryError(f"{first}{more}")


def _float32(value: float) -> float:
    """A number that a float32 field takes; infinite where nothing is near."""
    return float(np.float32(value))
