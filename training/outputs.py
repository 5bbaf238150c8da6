"""Loggers, and what a run leaves for people to look at."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.visualization.curves import picture_of_curves
from mosaic3d_core.visualization.pictures import save_picture
from mosaic3d_core.visualization.segmentation import picture_of_segmentation
from training.validation import Validation

LOG = "log"
_METRICS = "metrics.csv"


def build_logger(config: Any, out: Path, resumed: bool = False) -> list[Logger]:
    """CSV always (the summary is made from it), and the logger of the configuration beside it.

    Args:
        config: Group ``logger``.
        out: Folder of the run.
        resumed: Keep what the run logged before it was stopped: Lightning's logger begins its file anew.

    Raises:
        Mosaic3DError: If the logger is unknown or its package is not installed.
    """
    _put_aside(out / LOG, resumed)
    loggers: list[Logger] = [CSVLogger(out, name=LOG, version="", flush_logs_every_n_steps=1)]
    if config.kind == "csv":
        return loggers
    try:
        if config.kind == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            return [*loggers, TensorBoardLogger(out, name="tensorboard", version="")]
        if config.kind == "wandb":
            from lightning.pytorch.loggers import WandbLogger

            return [*loggers, WandbLogger(project=config.project, save_dir=out)]
    except ModuleNotFoundError as error:
        raise Mosaic3DError(f"logger={config.kind} needs its package: pip install {config.kind}, or choose logger=csv") from error
    raise Mosaic3DError(f"logger {config.kind} is unknown: choose csv, tensorboard or wandb")


@rank_zero_only
def _put_aside(log: Path, resumed: bool) -> None:
    earlier = _earlier(log)
    if not resumed:
        for file in earlier:
            file.unlink()
    elif (log / _METRICS).exists():
        (log / _METRICS).rename(log / f"earlier_{len(earlier):03}.csv")


def _earlier(log: Path) -> list[Path]:
    """What the run logged before it was stopped, by time."""
    return sorted(log.glob("earlier_*.csv"))


def write_summary(out: Path, result: dict[str, float], curves: Sequence[str]) -> None:
    """`result.json`, and a picture of some curves of the log; the result is printed as well."""
    temporary = out / "result.json.tmp"
    temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    temporary.replace(out / "result.json")
    log = read_log(out)
    panels = {name: log[name] for name in curves if name in log}
    if panels:
        save_picture(picture_of_curves(panels), out / "curves.png")
    print(json.dumps(result))


def write_example(out: Path, validation: Validation) -> None:
    """A picture of a validation scene as it is labelled at the end."""
    if validation.example is not None:
        classes, points, best = validation.example
        picture = picture_of_segmentation(points.coord, points.normal, points.segment, best, classes.names)
        save_picture(picture, out / "validation_scene.png")


def read_log(out: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values of everything in the CSV log of a run; of steps done twice, after a stop, those that counted."""
    rows: list[dict[str, str]] = []
    for file in (*_earlier(out / LOG), out / LOG / _METRICS):
        if not file.exists():
            continue
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        part = list(csv.DictReader(line for line in lines if line.endswith("\n")))  # a killed process leaves half a line
        if part:
            first = min(int(row["step"]) for row in part)
            rows = [row for row in rows if int(row["step"]) < first] + part
    found: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "epoch") and value:
                steps, values = found.setdefault(name, ([], []))
                steps.append(float(row["step"]))
                values.append(float(value))
    return {name: (np.array(steps), np.array(values)) for name, (steps, values) in found.items()}
