"""Workers of the data engine: in this process, or spread by Ray over a machine or a cluster."""

from __future__ import annotations

import importlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mosaic3d_core.data.caption_filter import CaptionFilter
from mosaic3d_core.data.engine.frames import EngineSettings, FrameEngine, FramePairs
from mosaic3d_core.data.engine.label_images import BoxMasks, LabelFolder, RenderedLabels
from mosaic3d_core.data.engine.template_captions import TemplateCaptioner
from mosaic3d_core.data.lifting import DepthTest
from mosaic3d_core.data.sequences.base import RGBDSequence
from mosaic3d_core.data.sequences.opening import open_sequence
from mosaic3d_core.data.synthetic.captions import words_for_classes
from mosaic3d_core.data.synthetic.record import fuse_sequence
from mosaic3d_core.errors import MissingDependencyError, Mosaic3DError
from mosaic3d_core.mapping import MapSnapshot

SEGMENTERS = "grounded-sam, rendered, labels:FOLDER or MODULE:FACTORY"
CAPTIONERS = "vlm, template or MODULE:FACTORY"


@dataclass(frozen=True)
class EngineSpec:
    """What a worker builds its engine from.

    Attributes:
        segmenter: One of ``SEGMENTERS``; MODULE:FACTORY names a function of yours that returns one.
        captioner: One of ``CAPTIONERS``.
        detector: Grounding DINO, folder or hub name.
        sam: SAM or SAM 2, folder or hub name.
        vlm: Vision-language model, folder or hub name.
        prompt: What the vision-language model is asked, None for its default.
        vocabulary: Phrases to detect.
        boxes: Replace masks by their bounding boxes.
        device: Device of the models.
        offline: Never ask the hub.
        settings: What is kept.
    """

    segmenter: str
    captioner: str
    detector: str = "IDEA-Research/grounding-dino-tiny"
    sam: str = "facebook/sam2.1-hiera-small"
    vlm: str = "HuggingFaceTB/SmolVLM-256M-Instruct"
    prompt: str | None = None
    vocabulary: tuple[str, ...] = ()
    boxes: bool = False
    device: str = "auto"
    offline: bool = False
    settings: EngineSettings = field(default_factory=EngineSettings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that the pairs depend on."""
        return {key: value for key, value in asdict(self).items() if key not in ("device", "offline")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EngineSpec:
        """The reverse of `dataclasses.asdict`."""
        settings = dict(values["settings"])
        settings["depth_test"] = DepthTest(**settings["depth_test"])
        settings["caption_filter"] = CaptionFilter(**settings["caption_filter"])
        known = {f.name for f in fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        return cls(**{**kept, "vocabulary": tuple(values["vocabulary"]), "settings": EngineSettings(**settings)})

    def build(self) -> FrameEngine:
        """The engine.

        Raises:
            Mosaic3DError: If something is unknown, missing or cannot be loaded.
        """
        segmenter = self._segmenter()
        return FrameEngine(BoxMasks(segmenter) if self.boxes else segmenter, self._captioner(), self.settings)

    def _segmenter(self) -> Any:
        if self.segmenter == "rendered":
            return RenderedLabels()
        if self.segmenter.startswith("labels:"):
            return LabelFolder(Path(self.segmenter.removeprefix("labels:")))
        if self.segmenter == "grounded-sam":
            from mosaic3d_core.data.engine.grounded_sam import GroundedSam

            return GroundedSam(self.detector, self.sam, self.vocabulary, device=self.device, local_files_only=self.offline)
        return _from_module(self.segmenter, "segmenter", SEGMENTERS)

    def _captioner(self) -> Any:
        if self.captioner == "template":
            return TemplateCaptioner(words_for_classes() if self.segmenter == "rendered" else None)
        if self.captioner == "vlm":
            from mosaic3d_core.data.engine.region_captions import RegionCaptioner

            more = {} if self.prompt is None else {"prompt": self.prompt}
            return RegionCaptioner(self.vlm, device=self.device, local_files_only=self.offline, **more)
        return _from_module(self.captioner, "captioner", CAPTIONERS)


def _from_module(name: str, what: str, known: str) -> Any:
    module, _, factory = name.partition(":")
    if not factory:
        raise Mosaic3DError(f"{what} {name} is unknown: choose {known}")
    try:
        return getattr(importlib.import_module(module), factory)()
    except (ImportError, AttributeError) as error:
        raise Mosaic3DError(f"{what} {name} cannot be loaded ({error}): is {module} on PYTHONPATH?") from error


class EngineWorker:
    """One worker: the models, and the sequences it has open.

    Args:
        spec: `EngineSpec` as plain values.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        if "MOSAIC3D_WORKER_THREADS" in os.environ:
            torch.set_num_threads(int(os.environ["MOSAIC3D_WORKER_THREADS"]))
        self.engine = EngineSpec.from_dict(spec).build()
        self._open: tuple[str, RGBDSequence] | None = None

    def _sequence(self, path: str, options: dict[str, Any]) -> RGBDSequence:
        if self._open is None or self._open[0] != path:
            self._open = path, open_sequence(path, **options)
        return self._open[1]

    def ready(self) -> None:
        """Returns when the models are loaded."""

    def fuse(self, path: str, options: dict[str, Any]) -> MapSnapshot:
        """The map of a sequence: the points of a scene that has none."""
        return fuse_sequence(self._sequence(path, options))

    def pairs(self, path: str, options: dict[str, Any], frames: Sequence[int], points: NDArray[np.float32]) -> list[FramePairs]:
        """The pairs of some frames."""
        sequence = self._sequence(path, options)
        return [self.engine.process(sequence, index, points) for index in frames]


class Pool(Protocol):
    """Workers that take jobs."""

    size: int

    def share(self, value: Any) -> Any:
        """Something large that many jobs get; hand the result to ``submit``."""
        ...

    def submit(self, key: Any, method: str, *arguments: Any) -> None:
        """Start a method of `EngineWorker`; waits for nothing."""
        ...

    def next(self) -> tuple[Any, Callable[[], Any]]:
        """The key of a job that is done, and a function that returns its result or raises its error."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


class LocalPool:
    """Jobs in this process, one after the other.

    Args:
        spec: What the engine is built from.
    """

    size = 1

    def __init__(self, spec: EngineSpec) -> None:
        self._worker = EngineWorker(asdict(spec))
        self._jobs: deque[tuple[Any, str, tuple[Any, ...]]] = deque()

    def share(self, value: Any) -> Any:
        """The value itself."""
        return value

    def submit(self, key: Any, method: str, *arguments: Any) -> None:
        """Put a job into the queue."""
        self._jobs.append((key, method, arguments))

    def next(self) -> tuple[Any, Callable[[], Any]]:
        """Do the oldest job, when its result is asked for."""
        key, method, arguments = self._jobs.popleft()
        return key, lambda: getattr(self._worker, method)(*arguments)

    def close(self) -> None:
        """Nothing to do."""


class RayPool:
    """Jobs spread by Ray.

    A worker that dies (killed, out of memory) is started again and its job repeated, three times at most.

    Args:
        spec: What each worker builds its engine from.
        workers: Number of workers.
        address: Address of a running cluster; None starts Ray on this machine.
        gpus: GPUs per worker, fractions allowed.
        threads: Threads of a worker's CPU work.

    Raises:
        MissingDependencyError: If Ray is not installed.
        Mosaic3DError: If the cluster cannot be reached.
    """

    def __init__(self, spec: EngineSpec, workers: int, address: str | None, gpus: float = 0.0, threads: int = 1) -> None:
        try:
            import ray
            from ray.exceptions import RayActorError, RayTaskError
        except ImportError as error:
            raise MissingDependencyError('workers need Ray: pip install "ray>=2.30", or run with --workers 0') from error
        self._ray, self.size, self._died, self._failed = ray, workers, RayActorError, RayTaskError
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: beside anything else the workers starve
        root = str(Path(__file__).resolve().parent.parent)
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}}
        environment["env_vars"]["MOSAIC3D_WORKER_THREADS"] = str(threads)
        options: dict[str, Any] = {"runtime_env": environment, "log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            options |= {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise Mosaic3DError(f"no Ray cluster at {address}: start one with `ray start --head`, or leave --ray out") from error
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=3, max_task_retries=3)(EngineWorker)
        actors = [remote.remote(asdict(spec)) for _ in range(workers)]
        try:
            ray.get([actor.ready.remote() for actor in actors])
        except (RayActorError, RayTaskError) as error:
            ray.shutdown()
            raise Mosaic3DError(_reason(error)) from error
        self._idle = deque(actors)
        self._waiting: deque[tuple[Any, str, tuple[Any, ...]]] = deque()
        self._running: dict[Any, tuple[Any, Any]] = {}

    def share(self, value: Any) -> Any:
        """A reference to the value in Ray's object store."""
        return self._ray.put(value)

    def submit(self, key: Any, method: str, *arguments: Any) -> None:
        """Start the job, or queue it until a worker is free."""
        self._waiting.append((key, method, arguments))
        self._start()

    def _start(self) -> None:
        while self._idle and self._waiting:
            actor = self._idle.popleft()
            key, method, arguments = self._waiting.popleft()
            self._running[getattr(actor, method).remote(*arguments)] = key, actor

    def next(self) -> tuple[Any, Callable[[], Any]]:
        """Wait for a job."""
        (ready,), _ = self._ray.wait(list(self._running), num_returns=1)
        key, actor = self._running.pop(ready)
        self._idle.append(actor)
        self._start()
        return key, lambda: self._result(ready)

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._died as error:
            raise Mosaic3DError(f"a worker died again and again: {_reason(error)}") from error
        except self._failed as error:
            if isinstance(error.cause, Mosaic3DError):
                raise error.cause from error
            raise

    def close(self) -> None:
        """End Ray where it was started here, else leave the cluster."""
        self._ray.shutdown()


def _reason(error: BaseException) -> str:
    """The message of the error that a worker ended with; Ray puts its whole traceback into the text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]
    return named[-1].split("Error: ", 1)[1] if named else lines[0] if lines else type(error).__name__
