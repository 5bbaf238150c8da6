"""Evaluate an encoder over datasets in the published layout: annotation-free semantic segmentation, and classes of given masks.

python training/eval.py data=rooms data.root=data/rooms
python training/eval.py experiment=train_spunet_multidata_ppt data=sc+ar+sc++ model=spunet34c+ppt ckpt_path=FILE
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed

import hydra
import numpy as np
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.metrics.evaluation import SemanticEvaluator
from mosaic3d_core.metrics.instance_ap import InstanceScores
from mosaic3d_core.models import load_checkpoint
from mosaic3d_core.models.scene_encoder import DEFAULT_CHECKPOINT, SceneEncoder
from mosaic3d_core.models.text import check_text_encoder, get_text_encoder
from mosaic3d_core.models.text.base import base_name
from mosaic3d_core.visualization.confusion import picture_of_confusion
from mosaic3d_core.visualization.pictures import save_picture
from training.evaluation import EvaluationSet, InstanceFiles, SceneLabeller, collect, evaluate

console = Console(highlight=False)


def run(config: DictConfig) -> dict[str, Any]:
    """Evaluate every dataset of the configuration; returns what `result.json` holds."""
    out = Path(config.out)
    source = config.ckpt_path or str(DEFAULT_CHECKPOINT)
    loaded = load_checkpoint(source)
    _check_model(config, loaded.config.name, loaded.config.conditions)
    results: dict[str, Any] = {"checkpoint": str(config.ckpt_path or "shipped"), "architecture": loaded.config.name}
    for name in config.data.val_datasets:
        if name not in config.datasets:
            raise Mosaic3DError(f"dataset {name} is unknown: datasets has {', '.join(config.datasets)}")
        spec = config.datasets[name]
        if spec.classes is None:
            raise Mosaic3DError(
                f"the class list of {name} is not public: give it as datasets.{name}.classes=FILE, one class per line"
            )
        split = None if spec.split is None else Path(spec.split)
        root = Path(config.data.root) / spec.folder
        files = None if spec.masks is None else InstanceFiles(Path(spec.masks), spec.instance, spec.no_instance)
        data = EvaluationSet.open(name, root, split, spec.classes, spec.segment, spec.condition, config.limit, files)
        encoder = SceneEncoder(loaded, config.device, config.dtype, condition=data.condition)
        own = encoder.text_encoder_name  # where it names a file that holds the encoder, that is the same encoder
        wanted = own if config.text_encoder in (None, base_name(own)) else config.text_encoder
        text = get_text_encoder(wanted, cache_dir=config.text_cache)
        check_text_encoder(encoder, text)
        labeller = SceneLabeller(encoder, text, data.classes, config.prompt, config.voxelization, files is not None)
        stat = os.stat(source) if os.path.exists(source) else None
        key = {
            "checkpoint": [source, stat and stat.st_size, stat and stat.st_mtime_ns],
            "dtype": str(encoder.dtype),
            "condition": encoder.condition,
            "classes": data.classes.names,
            "prompt": config.prompt,
            "text": text.name,
            "voxelization": config.voxelization,
            "segment": data.segment,
            # in a batch of several scenes the published lattice depends on all of them
            "batch": [s.name for s in data.scenes] if config.voxelization == "official" and config.batch_size > 1 else None,
            "batch_size": config.batch_size,
            "masks": None if files is None else [str(files.masks), *(_changed(files.masks_of(s)) for s in data.scenes)],
        }
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(name, total=len(data.scenes))
            for done in evaluate(data, labeller, key, out / "scenes" / name, config.batch_size):
                progress.update(task, completed=done)
        total, instances = collect(data, key, out / "scenes" / name)
        results[name] = _as_json(total, len(data.scenes))
        _show(name, total)
        if instances is not None:
            results[name]["instances"] = _instances_as_json(instances, data.classes.names)
            _show_instances(name, instances)
        picture = picture_of_confusion(total.foreground_confusion, data.classes.names, f"{name}: what is taken for what")
        console.print(str(save_picture(picture, out / f"confusion_{name}.png")), soft_wrap=True)
    temporary = out / "result.json.tmp"
    temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, out / "result.json")
    console.print(str(out / "result.json"), soft_wrap=True)
    return results


def _changed(path: Path) -> list[int] | None:
    """What tells that a file was written anew; None if there is none."""
    if not path.exists():
        return None
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _check_model(config: DictConfig, architecture: str, conditions: tuple[str, ...]) -> None:
    wanted = str(config.model.variant)
    if architecture != wanted:
        raise Mosaic3DError(f"the checkpoint is a {architecture}, but model={wanted} was asked for: set model={architecture}")
    listed = tuple(config.data.conditions)
    if listed and listed != conditions:
        raise Mosaic3DError(
            f"the checkpoint knows {', '.join(conditions) or 'no conditions'}, but this data set-up lists {', '.join(listed)}: "
            "choose the data= of the checkpoint's training"
        )


def _as_json(total: SemanticEvaluator, scenes: int) -> dict[str, Any]:
    values: dict[str, Any] = {"scenes": scenes}
    for protocol in ("official", "present"):
        s = total.scores(protocol)  # type: ignore[arg-type]
        named = {"f_miou": s.f_miou, "f_macc": s.f_macc, "miou": s.miou, "macc": s.macc, **s.groups}
        values[protocol] = {key: None if np.isnan(value) else value for key, value in named.items()}
    present = total.scores("present")
    values["iou"] = {
        name: None if np.isnan(value) else round(float(value), 5)
        for name, value in zip(total.classes.names, present.iou, strict=True)
    }
    return values


def _instances_as_json(scores: InstanceScores, names: tuple[str, ...]) -> dict[str, Any]:
    values = {"map": scores.map, "ap50": scores.ap50, "ap25": scores.ap25, **scores.groups}
    found: dict[str, Any] = {key: None if np.isnan(value) else value for key, value in values.items()}
    rows = zip(names, scores.per_class, strict=True)
    found["per_class"] = {name: [round(float(v), 5) for v in row] for name, row in rows if np.isfinite(row).all()}
    return found


def _show_instances(name: str, scores: InstanceScores) -> None:
    table = Table(box=SIMPLE_HEAD, title=f"instances of {name}, average precision in percent")
    for column in ("mAP", "AP50", "AP25", *scores.groups):
        table.add_column(column, justify="right")
    table.add_row(*(f"{100 * v:.2f}" for v in (scores.map, scores.ap50, scores.ap25, *scores.groups.values())))
    console.print(table)


def _show(name: str, total: SemanticEvaluator) -> None:
    official, present = total.scores("official"), total.scores("present")
    table = Table(box=SIMPLE_HEAD, title=f"{name}, in percent")
    for column in ("protocol", "f-mIoU", "f-mAcc", "mIoU", "mAcc", *official.groups):
        table.add_column(column, justify="left" if column == "protocol" else "right")
    for label, s in (("official", official), ("present classes only", present)):
        values = (s.f_miou, s.f_macc, s.miou, s.macc, *s.groups.values())
        table.add_row(label, *(f"{100 * v:.2f}" for v in values))
    console.print(table)
    classes = Table(box=SIMPLE_HEAD, title="foreground classes with ground truth")
    for column in ("class", "IoU", "accuracy", "points"):
        classes.add_column(column, justify="left" if column == "class" else "right")
    for i in np.argsort(-total.scores().points, kind="stable"):
        if np.isfinite(present.iou[i]):
            row = f"{100 * present.iou[i]:.1f}", f"{100 * present.accuracy[i]:.1f}", f"{present.points[i]:,}"
            classes.add_row(total.classes.names[i], *row)
    console.print(classes)


@hydra.main(version_base="1.3", config_path="../config/training", config_name="eval")
def main(config: DictConfig) -> None:
    """Command line; exit code 2 and one line for bad input, 130 after Ctrl-C (a second call goes on)."""
    try:
        run(config)
    except (Mosaic3DError, ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
