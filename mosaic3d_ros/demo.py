"""The whole system on a generated room, over ROS 2 processes: play, fuse, encode, ask, judge, draw.

python -m mosaic3d_ros.demo [--seed 7] [--out out/demo] [--quick]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mosaic3d_core.interrupts import is_interrupt, later_interrupts
from mosaic3d_ros.demo_processes import Child, ChildDiedError, isolate_environment

_READY_TIMEOUT_S = 120.0
_SETTLE_TIMEOUT_S = 60.0
_ASK_PERIOD_S = 0.25
# A recording is finite: on a busy machine its frames may wait, where a robot's would have to be dropped.
_PATIENT = {
    "reliable_images": "true",
    "image_queue_size": 100,
    "pending_frames": 300,
    "pose_timeout_s": 10.0,
    "fusion_queue_size": 300,
}
_SEEN = ("chair", "table", "something to sit on")
_NEW = "a {} {} number {}"
_COLORS, _THINGS = ("red", "blue", "wooden", "white", "black"), ("lamp", "shelf", "bag", "door", "bottle", "screen", "carpet")

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    seed: int
    out: Path
    frames: int
    width: int
    height: int
    rate: float
    checkpoint: str
    picture_width: int

    @property
    def room_options(self) -> dict[str, Any]:
        """Options of the generated room, the same in the player and for the truth."""
        return {"frames": self.frames, "width": self.width, "height": self.height}


@dataclass
class Measured:
    """Times of queries while frames came, milliseconds until the reply was here."""

    new_ms: list[float]
    seen_ms: list[float]


def parse(arguments: list[str] | None) -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="mosaic3d demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="test room to play (default 7)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="folder for results (default out/demo)")
    parser.add_argument("--frames", type=int, default=None, metavar="N", help="frames to play (default 150)")
    parser.add_argument("--rate", type=float, default=10.0, metavar="HZ", help="frames per second (default 10)")
    parser.add_argument("--checkpoint", default="", metavar="FILE", help="encoder checkpoint (default: the one that ships)")
    parser.add_argument("--quick", action="store_true", help="24 small frames and small pictures: a check that all works")
    given = parser.parse_args(arguments)
    if given.seed < 0 or (given.frames is not None and given.frames < 1) or not 0.1 <= given.rate <= 1000:
        parser.error("--seed must be 0 or more, --frames 1 or more, --rate 0.1 to 1000")
    width, height = (320, 240) if given.quick else (640, 480)
    frames = given.frames or (24 if given.quick else 150)
    return Settings(given.seed, given.out, frames, width, height, given.rate, given.checkpoint, 480 if given.quick else 1280)


class Demo:
    """One run.

    Args:
        settings: What to do.
        children: Started processes are added here, so that the caller can end them.
        client: The ROS client.
        progress: Where to show progress.
    """

    def __init__(self, settings: Settings, children: list[Child], client: Any, progress: Progress) -> None:
        self._settings = settings
        self._children = children
        self._client = client
        self._progress = progress
        self._measured = Measured([], [])

    def run(self) -> dict[str, Any]:
        """Play, ask and judge; returns what goes into result.json."""
        self._start()
        self._follow_player()
        self._settle()
        map_file = self._settings.out.resolve() / "map.m3dmap"
        self._client.save_map(str(map_file), self._check)
        return self._judge(map_file) | self._figures()

    def _check(self) -> None:
        for child in self._children:
            child.running()

    def _start(self) -> None:
        settings = self._settings
        node = ["--ros-args", *(part for name, value in _PATIENT.items() for part in ("-p", f"{name}:={value}"))]
        node += ["-p", f"checkpoint:={settings.checkpoint}"] if settings.checkpoint else []
        self._begin("perception_node", node)
        options = ", ".join(f"{name}={value}" for name, value in settings.room_options.items())
        player = ["--ros-args", "-p", f"sequence:=room:{settings.seed}", "-p", f"sequence_options:=[{options}]"]
        player += ["-p", f"rate:={float(settings.rate)}", "-p", f"wait_for_subscribers_s:={_READY_TIMEOUT_S}"]
        self._begin("rgbd_player", player)

    def _begin(self, name: str, arguments: list[str]) -> None:
        with later_interrupts():  # a process that nobody knows of would outlive the demo
            self._children.append(Child(name, f"mosaic3d_ros.{name}", arguments, self._settings.out))

    def _follow_player(self) -> None:
        """Show how frames are made, sent and fused, and ask all the while."""
        client, settings = self._client, self._settings
        load = self._progress.add_task("rendering the room", total=settings.frames)
        play = self._progress.add_task("frames published", total=settings.frames)
        fuse = self._progress.add_task("frames fused", total=settings.frames)
        warm: set[str] = set()
        count = 0
        while self._children[1].running():
            client.spin(_ASK_PERIOD_S)
            self._check()
            if client.first_labels_s is not None and client.published < settings.frames:
                self._ask_one(count, warm)
                count += 1
            self._progress.update(load, completed=client.loaded)
            self._progress.update(play, completed=client.published)
            self._progress.update(fuse, completed=client.fused)
        client.spin(_ASK_PERIOD_S)
        self._progress.update(play, completed=client.published)

    def _ask_one(self, count: int, warm: set[str]) -> None:
        """Ask a text that was asked before, or a new one, in turn."""
        seen = count % 2 == 0
        text = _SEEN[count // 2 % len(_SEEN)] if seen else _NEW.format(_COLORS[count % 5], _THINGS[count % 7], count)
        _, ms = self._client.ask(text, self._check)
        if not seen:
            self._measured.new_ms.append(ms)
        elif text in warm:
            self._measured.seen_ms.append(ms)
        warm.add(text)

    def _settle(self) -> None:
        """Wait until the node has dealt with every frame and encoded the last map."""
        deadline = time.monotonic() + _SETTLE_TIMEOUT_S
        while not self._client.settled and time.monotonic() < deadline:
            self._client.spin(_ASK_PERIOD_S)
            self._check()
        warm: set[str] = set()
        for count in range(8):  # a short recording may have ended before it could be asked about
            if not (self._measured.new_ms and self._measured.seen_ms):
                self._ask_one(count, warm)
        self._client.spin(2.0)  # the labelled cloud of the last map follows its encoding

    def _judge(self, map_file: Path) -> dict[str, Any]:
        from mosaic3d_core.data.synthetic import open_room
        from mosaic3d_core.metrics.room_scores import RoomScores, judge
        from mosaic3d_ros import demo_report as report

        settings = self._settings
        features, kept = report.open_saved(map_file)
        truth = report.Truth.of(features, open_room(settings.seed, "test", **settings.room_options))
        rows = []
        task = self._progress.add_task("questions", total=len(truth.questions))
        for question in truth.questions:
            objects, ms = self._client.ask(question.text, self._check)
            rows.append((judge(question, objects, truth.objects), ms))
            self._progress.update(task, advance=1)
        self._progress.stop()
        console.print(report.answer_table(rows))
        answers = [answer for answer, _ in rows]
        scores = RoomScores()
        # From the node's own features, which came with its map file; all other scores are its answers.
        scores.add(answers, report.confusion_of(features, truth))
        report.write_cloud(self._client.labelled_points(), settings.out / "labelled.ply")
        with console.status("drawing"):
            size = settings.picture_width, settings.picture_width * 3 // 4
            report.write_pictures(features, kept, report.picture_texts(answers), settings.out, *size)
        (settings.out / "answers.json").write_text(json.dumps(report.answer_rows(rows), indent=1) + "\n", encoding="utf-8")
        return scores.result() | {"voxels": len(features.snapshot)}

    def _figures(self) -> dict[str, Any]:
        client, measured = self._client, self._measured
        first = None
        if client.first_labels_s is not None and client.first_frame_s is not None:
            first = round(client.first_labels_s - client.first_frame_s, 3)
        dropped = client.dropped
        lost = client.published - client.fused - sum(dropped.values())
        if lost > 0:
            dropped["lost_in_transport"] = lost
        return {
            "seed": self._settings.seed,
            "frames_published": client.published,
            "frames_fused": client.fused,
            "frames_dropped": dropped,
            "first_labels_s": first,
            "query_ms_median": _median(measured.new_ms),
            "query_ms_cached_median": _median(measured.seen_ms),
            "encode_ms": client.progress.get("encode_ms"),
        }


def _median(values: list[float]) -> float | None:
    return round(median(values), 2) if values else None


@contextmanager
def _ros_client() -> Iterator[Any]:
    """Rclpy and the client, ended in order."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from mosaic3d_ros.demo_client import DemoClient

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        client = DemoClient()
        try:
            yield client
        finally:
            client.close()
    finally:
        rclpy.try_shutdown()


def _show(result: dict[str, Any], folder: Path, seconds: float) -> None:
    for key, value in result.items():
        console.print(f"  {key:24s} {f'{value:.3f}' if isinstance(value, float) else value}")
    console.print(f"Results are in [bold]{folder}[/], after {seconds:.0f} s. Ask more: mosaic3d query {folder}/map.m3dmap TEXT")


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    # Pictures of an earlier room would stand among the new ones; its figures must not outlive a failed run.
    for old in [*folder.glob("query_*.png"), folder / "result.json"]:
        old.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 0, 1 when a process failed, 2 for bad input, 130 after Ctrl-C."""
    settings = parse(arguments)
    began = time.monotonic()
    try:
        _prepare(settings.out)
    except OSError as error:
        print(f"error: the folder '{settings.out}' cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    isolate_environment()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    children: list[Child] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    try:
        with _ros_client() as client, Progress(*columns, console=console) as progress:
            result = Demo(settings, children, client, progress).run()
    except (ChildDiedError, TimeoutError, RuntimeError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemError) as error:
        if not is_interrupt(error):
            raise
        print("interrupted; the nodes are ended", file=sys.stderr)
        return 130
    finally:
        for child in reversed(children):
            child.stop()
    target = settings.out / "result.json"
    temporary = target.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    temporary.replace(target)
    _show(result, settings.out, time.monotonic() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
