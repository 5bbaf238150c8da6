"""What a configured perception node is made of: model, map, outputs and services; and, while it is active, inputs and threads.

Wiring only. Callbacks hand work to threads (fusion, encoding, showing) and never wait for them.
"""

from __future__ import annotations

import functools
import json
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from mosaic3d_msgs.srv import QueryGoal, QueryObjects
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import String

from mosaic3d_core.mapping import MapSnapshot, VoxelMapConfig
from mosaic3d_core.models import FeatureMap, SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import DEFAULT_VOCABULARY, InstanceMapConfig, QueryConfig, QueryEngine
from mosaic3d_core.query.instance_map import MapInstance
from mosaic3d_core.query.proposals import ProposalConfig, ProposalSource
from mosaic3d_core.query.sources import choose_proposals
from mosaic3d_core.visualization.viewer import MapViewer, ViewData
from mosaic3d_ros import parameters, qos
from mosaic3d_ros.camera_inputs import CameraInputs
from mosaic3d_ros.entities import Entities
from mosaic3d_ros.frame_counters import FrameCounters
from mosaic3d_ros.frames import PosedFrame, assemble
from mosaic3d_ros.goal_service import GoalService
from mosaic3d_ros.map_publisher import MapPublisher
from mosaic3d_ros.map_services import MapServices
from mosaic3d_ros.map_session import MapSession, MapUpdate
from mosaic3d_ros.pose_inputs import PoseInputs
from mosaic3d_ros.query_service import Answer, QueryService
from mosaic3d_ros.self_check import SelfCheck
from mosaic3d_ros.workers import LatestWorker, QueueWorker, Worker, run_at_low_priority

_THROTTLE_S = 5.0
# Frames and queries come first: an encoding that takes a little longer is noticed by nobody.
_ENCODER_NICE = 10
_PENDING_POLL_S = 0.1
_PROGRESS_PERIOD_S = 0.25


class Perception:
    """See the module.

    Args:
        node: Owns topics and services.
        values: The node's parameters.
        counters: Where frames are counted; they outlive this.
        check: Looks at the inputs; it outlives this, too.

    Raises:
        ValueError: If a parameter makes no sense.
        Mosaic3DError: If the checkpoint or the decoder cannot be read.
    """

    def __init__(self, node: Node, values: Mapping[str, Any], counters: FrameCounters, check: SelfCheck) -> None:
        self._node, self._values, self.counters, self._check = node, dict(values), counters, check
        self._log = node.get_logger()
        self._outputs, self._inputs = Entities(node), Entities(node)
        self._workers: tuple[Worker, ...] = ()
        self._cameras: CameraInputs | None = None
        self.paused = False
        self._answer: Answer | None = None
        self.session = self._make_session()
        self._inputs_group = MutuallyExclusiveCallbackGroup()  # of poses and images: the frames that wait belong to both
        with ExitStack() as made:  # what is there when a later part fails is taken down again
            made.callback(self._outputs.destroy)
            self.poses = PoseInputs(node, values, self._inputs_group, self._poses_changed, self._bad_pose, check.watch)
            made.callback(self.poses.destroy)
            self._viewer = self._make_viewer()
            if self._viewer is not None:
                made.callback(self._viewer.close)
            self.publisher = MapPublisher(self._outputs, values["map_frame"])
            self._progress = self._outputs.create_publisher(String, "~/progress", qos.LATCHED)
            self._last_progress = ""
            self._make_services()
            group = MutuallyExclusiveCallbackGroup()
            self._outputs.create_timer(_PROGRESS_PERIOD_S, self._publish_progress, callback_group=group)
            self._made = made.pop_all()

    # Parts --------------------------------------------------------------------------------------------------

    def _make_session(self) -> MapSession:
        values = self._values
        _limit_threads(values["encoder_threads"])
        encoder = SceneEncoder.from_checkpoint(
            values["checkpoint"] or None, device=values["device"], condition=values["condition"] or None
        )
        self._go_on()
        self.device = str(encoder.device)
        text_encoder = get_text_encoder(encoder.text_encoder_name)
        self._go_on()
        self.default_vocabulary = [word for word in values["vocabulary"] if word] or list(DEFAULT_VOCABULARY)
        proposals = parameters.config_from("proposals", ProposalConfig, values)

        def make_source(engine: QueryEngine) -> ProposalSource:
            queries = values["decoder_queries"] or None
            source, name = choose_proposals(values["decoder"], encoder.head, engine, proposals, values["device"], queries)
            self._log.info(f"Objects come from: {name}.")
            return source

        session = MapSession(
            parameters.config_from("map", VoxelMapConfig, values),
            encoder,
            functools.partial(QueryEngine, text_encoder, parameters.config_from("query", QueryConfig, values)),
            self.default_vocabulary,
            make_source,
            parameters.config_from("instances", InstanceMapConfig, values),
        )
        self._go_on()
        run_at_low_priority(session.warm_up, _ENCODER_NICE)
        self._go_on()
        return session

    def _go_on(self) -> None:
        """Between the steps of loading: raises InterruptedError when the process has been told to end."""
        if not self._node.context.ok():
            raise InterruptedError("told to end while loading")

    def _make_services(self) -> None:
        queries = QueryService(
            lambda: self.session.engine,
            lambda: self.session.encoded,
            self.poses.buffer,
            self._values["map_frame"],
            self._answered,
        )
        goals = GoalService(
            lambda: self.session.engine, lambda: self.session.encoded, self.poses.buffer, self._values["map_frame"]
        )
        # one group each: a hundred requests at once must leave threads to the cameras
        for kind, name, handle in ((QueryObjects, "query_objects", queries.handle), (QueryGoal, "query_goal", goals.handle)):
            self._outputs.create_service(kind, name, handle, callback_group=MutuallyExclusiveCallbackGroup())
        MapServices(self._outputs, self, self._values["map_folder"])

    def _make_viewer(self) -> MapViewer | None:
        port, host = self._values["viewer_port"], self._values["viewer_host"]
        if not port:
            return None
        viewer = MapViewer(port, host, on_error=self._failed)
        self._log.info(f"3D view in the browser: {viewer.url}")
        return viewer

    # Life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take frames."""
        values = self._values
        self._fusion: QueueWorker[PosedFrame] = QueueWorker(
            "fusion", values["fusion_queue_size"], self._fuse, self._drop, self._failed
        )
        self._encoding = LatestWorker("encoding", self._encode, values["encode_period_s"], self._failed, _ENCODER_NICE)
        self._showing = LatestWorker("showing", self._show_answer, 0.0, self._failed)
        self._workers = (self._fusion, self._encoding, self._showing)
        for worker in self._workers:
            worker.start()
        group = self._inputs_group
        self._cameras = CameraInputs(
            self._node,
            values,
            group,
            self.poses,
            self.counters,
            self._posed,
            self._drop_of_camera,
            self._time_jumped,
            self._check.watch,
        )
        self._check.restart({**self._cameras.topics, **self.poses.topics})
        self._inputs.create_timer(_PENDING_POLL_S, self._poses_changed, callback_group=group)
        # By a steady clock: simulated time that stands still is one of the things to warn of.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        own = MutuallyExclusiveCallbackGroup()
        self._inputs.create_timer(values["watchdog_period_s"], self._watch, callback_group=own, clock=steady)
        self._encoding.request()  # of a map that was loaded or fused before
        self._log.info(f"Ready: {self.poses.source.awaited} is where poses come from.")

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Take no more frames; the map stays and is still answered from.

        Returns:
            Whether all threads have ended within the time.
        """
        self._inputs.destroy()
        cameras, self._cameras = self._cameras, None
        if cameras is not None:
            cameras.destroy()
            self._drop_waiting("stopped")
        workers, self._workers = self._workers, ()
        end = time.monotonic() + timeout_s
        for worker in workers:
            worker.ask_to_stop()
        return all([worker.join(max(0.0, end - time.monotonic())) for worker in workers])

    def close(self) -> None:
        """Take down topics, services and the view."""
        self._made.close()

    def reconfigure(self, values: Mapping[str, Any]) -> None:
        """Take parameters that may change while the node runs.

        Raises:
            ValueError: If they make no sense together; nothing has changed then.
        """
        query = parameters.config_from("query", QueryConfig, values)
        instances = parameters.config_from("instances", InstanceMapConfig, values)
        self.session.reconfigure(parameters.config_from("map", VoxelMapConfig, values), instances)
        self.session.engine.config = query
        self._values = dict(values)
        if self._workers:
            self._encoding.min_period_s = values["encode_period_s"]

    # Frames -------------------------------------------------------------------------------------------------

    def _posed(self, frame: PosedFrame) -> None:
        if self.paused:
            self.counters.dropped("paused", frame.raw.camera)
        else:
            self._fusion.put(frame)

    def _fuse(self, frame: PosedFrame) -> None:
        self.session.fuse(assemble(frame))
        self.counters.fused(frame.raw.camera)
        self._encoding.request()

    def _poses_changed(self) -> None:
        cameras = self._cameras
        if cameras is not None and len(cameras):
            cameras.poll()

    def _drop(self, reason: str, text: str, frame: PosedFrame) -> None:
        self._drop_of_camera(reason, text, frame.raw.camera)

    def _drop_of_camera(self, reason: str, text: str, camera: str) -> None:
        self.counters.dropped(reason, camera)
        self._check.note_drop(text)
        name = f", camera {camera}" if camera else ""
        self._log.warning(f"Frame dropped ({reason}{name}): {text}", throttle_duration_sec=_THROTTLE_S)

    def _bad_pose(self, reason: str, text: str) -> None:
        self.counters.rejected_pose(reason)
        self._log.warning(f"Pose refused ({reason}): {text}", throttle_duration_sec=_THROTTLE_S)

    def _time_jumped(self, seconds: float) -> None:
        self._log.warning(f"Time jumped back by {seconds:.1f} s (a recording loops?); the map is kept.")

    def _watch(self) -> None:
        text = self._check.warning()
        if text and self._cameras is not None:
            self._log.warning(text)

    def facts(self) -> dict[str, Any]:
        """What diagnostics tell of it: fields of :class:`mosaic3d_ros.self_check.NodeFacts`."""
        features = self.session.features
        return {
            "paused": self.paused,
            "map_voxels": self.session.num_voxels,
            "generation": self.session.generation,
            "encoded_generation": None if features is None else features.generation,
            "encode_ms": None if features is None else features.encode_ms,
            "device": self.device,
        }

    def _publish_progress(self) -> None:
        """Counts and generations as JSON, when they changed."""
        features, cameras = self.session.features, self._cameras
        counts = {
            **self.counters.as_dict(),
            "waiting": 0 if cameras is None else sum(cameras.waiting.values()) + len(self._fusion),
            "generation": self.session.generation,
            "encoded_generation": -1 if features is None else features.generation,
            "encode_ms": None if features is None else round(features.encode_ms, 1),
        }
        text = json.dumps(counts, sort_keys=True)
        if text != self._last_progress:
            self._last_progress = text
            self._progress.publish(String(data=text))

    # Encoding and answers -----------------------------------------------------------------------------------

    def encode_soon(self) -> None:
        """Encode and publish the map on the encoder's thread, if the node is active."""
        if self._workers:
            self._encoding.request()

    def _encode(self) -> None:
        update = self.session.update()
        if update is not None:
            self.publisher.publish_map(update, self.session.engine.config.min_label_score)
            self._view(update)

    def _view(self, update: MapUpdate) -> None:
        if self._viewer is None:
            return
        encoded = self.session.encoded
        instances = encoded.instances if encoded is not None and encoded.features is update.features else None
        self._viewer.show(ViewData.of(update.features, update.labelling, self.session.engine, instances))

    def _answered(self, answer: Answer) -> None:
        self._answer = answer
        if self._workers:
            self._showing.request()

    def _show_answer(self) -> None:
        if self._answer is not None:
            self.publisher.publish_query(self._answer)

    def _failed(self, error: Exception) -> None:
        if not self._node.context.ok():
            return  # nothing can be published any more: the process is about to end
        self._check.note_failure(error)
        text = "".join(traceback.format_exception(error))
        self._log.error(f"Failed, and goes on:\n{text}", throttle_duration_sec=_THROTTLE_S)

    # What the map's services do -----------------------------------------------------------------------------

    def reset(self) -> None:
        """Empty the map and what viewers see of it."""
        self._forget()
        self.session.reset()
        self.publisher.publish_empty(self._node.get_clock().now().nanoseconds)
        if self._viewer is not None:
            self._viewer.show(None)

    def restore(self, snapshot: MapSnapshot, features: FeatureMap | None, instances: Sequence[MapInstance]) -> bool:
        """Replace the map by a saved one; see ``MapSession.restore``.

        Raises:
            ValueError: If it cannot be; the old map stays.
        """
        of_this_encoder = self.session.restore(snapshot, features, instances)
        self._forget()
        self.encode_soon()
        return of_this_encoder

    def _forget(self) -> None:
        """Drop frames of before, which belong to the old map, and the last answer."""
        if self._workers:
            self._drop_waiting("reset")
        self._answer = None

    def _drop_waiting(self, reason: str) -> None:
        for frame in self._fusion.clear():
            self.counters.dropped(reason, frame.raw.camera)


def _limit_threads(count: int) -> None:
    if count:
        import torch

        torch.set_num_threads(count)
