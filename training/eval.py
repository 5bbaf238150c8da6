"""Evaluate an encoder over datasets in the published layout: annotation-free semantic segmentation, and instances.

Instances come from a mask decoder (decoder=FILE), from another program (datasets.NAME.masks=FOLDER), or are left out.

python training/eval.py data=rooms data.root=data/rooms
python training/eval.py data=rooms data.root=data/rooms_val decoder=out/train/best.safetensors
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
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.interrupts import lasting_interrupts
from mosaic3d_core.metrics.evaluation import SemanticEvaluator
from mosaic3d_core.metrics.instance_ap import InstanceScores
from mosaic3d_core.models import LoadedCheckpoint, load_checkpoint
from mosaic3d_core.models.mask_decoder.checkpoint import LoadedDecoder, load_decoder
from mosaic3d_core.models.scene_encoder import DEFAULT_CHECKPOINT, SceneEncoder
from mosaic3d_core.models.text import check_text_encoder, get_text_encoder
from mosaic3d_core.models.text.base import base_name
from mosaic3d_core.query.proposals import DecoderProposals, ProposalConfig
from mosaic3d_core.visualization.confusion import picture_of_confusion
from mosaic3d_core.visualization.pictures import save_picture
from training.evaluation import EvaluationSet, InstanceFiles, SceneLabeller, collect, evaluate
from training.instance_masks import DecoderMasks, GivenMasks, MaskSource

console = Console(highlight=False)


def run(config: DictConfig) -> dict[str, Any]:
    """Evaluate every dataset of the configuration; returns what `result.json` holds.

    Raises:
        Mosaic3DError: If the configuration or a scene does not fit; CheckpointError of it for the encoder and the decoder.
    """
    out = Path(config.out)
    _check_datasets(config)
    source = config.ckpt_path or str(DEFAULT_CHECKPOINT)
    loaded = load_checkpoint(source)
    _check_model(config, loaded.config.name, loaded.config.conditions)
    decoder = None if config.decoder is None else load_decoder(config.decoder)
    results: dict[str, Any] = {"checkpoint": str(config.ckpt_path or "shipped"), "architecture": loaded.config.name}
    for name in config.data.val_datasets:
        results[name] = _evaluate_dataset(config, name, source, loaded, decoder)
    temporary = out / "result.json.tmp"
    temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, out / "result.json")
    console.print(str(out / "result.json"), soft_wrap=True)
    return results


def _check_datasets(config: DictConfig) -> None:
    """Refuse what does not fit before any scene is encoded."""
    for name in config.data.val_datasets:
        if name not in config.datasets:
            raise Mosaic3DError(f"dataset {name} is unknown: datasets has {', '.join(config.datasets)}")
        spec = config.datasets[name]
        if spec.classes is None:
            raise Mosaic3DError(
                f"the class list of {name} is not public: give it as datasets.{name}.classes=FILE, one class per line"
            )
        if config.decoder is not None and spec.masks is not None:
            raise Mosaic3DError(
                f"decoder={config.decoder} and datasets.{name}.masks={spec.masks} are both given, but instances come from one of "
                "them: leave the other out"
            )


def _evaluate_dataset(
    config: DictConfig, name: str, source: str, loaded: LoadedCheckpoint, decoder: LoadedDecoder | None
) -> dict[str, Any]:
    """Scores of one dataset, shown and as JSON holds them."""
    spec, out = config.datasets[name], Path(config.out)
    given = None if spec.masks is None else GivenMasks(Path(spec.masks))
    with_instances = given is not None or decoder is not None
    files = InstanceFiles(spec.instance, spec.no_instance) if with_instances else None
    split, root = None if spec.split is None else Path(spec.split), Path(config.data.root) / spec.folder
    condition = spec.condition if loaded.config.conditions else None  # a net without conditions suits every set
    data = EvaluationSet.open(name, root, split, spec.classes, spec.segment, condition, config.limit, files)
    encoder = SceneEncoder(loaded, config.device, config.dtype, condition=data.condition)
    if decoder is not None:
        decoder.check_encoder(encoder.head, Path(config.decoder).name)
    own = encoder.text_encoder_name  # where it names a file that holds the encoder, that is the same encoder
    text = get_text_encoder(
        own if config.text_encoder in (None, base_name(own)) else config.text_encoder, cache_dir=config.text_cache
    )
    check_text_encoder(encoder, text)
    labeller = SceneLabeller(
        encoder, text, data.classes, config.prompt, config.voxelization, given is not None, decoder is not None
    )
    masks: MaskSource | None = given if decoder is None else _decoder_masks(config, encoder, decoder, labeller)
    key = _key(config, source, data, encoder, text.name, given)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=len(data.scenes))
        for done in evaluate(data, labeller, key, out / "scenes" / name, config.batch_size, masks):
            progress.update(task, completed=done)
    total, instances = collect(data, key, out / "scenes" / name)
    result = _as_json(total, len(data.scenes))
    _show(name, total)
    if instances is not None:
        origin = f"masks {spec.masks}" if decoder is None else f"decoder {config.decoder}"
        result["instances"] = {"from": origin, **_instances_as_json(instances, data.classes.names)}
        _show_instances(name, origin, instances)
    picture = picture_of_confusion(total.foreground_confusion, data.classes.names, f"{name}: what is taken for what")
    console.print(str(save_picture(picture, out / f"confusion_{name}.png")), soft_wrap=True)
    return result


def _decoder_masks(config: DictConfig, encoder: SceneEncoder, decoder: LoadedDecoder, labeller: SceneLabeller) -> DecoderMasks:
    if config.decoder_classes not in ("embedding", "feature"):
        raise Mosaic3DError(f'decoder_classes must be "embedding" or "feature", got "{config.decoder_classes}"')
    p = config.proposals
    kept = ProposalConfig(float(p.min_quality), int(p.min_cells), float(p.max_gap_m), float(p.max_overlap))
    proposals = DecoderProposals(decoder.model.to(encoder.device), kept, dtype=encoder.dtype)
    return DecoderMasks(proposals, labeller.texts, config.decoder_classes)


def _key(
    config: DictConfig, source: str, data: EvaluationSet, encoder: SceneEncoder, text: str, given: GivenMasks | None
) -> dict[str, object]:
    """What the result of a scene depends on."""
    decoder = None if config.decoder is None else [config.decoder, _changed(Path(config.decoder))]
    return {
        "checkpoint": [source, *(_changed(Path(source)) or (None, None))],
        "dtype": str(encoder.dtype),
        "condition": encoder.condition,
        "classes": data.classes.names,
        "prompt": config.prompt,
        "text": text,
        "voxelization": config.voxelization,
        "segment": data.segment,
        # in a batch of several scenes the published lattice depends on all of them
        "batch": [s.name for s in data.scenes] if config.voxelization == "official" and config.batch_size > 1 else None,
        "batch_size": config.batch_size,
        "masks": None if given is None else [str(given.folder), *(_changed(given.file_of(s)) for s in data.scenes)],
        "decoder": decoder and [*decoder, config.decoder_classes, OmegaConf.to_container(config.proposals)],
    }


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
    if listed and conditions and listed != conditions:
        raise Mosaic3DError(
            f"the checkpoint knows {', '.join(conditions)}, but this data set-up lists {', '.join(listed)}: "
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


def _show_instances(name: str, origin: str, scores: InstanceScores) -> None:
    table = Table(box=SIMPLE_HEAD, title=f"instances of {name}, average precision in percent")
    for column in ("mAP", "AP50", "AP25", *scores.groups):
        table.add_column(column, justify="right")
    values = (scores.map, scores.ap50, scores.ap25, *scores.groups.values())
    table.add_row(*("-" if np.isnan(v) else f"{100 * v:.2f}" for v in values))  # no class of a group may have instances
    console.print(table)
    console.print(f"instances from {origin}", soft_wrap=True)


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
        with lasting_interrupts():
            run(config)
    except (Mosaic3DError, ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
