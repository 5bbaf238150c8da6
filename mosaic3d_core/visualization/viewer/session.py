"""One browser: its wishes, its own query, and the thread that shows it the newest map."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mosaic3d_core.errors import QueryError
from mosaic3d_core.visualization.viewer.panel import Panel, age_text, answer_details, answer_text
from mosaic3d_core.visualization.viewer.scene import MODES, Boxes, Mode, Scene
from mosaic3d_core.visualization.viewer.sender import Sender

if TYPE_CHECKING:
    import viser

    from mosaic3d_core.query import DetectedObject, QueryResult

_NICE = 5
_TICK_S = 1.0
_FLIGHT_S = 0.5
_FLIGHT_STEPS = 15
# Between two messages the browser draws a picture.
_PAUSE_S = 0.02


def step_back() -> None:
    """Let the calling thread run behind those that map and answer planners (Linux; elsewhere nothing)."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


@dataclass(frozen=True)
class Shown:
    """What all browsers are shown.

    Attributes:
        scene: The newest map; None while there is none.
        since_s: When it came, of ``time.monotonic``.
    """

    scene: Scene | None
    since_s: float


@dataclass(frozen=True)
class _Wishes:
    """What the controls of a browser are set to."""

    min_score: float
    points: int
    text: str | None = None
    asked: int = 0
    T_world_camera: NDArray[np.float64] | None = None
    mode: Mode = "Colour"
    boxes: bool = True
    names: bool = True
    ceiling: bool = False


class Session:
    """Shows the newest map to one browser and answers its queries, on a thread of its own.

    Args:
        client: The browser.
        newest: What to show now.
        min_score: Least score of objects to start with.
        max_points: Most points that may be sent.
        on_error: Called with an unexpected exception; the session goes on.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        newest: Callable[[], Shown],
        min_score: float,
        max_points: int,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._client = client
        self._newest = newest
        self._on_error = on_error
        self._wishes = _Wishes(min_score, max_points)
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._flight = 0
        self._asked: tuple[object, ...] = ()
        self._result: QueryResult | None = None
        self._heat: NDArray[np.uint8] | None = None
        self._placed = False
        self._sender = Sender(client.scene, self._flush, client.atomic)
        self._panel = Panel(client.gui, max_points, min_score, self._wish, self._fly_to, self._fly_home)
        self._thread = threading.Thread(target=self._run, name=f"viewer-{client.client_id}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._changed.set()
        self._thread.start()

    def wake(self) -> None:
        """There is something new to show."""
        self._changed.set()

    def close(self, timeout_s: float = 1.0) -> None:
        """End the thread; what it is at is left unfinished."""
        self._closed.set()
        self._changed.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    # Wishes: called on threads of the server ----------------------------------------------------------------

    def _wish(self, name: str, value: Any) -> None:
        if name == "mode" and value not in MODES:
            return
        with self._lock:
            self._wishes = replace(self._wishes, **{name: value})
            if name == "text":  # asked from where the eye is now; "left of" stays so when the eye moves
                pose, number = _pose(self._client.camera), self._wishes.asked + 1
                self._wishes = replace(self._wishes, mode="Heat", asked=number, T_world_camera=pose)
        self._changed.set()

    def _fly_to(self, found: DetectedObject) -> None:
        scene = self._newest().scene
        if scene is not None:
            self._fly(*scene.close_look(found, np.asarray(self._client.camera.position)))

    def _fly_home(self) -> None:
        scene = self._newest().scene
        if scene is not None:
            self._fly(*scene.overview())

    def _fly(self, position: NDArray[np.float64], target: NDArray[np.float64]) -> None:
        """Move the camera there in small steps; a later flight ends an earlier one."""
        with self._lock:
            self._flight += 1
            number = self._flight
        camera = self._client.camera
        start, looked_at = np.array(camera.position), np.array(camera.look_at)
        for step in range(1, _FLIGHT_STEPS + 1):
            if number != self._flight or self._closed.is_set():
                return
            share = step / _FLIGHT_STEPS
            share = share * share * (3 - 2 * share)
            with self._client.atomic():
                camera.position = start + share * (position - start)
                camera.look_at = looked_at + share * (target - looked_at)
            time.sleep(_FLIGHT_S / _FLIGHT_STEPS)

    # The session's own thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        step_back()
        while not self._closed.is_set():
            self._changed.wait(_TICK_S)
            changed = self._changed.is_set()
            self._changed.clear()
            if self._closed.is_set():
                return
            try:
                shown, wishes = self._newest(), self._wishes
                self._show_status(shown, wishes)
                if changed:
                    self._refresh(shown.scene, wishes)
            except Exception as error:  # one failed picture must not end the session
                if not self._closed.is_set():
                    self._on_error(error)
                    self._panel.show_answer(f"Something went wrong here ({type(error).__name__}); the log says more.", error=True)

    def _refresh(self, scene: Scene | None, wishes: _Wishes) -> None:
        if scene is None:
            self._asked, self._result, self._heat, self._placed = (), None, None, False
            self._sender.clear()
            self._panel.show_answer("")
            self._panel.show_legend((), False)
            return
        if not self._placed:
            self._place_camera(scene)
        self._answer(scene, wishes)
        self._panel.show_mode(wishes.mode)
        self._panel.show_legend(scene.legend, wishes.mode == "Labels" and bool(scene.legend))
        colors = self._colors(scene, wishes)
        eye = np.asarray(self._client.camera.position)
        self._sender.send_boxes(self._boxes(scene, wishes) if wishes.boxes else None, wishes.names)
        if not self._sender.send_map(scene, colors, wishes.points, wishes.ceiling, eye, self._changed.is_set):
            self._changed.set()  # what is new comes first, then the rest of it

    def _place_camera(self, scene: Scene) -> None:
        position, target = scene.overview()
        self._client.scene.set_up_direction(scene.up)
        with self._client.atomic():
            self._client.camera.up_direction = scene.up
            self._client.camera.position = position
            self._client.camera.look_at = target
        self._placed = True

    def _answer(self, scene: Scene, wishes: _Wishes) -> None:
        """Ask anew where the map or the question has changed, and show what came of it."""
        question = (scene, wishes.asked, wishes.min_score)
        if wishes.text is None or wishes.T_world_camera is None or question == self._asked:
            return
        self._result = self._heat = None
        if scene.data.ask is None:
            self._panel.show_answer("This map cannot be asked yet; the answer comes as soon as it can.")
            return
        self._asked = question
        try:
            answer = scene.data.ask(wishes.text, wishes.min_score, wishes.T_world_camera)
        except QueryError as error:
            self._panel.show_answer(str(error), error=True)
            return
        result = answer.result
        self._result, self._heat = result, scene.heat_colors(result)
        self._panel.show_answer(answer_text(result.texts[0], result.objects), result.objects, answer_details(answer))

    def _colors(self, scene: Scene, wishes: _Wishes) -> NDArray[np.uint8]:
        if wishes.mode == "Heat" and self._heat is not None:
            return self._heat
        if wishes.mode == "Labels" and scene.label_colors is not None:
            return scene.label_colors
        return scene.true_colors

    def _boxes(self, scene: Scene, wishes: _Wishes) -> Boxes:
        if wishes.mode == "Heat" and self._result is not None:
            return scene.answer_boxes(self._result.objects)
        return scene.instance_boxes

    def _show_status(self, shown: Shown, wishes: _Wishes) -> None:
        scene = shown.scene
        if scene is None:
            self._panel.show_status("Waiting for the first map.")
            return
        data, count = scene.data, len(scene)
        parts = [f"{count:,} voxels" if count <= wishes.points else f"{wishes.points:,} of {count:,} voxels"]
        if data.labelling is not None:
            parts.append(f"{len(data.labelling.objects):,} objects")
        if data.live:
            parts.append(f"generation {data.snapshot.generation}, {age_text(time.monotonic() - shown.since_s)}")
        if data.note:
            parts.append(data.note)
        self._panel.show_status(" · ".join(parts))

    def _flush(self) -> None:
        self._client.flush()
        self._closed.wait(_PAUSE_S)


def _pose(camera: viser.CameraHandle) -> NDArray[np.float64]:
    """T_world_camera of a browser's eye: z forward, x right, y down. Shape (4, 4)."""
    w, *xyz = np.asarray(camera.wxyz, np.float64)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat([*xyz, w]).as_matrix()
    pose[:3, 3] = camera.position
    return pose
