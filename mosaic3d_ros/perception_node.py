"""perception_node: fuses posed RGB-D frames, encodes the map, publishes labels and answers text queries.

Wiring only. Callbacks hand work to two threads (fusion, encoding) and never wait for them.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable

from mosaic3d_msgs.srv import LoadMap, QueryObjects, SaveMap, SetVocabulary
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.mapping import MapSnapshot, VoxelMapConfig
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import DEFAULT_VOCABULARY, InstanceMapConfig, QueryConfig, QueryEngine
from mosaic3d_core.query.engine import check_texts
from mosaic3d_core.query.proposals import ProposalConfig, ProposalSource
from mosaic3d_core.query.sources import choose_proposals
from mosaic3d_ros import parameters, qos
from mosaic3d_ros.camera_inputs import CameraInputs
from mosaic3d_ros.frame_intake import FrameCounters, PosedFrame, assemble
from mosaic3d_ros.map_files import MapFolder, load_map_reply, save_map_reply
from mosaic3d_ros.map_publisher import MapPublisher
from mosaic3d_ros.map_session import MapSession
from mosaic3d_ros.pose_inputs import PoseInputs
from mosaic3d_ros.query_service import Answer, QueryService
from mosaic3d_ros.runtime import ClosableNode, install_log_handler, run_node
from mosaic3d_ros.watchdog import Watchdog, transport_warning
from mosaic3d_ros.workers import LatestWorker, QueueWorker, run_at_low_priority

_CALLBACK_THREADS = 4
_THROTTLE_S = 5.0
# Frames and queries come first: an encoding that takes a little longer is noticed by nobody.
_ENCODER_NICE = 10
_PENDING_POLL_S = 0.1
_PROGRESS_PERIOD_S = 0.25


class PerceptionNode(ClosableNode):
    """See the module. Topics, services and parameters: docs/ros.md."""

    def __init__(self) -> None:
        super().__init__("perception_node")
        install_log_handler(self)
        self.values = parameters.declare(self, parameters.perception_specs())
        self.counters = FrameCounters()
        self._paused = False
        self._answer: Answer | None = None
        self._session = self._make_session()
        self._publisher = MapPublisher(self, self.values["map_frame"])
        self._make_workers()
        self._make_inputs()
        self._make_services()
        self.add_on_set_parameters_callback(self._on_parameters)
        for worker in self._workers:
            worker.start()
        warning = transport_warning()
        if warning:
            self.get_logger().warning(warning)
        self.get_logger().info(f"Ready: {self._pose_inputs.source.awaited} is where poses come from.")

    def _make_session(self) -> MapSession:
        _limit_threads(self.values["encoder_threads"])
        config = parameters.config_from("map", VoxelMapConfig, self.values)
        query_config = parameters.config_from("query", QueryConfig, self.values)
        encoder = SceneEncoder.from_checkpoint(
            self.values["checkpoint"] or None, device=self.values["device"], condition=self.values["condition"] or None
        )
        text_encoder = get_text_encoder(encoder.text_encoder_name)
        self._default_vocabulary = [word for word in self.values["vocabulary"] if word] or list(DEFAULT_VOCABULARY)
        self._make_engine: Callable[[QueryConfig], QueryEngine] = functools.partial(QueryEngine, text_encoder)
        proposals = parameters.config_from("proposals", ProposalConfig, self.values)

        def make_source(engine: QueryEngine) -> ProposalSource:
            source, name = choose_proposals(self.values["decoder"], encoder.head, engine, proposals, self.values["device"])
            self.get_logger().info(f"Objects come from: {name}.")
            return source

        session = MapSession(
            config,
            encoder,
            lambda: self._make_engine(query_config),
            self._default_vocabulary,
            make_source,
            parameters.config_from("instances", InstanceMapConfig, self.values),
        )
        run_at_low_priority(session.warm_up, _ENCODER_NICE)
        return session

    def _make_workers(self) -> None:
        self._fusion: QueueWorker[PosedFrame] = QueueWorker(
            "fusion", self.values["fusion_queue_size"], self._fuse, self._drop, self._failed
        )
        self._encoding = LatestWorker("encoding", self._encode, self.values["encode_period_s"], self._failed, _ENCODER_NICE)
        self._showing = LatestWorker("showing", self._show_answer, 0.0, self._failed)
        self._workers = (self._fusion, self._encoding, self._showing)

    def _make_inputs(self) -> None:
        group = MutuallyExclusiveCallbackGroup()
        values = self.values
        self._pose_inputs = PoseInputs(self, values, group, self._poses_changed, self._bad_pose)
        self._pending = CameraInputs(
            self, values, group, self._pose_inputs, self.counters, self._posed, self._drop, self._time_jumped
        )
        self._watchdog = Watchdog(self._pending.topics, self._pose_inputs.source.awaited, self.count_publishers)
        self.create_timer(_PENDING_POLL_S, self._poses_changed, callback_group=group)
        self.create_timer(values["watchdog_period_s"], self._watch, callback_group=group)
        self._progress = self.create_publisher(String, "~/progress", qos.LATCHED)
        self._last_progress = ""
        self.create_timer(_PROGRESS_PERIOD_S, self._publish_progress, callback_group=group)

    def _make_services(self) -> None:
        queries = QueryService(
            lambda: self._session.engine,
            lambda: self._session.encoded,
            self._pose_inputs.buffer,
            self.values["map_frame"],
            self._answered,
        )
        self.create_service(QueryObjects, "query_objects", queries.handle, callback_group=ReentrantCallbackGroup())
        group = MutuallyExclusiveCallbackGroup()
        self.create_service(SetVocabulary, "~/set_vocabulary", self._set_vocabulary, callback_group=group)
        self.create_service(Trigger, "~/reset_map", self._reset_map, callback_group=group)
        self.create_service(SetBool, "~/pause", self._pause, callback_group=group)
        self._map_folder = MapFolder(self.values["map_folder"])
        self.create_service(SaveMap, "~/save_map", self._save_map, callback_group=group)
        self.create_service(LoadMap, "~/load_map", self._load_map, callback_group=group)

    # Frames -------------------------------------------------------------------------------------------------

    def _posed(self, frame: PosedFrame) -> None:
        if self._paused:
            self.counters.dropped("paused", frame.raw.camera)
        else:
            self._fusion.put(frame)

    def _fuse(self, frame: PosedFrame) -> None:
        self._session.fuse(assemble(frame))
        self.counters.fused(frame.raw.camera)
        self._encoding.request()

    def _poses_changed(self) -> None:
        if len(self._pending):
            self._pending.poll()

    def _drop(self, reason: str, text: str, camera: str = "") -> None:
        self.counters.dropped(reason, camera)
        self.get_logger().warning(f"Frame dropped ({reason}): {text}", throttle_duration_sec=_THROTTLE_S)

    def _bad_pose(self, reason: str, text: str) -> None:
        self.counters.rejected_pose(reason)
        self.get_logger().warning(f"Pose refused ({reason}): {text}", throttle_duration_sec=_THROTTLE_S)

    def _time_jumped(self, seconds: float) -> None:
        self.get_logger().warning(f"Time jumped back by {seconds:.1f} s (a recording loops?); the map is kept.")

    def _watch(self) -> None:
        text = self._watchdog.check(self.counters.as_dict(), self._pending.last_problem if len(self._pending) else "")
        if text and not self._paused:
            self.get_logger().warning(text)

    def _publish_progress(self) -> None:
        """Counts and generations as JSON, when they changed."""
        features = self._session.features
        counts = {
            **self.counters.as_dict(),
            "generation": self._session.generation,
            "encoded_generation": -1 if features is None else features.generation,
            "encode_ms": None if features is None else round(features.encode_ms, 1),
        }
        text = json.dumps(counts, sort_keys=True)
        if text != self._last_progress:
            self._last_progress = text
            self._progress.publish(String(data=text))

    # Encoding and answers -----------------------------------------------------------------------------------

    def _encode(self) -> None:
        update = self._session.update()
        if update is not None:
            self._publisher.publish_map(update)

    def _answered(self, answer: Answer) -> None:
        self._answer = answer
        self._showing.request()

    def _show_answer(self) -> None:
        if self._answer is not None:
            self._publisher.publish_query(self._answer)

    def _failed(self, error: Exception) -> None:
        self.get_logger().error(f"{type(error).__name__}: {error}", throttle_duration_sec=_THROTTLE_S)

    # Services -----------------------------------------------------------------------------------------------

    def _set_vocabulary(self, request: SetVocabulary.Request, response: SetVocabulary.Response) -> SetVocabulary.Response:
        try:
            words = check_texts(list(request.texts) or self._default_vocabulary, self._session.engine.config)
        except Mosaic3DError as error:
            response.message = str(error)
            return response
        self._session.set_vocabulary(words)
        self._encoding.request()
        response.success, response.message = True, f"{len(words)} words are in use."
        return response

    def _reset_map(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        for _ in range(self._fusion.clear()):
            self.counters.dropped("reset")
        self._session.reset()
        self._answer = None
        self._publisher.publish_empty(self.get_clock().now().nanoseconds)
        response.success, response.message = True, "The map is empty."
        return response

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused = request.data
        response.success, response.message = True, "Fusion is paused." if request.data else "Fusion goes on."
        return response

    def _save_map(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        response.success, response.message = save_map_reply(
            self._session.features, request.path, request.overwrite, self._map_folder
        )
        return response

    def _load_map(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        response.success, response.message = load_map_reply(request.path, self._map_folder, self._restore)
        return response

    def _restore(self, snapshot: MapSnapshot) -> None:
        self._session.restore(snapshot)
        for _ in range(self._fusion.clear()):  # frames of before, which belong to the old map
            self.counters.dropped("reset")
        self._answer = None
        self._encoding.request()

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        values = parameters.merged(self.values, changes)
        try:
            config = parameters.config_from("query", QueryConfig, values)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.values = values
        self._session.engine.config = config
        return SetParametersResult(successful=True)

    def close(self) -> None:
        """End the threads and say what happened to the frames."""
        for worker in self._workers:
            worker.stop()
        counts = self.counters.as_dict()
        # Not through the logger: after Ctrl-C its topic is gone and it would complain about that.
        print(f"Fused {counts['fused']} frames, dropped {counts['dropped'] or 'none'}.", flush=True)


def _limit_threads(count: int) -> None:
    if count:
        import torch

        torch.set_num_threads(count)


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable ``perception_node``."""
    return run_node(PerceptionNode, args, _CALLBACK_THREADS)


if __name__ == "__main__":
    sys.exit(main())
