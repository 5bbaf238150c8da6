"""Loggers, and what a run leaves for people to look at."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.visualization.curves import picture_of_curves
from mosaic3d_core.visualization.pictures import save_picture
from mosaic3d_core.visualization.segmentation import picture_of_segmentation
from training.validation import Validation

LOG = "log"


def build_logger(config: Any, out: Path) -> list[Logger]:
    """CSV always (the summary is made from it), and the logger of the configuration beside it.

    Raises:
        Mosaic3DError: If the logger is unknown or its package is not installed.
    """
    loggers: list[Logger] = [CSVLogger(out, name=LOG, version="")]
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
    """Steps and values of everything in the CSV log of a run."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    file = out / LOG / "metrics.csv"
    if not file.exists():
        return {}
    with file.open(encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    steps, values = found.setdefault(name, ([], []))
                    steps.append(float(row["step"]))
                    values.append(float(value))
    return {name: (np.array(steps), np.array(values)) for name, (steps, values) in found.items()}
