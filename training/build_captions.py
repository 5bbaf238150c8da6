"""Posed RGB-D frames become mask-text pairs: the data engine.

python training/build_captions.py room:7 room:8 --segmenter rendered --captioner template --out data/captioned
python training/build_captions.py RECORDINGS/* --vocabulary words.txt --out data/captioned --workers 8 --gpus 1
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mosaic3d_core.data.caption_files import SceneFolderError, write_atomically
from mosaic3d_core.data.engine.frames import EngineSettings, FramePairs
from mosaic3d_core.data.engine.scene_work import SceneWork, write_points
from mosaic3d_core.data.lifting import DepthTest
from mosaic3d_core.data.sequences.opening import open_sequence, reader_options
from mosaic3d_core.errors import Mosaic3DError
from training.caption_workers import CAPTIONERS, SEGMENTERS, EngineSpec, LocalPool, Pool, RayPool

_err = Console(stderr=True, highlight=False)


@dataclass
class Summary:
    """What a run did.

    Attributes:
        scenes: Scenes finished by this run.
        there: Scenes that were finished before.
        failed: Why scenes were left out.
        frames: Frames worked on by this run.
        seconds: Time it took.
        counts: Masks, pairs and what was dropped, of the finished scenes.
    """

    scenes: int = 0
    there: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)


class Builder:
    """Drives the work of many scenes through a pool.

    Args:
        pool: The workers.
        spec: What the pairs depend on, besides the frames.
        out: Folder of the scene folders.
        source: Name of the caption source.
        every: Use every n-th frame.
        chunk: Frames per job, which is also what a kill can cost each worker.
        options: Options of the sequences.
        progress: Progress bar.
    """

    def __init__(
        self,
        pool: Pool,
        spec: EngineSpec,
        out: Path,
        source: str,
        every: int,
        chunk: int,
        options: dict[str, Any],
        progress: Progress,
    ) -> None:
        self.pool, self.spec, self.out, self.source = pool, spec, out, source
        self.every, self.chunk, self.options, self.progress = every, chunk, options, progress
        self.summary = Summary()
        self._work: dict[str, SceneWork] = {}
        self._left: dict[str, set[int]] = {}
        self._jobs = 0
        self._bar = progress.add_task("frames", total=0)

    def run(self, paths: list[str]) -> Summary:
        """All sequences; a scene that fails is left out with its reason and the others go on."""
        started = time.perf_counter()
        waiting = list(reversed(paths))
        while waiting or self._jobs:
            # no more scenes at a time than keep the workers busy: their points lie in memory
            while waiting and self._jobs < 2 * self.pool.size:
                path = waiting.pop()
                self._guarded(path, self._begin, path)
            if self._jobs:
                (path, number), result = self.pool.next()
                self._jobs -= 1
                self._guarded(path, self._finished, path, number, result)
        self.summary.seconds = time.perf_counter() - started
        return self.summary

    def _guarded(self, path: str, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except Mosaic3DError as error:
            self.summary.failed.setdefault(path, str(error))
            self._left.pop(path, None)

    def _submit(self, path: str, number: int | None, method: str, *arguments: Any) -> None:
        self.pool.submit((path, number), method, path, self.options, *arguments)
        self._jobs += 1

    def _begin(self, path: str) -> None:
        sequence = open_sequence(path, **self.options)
        frames = tuple(range(0, len(sequence), self.every))
        settings = {"engine": self.spec.to_dict(), "sequence": sequence.name, "options": self.options}
        work = SceneWork(self.out / sequence.name, self.source, frames, self.chunk, settings)
        if work.done:
            self.summary.there += 1
            return
        if any(other.folder == work.folder for other in self._work.values()):
            raise Mosaic3DError(f"two sequences are called {sequence.name}: rename one, scenes are named after them")
        self._left[path] = set(work.begin())
        self._work[path] = work
        self.progress.update(self._bar, total=(self.progress.tasks[self._bar].total or 0) + self._open_frames(path))
        if (work.folder / "coord.npy").exists():
            self._chunks(path)
        else:
            self._submit(path, None, "fuse")

    def _open_frames(self, path: str) -> int:
        chunks = self._work[path].chunks()
        return sum(len(chunks[number]) for number in self._left[path])

    def _chunks(self, path: str) -> None:
        work = self._work[path]
        points = _points(work.folder)
        shared = self.pool.share(points)
        chunks = work.chunks()
        for number in sorted(self._left[path]):
            self._submit(path, number, "pairs", chunks[number], shared)
        if not self._left[path]:
            self._end(path)

    def _finished(self, path: str, number: int | None, result: Callable[[], Any]) -> None:
        if path not in self._left:  # the scene has failed meanwhile
            return
        if number is None:
            write_points(self._work[path].folder, result())
            self._chunks(path)
            return
        pairs: list[FramePairs] = result()
        self._work[path].keep(number, pairs)
        self.summary.frames += len(pairs)
        self.progress.advance(self._bar, len(pairs))
        self._left[path].discard(number)
        if not self._left[path]:
            self._end(path)

    def _end(self, path: str) -> None:
        self.summary.counts += self._work[path].finish()
        self.summary.scenes += 1


def _points(folder: Path) -> np.ndarray:
    try:
        points = np.load(folder / "coord.npy", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SceneFolderError(f"{folder / 'coord.npy'} cannot be read as a NumPy array ({error}): write it again") from error
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise SceneFolderError(f"{folder / 'coord.npy'} has shape {points.shape}, expected (N, 3) with N > 0")
    return np.asarray(points, np.float32)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("sequences", nargs="+", help="posed RGB-D sequences: folders, bags, or room:SEED[:SPLIT]")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the scene folders; a scene that has coord.npy keeps it"
    )
    parser.add_argument("--source", default="gsam2", help="name of the caption source (default gsam2)")
    parser.add_argument("--segmenter", default="grounded-sam", help=f"{SEGMENTERS} (default grounded-sam)")
    parser.add_argument("--captioner", default="vlm", help=f"{CAPTIONERS} (default vlm)")
    parser.add_argument("--boxes", action="store_true", help="use the bounding boxes of the masks (for comparisons)")
    parser.add_argument("--every", type=int, default=10, help="use every n-th frame (default 10)")
    parser.add_argument("--keep-axes", action="store_true", help="leave the poses as recorded (default: turned so that z is up)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the reader, such as frames=60 of a generated room or the topic names of a bag",
    )
    parser.add_argument("--json", type=Path, help="write the summary to this file")
    models = parser.add_argument_group("models")
    for name, text in (("detector", "Grounding DINO"), ("sam", "SAM or SAM 2"), ("vlm", "vision-language model")):
        models.add_argument(
            f"--{name}", default=getattr(EngineSpec, name), help=f"{text}, folder or hub name (default %(default)s)"
        )
    models.add_argument("--vocabulary", type=Path, help="text file of phrases to detect, one per line (default: ScanNet200)")
    models.add_argument("--prompt", help="what the vision-language model is asked")
    models.add_argument("--device", default="auto", help="cpu, cuda, cuda:N (default auto)")
    models.add_argument("--offline", action="store_true", help="use local models only")
    kept = parser.add_argument_group("what is kept")
    default = EngineSettings()
    for name, text in (
        ("min_score", "masks of lower confidence are dropped"),
        ("min_area", "smaller masks are dropped, share of the image"),
        ("max_area", "larger masks are dropped, share of the image"),
        ("max_overlap", "of masks that overlap more the less sure one is dropped"),
        ("min_points", "masks that lift to fewer points are dropped"),
    ):
        value = getattr(default, name)
        kept.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"{text} (default {value})")
    kept.add_argument(
        "--max-depth-error", type=float, default=default.depth_test.max_error_m, help="metres (default %(default)s)"
    )
    work = parser.add_argument_group("work")
    work.add_argument("--workers", type=int, default=0, help="Ray workers; 0 = in this process, without Ray (default 0)")
    work.add_argument("--ray", metavar="ADDRESS", help="address of a Ray cluster (default: Ray on this machine)")
    work.add_argument("--gpus", type=float, default=0.0, help="GPUs per worker, such as 0.5 (default 0)")
    work.add_argument("--threads", type=int, default=1, help="CPU threads per worker (default 1)")
    work.add_argument("--chunk", type=int, default=8, help="frames per job: what a kill costs at most (default 8)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 1 if a scene failed, 2 for bad input, 130 after Ctrl-C (the same command goes on)."""
    args = _parser().parse_args(arguments)
    try:
        summary = _build(args)
    except KeyboardInterrupt:
        _err.print("stopped; run the same command again to go on")
        return 130
    except (Mosaic3DError, ValueError) as error:
        _err.print(f"error: {' '.join(str(error).split())}", markup=False)
        return 2
    except OSError as error:
        _err.print(f"error: cannot write to {args.out}: {error.strerror or error}", markup=False)
        return 2
    _report(summary, args.json)
    return 1 if summary.failed else 0


def _build(args: argparse.Namespace) -> Summary:
    for name, least in (("every", 1), ("chunk", 1), ("workers", 0), ("threads", 1), ("gpus", 0)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} must be >= {least}, got {getattr(args, name)}")
    settings = EngineSettings(
        args.min_score, args.min_area, args.max_area, args.max_overlap, args.min_points, DepthTest(args.max_depth_error)
    )
    spec = EngineSpec(
        args.segmenter, args.captioner, args.detector, args.sam, args.vlm, args.prompt,
        _vocabulary(args), args.boxes, args.device, args.offline, settings,
    )  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    if args.ray is not None and args.workers == 0:
        raise ValueError("--ray needs --workers N")
    pool: Pool = RayPool(spec, args.workers, args.ray, args.gpus, args.threads) if args.workers else LocalPool(spec)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    options = {"align_gravity": not args.keep_axes, **reader_options(args.option)}
    try:
        with Progress(*columns, console=_err, disable=not _err.is_terminal) as progress:
            builder = Builder(pool, spec, args.out, args.source, args.every, args.chunk, options, progress)
            return builder.run(list(dict.fromkeys(args.sequences)))
    finally:
        pool.close()


def _vocabulary(args: argparse.Namespace) -> tuple[str, ...]:
    if args.segmenter != "grounded-sam":
        return ()
    if args.vocabulary is None:
        from mosaic3d_core.metrics.class_lists import get_class_list

        return get_class_list("scannet200").names
    try:
        lines = args.vocabulary.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Mosaic3DError(
            f"vocabulary {args.vocabulary} cannot be read ({error}): give a text file, one phrase per line"
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


def _report(summary: Summary, file: Path | None) -> None:
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{summary.frames} frames in {summary.seconds:.1f} s, fusing included: {rate:.1f} frames/s")
    table = Table("", "count")
    for name, count in [("scenes", summary.scenes), ("scenes done before", summary.there), *sorted(summary.counts.items())]:
        table.add_row(name, str(count))
    console.print(table)
    for path, reason in summary.failed.items():
        _err.print(f"left out {path}: {reason}", markup=False, soft_wrap=True)
    if file is not None:
        values = json.dumps({**vars(summary), "frames_per_second": rate}, indent=2)
        write_atomically(file, lambda p: p.write_text(values + "\n", encoding="utf-8"))


if __name__ == "__main__":
    raise SystemExit(main())
