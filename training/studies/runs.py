"""Trainings of a study: started side by side, each kept, none done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mosaic3d_core.errors import Mosaic3DError

_ROOT = Path(__file__).resolve().parents[2]
#: Threads of one training: with one, sums are added in the same order each time, and its numbers can be had again.
_ONE = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        arm: What is tried.
        seed: Its seed.
        arguments: Arguments of the script, without seed and out.
        script: The script, below the repository.
    """

    arm: str
    seed: int
    arguments: tuple[str, ...]
    script: str = "training/train.py"

    @property
    def name(self) -> str:
        """Folder of the run."""
        return f"{self.arm}-seed{self.seed}"


def run_all(runs: Sequence[Run], out: Path, jobs: int) -> dict[tuple[str, int], dict[str, float]]:
    """Results of all runs; those that are there, with the same arguments, are taken as they are.

    Args:
        runs: The runs.
        out: Folder of their folders.
        jobs: Runs at a time.

    Returns:
        ``result.json`` of each run by (arm, seed).

    Raises:
        Mosaic3DError: If a run fails, with its last line; the others that are done stay.
    """
    found = {}
    trained: set[subprocess.Popen[str]] = set()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("trainings", total=len(runs))
        futures = {pool.submit(_run, one, out / one.name, trained): one for one in runs}
        try:
            for future in as_completed(futures):
                found[futures[future].arm, futures[future].seed] = future.result()
                progress.advance(bar)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(trained):
                process.terminate()  # its thread is waited for
            raise
    return found


def _run(run: Run, out: Path, trained: set[subprocess.Popen[str]]) -> dict[str, float]:
    asked, result = out / "arguments.json", out / "result.json"
    arguments = [run.script, *run.arguments, f"seed={run.seed}"]
    if result.exists() and asked.exists() and json.loads(asked.read_text(encoding="utf-8")) == arguments:
        return _read(result)
    result.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *arguments, f"out={out}"]
    with (out / "output.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=_ROOT, env={**os.environ, **_ONE}, stdout=log, stderr=log, text=True)
        trained.add(process)
        code = process.wait()
        trained.discard(process)
    if code:
        lines = (out / "output.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise Mosaic3DError(f"run {run.name} failed ({lines[-1] if lines else f'exit code {code}'}): see {out / 'output.txt'}")
    asked.write_text(json.dumps(arguments), encoding="utf-8")
    return _read(result)


def _read(path: Path) -> dict[str, float]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {key: float(value) for key, value in found.items()}


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        values: One value per seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Standard deviation of a seed; 0 for a single one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f}" + (f" ± {100 * self.deviation:.1f}" if len(self.values) > 1 else "")


def over_seeds(results: dict[tuple[str, int], dict[str, float]], arm: str, key: str) -> Spread:
    """A figure of an arm, by ascending seed."""
    return Spread(tuple(values[key] for (name, _), values in sorted(results.items()) if name == arm))
