"""Does a mask decoder find objects that connected components do not? Small trainings on generated rooms, on a CPU.

1. Source: the decoder against connected components of the same frozen encoder, on rooms that neither has seen.
2. Encoder: the given one (by default the shipped one); and two short-trained ones that see rooms of two styles and differ only in
   their norms, plain or prompt-driven. Components know what a thing is only from the encoder, a decoder learns where it ends.
3. Queries: a decoder trained with a hundred is asked for fewer and for more.

The encoders of 2 are those of the study of stage 1 (its arms "mixed" and "mixed_ppt"), trained once and shared by all seeds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.scene_encoder import DEFAULT_CHECKPOINT
from training.studies import mosaic3d
from training.studies.object_runs import Scoring, score_all
from training.studies.plots import bars, trends
from training.studies.runs import Run, Spread, run_all

#: Arms: what the encoder is, and what of the study of stage 1 trains it (None: it is given).
ARMS = {"given": None, "plain norms": "mixed", "prompt-driven norms": "mixed_ppt"}
_CONDITION = "plain"
_POINTS = 200_000  # a given encoder was trained on maps as dense as a robot's
_SEED = 1  # of the encoders that are trained here


@dataclass(frozen=True)
class Scale:
    """How large the study is.

    Attributes:
        rooms: Rooms to train on; the encoders of the study see as many of another style as well.
        unseen: Rooms to score on.
        encoder_steps: Steps of the encoders per style.
        steps: Steps of a decoder.
        seeds: Seeds of the decoders.
        queries: Numbers of queries to ask with, ascending; one of them is ``usual``.
        usual: Queries of all other comparisons.
        arms: Keys of `ARMS`.
        net: Sizes of the decoder that are not those of the recipe.
    """

    rooms: int = 100
    unseen: int = 16
    encoder_steps: int = 1000
    steps: int = 1500
    seeds: tuple[int, ...] = (1, 2, 3)
    queries: tuple[int, ...] = (50, 100, 150, 300)
    usual: int = 150
    arms: tuple[str, ...] = tuple(ARMS)
    net: tuple[str, ...] = ()


QUICK = Scale(
    rooms=2,
    unseen=1,
    encoder_steps=4,
    steps=8,
    seeds=(1,),
    queries=(10, 20),
    usual=20,
    arms=("given", "prompt-driven norms"),
    net=("hidden=32", "feedforward=64", "heads=4", "queries=20", "iterations=2"),
)


@dataclass
class Outcome:
    """What came out.

    Attributes:
        scale: The size of the study.
        components: Scores of connected components by arm.
        decoders: Scores of every decoder by (arm, seed).
    """

    scale: Scale
    components: dict[str, dict[str, float]]
    decoders: dict[tuple[str, int], dict[str, float]]
    claims: dict[str, Any] = field(default_factory=dict)

    def component(self, arm: str, key: str) -> Spread:
        """A score of connected components, which know no seed."""
        return Spread((self.components[arm][key],))

    def decoder(self, arm: str, key: str, queries: int | None = None) -> Spread:
        """A score of an arm's decoders over the seeds."""
        name = f"{key}@{queries or self.scale.usual}"
        return Spread(tuple(self.decoders[arm, seed][name] for seed in self.scale.seeds))


def run(out: Path, scale: Scale, jobs: int, encoder: Path | None = None) -> Outcome:
    """Record the rooms, train encoders and decoders, score, print tables and draw.

    Args:
        out: Folder for rooms, runs, ``results.json`` and pictures; a second call goes on where the first stopped.
        scale: Size.
        jobs: Processes at a time.
        encoder: Encoder of arm "given"; None for the one that ships.

    Raises:
        Mosaic3DError: If a training fails.
        CheckpointError: If the encoder cannot be read.
    """
    data = out / "rooms"
    stage1 = _stage1(scale)
    files = {"given": _kept(encoder or DEFAULT_CHECKPOINT, out, "given")} if "given" in scale.arms else {}
    mosaic3d.prepare(data, stage1, jobs, _POINTS)
    trained = {arm: name for arm, name in ARMS.items() if arm in scale.arms and name is not None}
    first = [Run(name, _SEED, (*mosaic3d.shared(data, stage1), *mosaic3d.arms(stage1)[name])) for name in trained.values()]
    # no core waits: what needs no encoder of the study is trained beside these
    run_all([*first, *_decoders(data, scale, files)], out / "runs", jobs)
    for arm, name in trained.items():
        files[arm] = _kept(out / "runs" / Run(name, _SEED, ()).name / "model.safetensors", out, name)
    runs = _decoders(data, scale, files)
    run_all(runs, out / "runs", jobs)
    outcome = _score(runs, files, sorted(p.parent for p in (data / "unseen").glob("*/coord.npy")), out, scale, jobs)
    outcome.claims = claims(outcome)
    _write(outcome, out)
    return outcome


def _stage1(scale: Scale) -> mosaic3d.Scale:
    """The part of the study of stage 1 that makes the rooms and the encoders."""
    return mosaic3d.Scale(
        rooms=(scale.rooms,), usual=scale.rooms, mixed=scale.rooms, unseen=scale.unseen, steps=scale.encoder_steps
    )


def _kept(file: Path, out: Path, name: str) -> Path:
    """A copy of an encoder under a name that says which it is: another one in its place makes other runs."""
    if not file.is_file():
        raise CheckpointError(f"encoder {file} does not exist: give the path of a .safetensors file")
    target = out / "encoders" / f"{name}-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}.safetensors"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        shutil.copyfile(file, part)
        os.replace(part, target)
    return target


def arguments(arm: str, encoder: Path, data: Path, scale: Scale) -> list[str]:
    """Arguments of the training of a decoder: the recipe for rooms, with the study's rooms, steps and encoder."""
    return [
        "experiment=train_mask_decoder_rooms",
        f"data.root={data}",
        f"data.datasets.rooms.folder={_CONDITION}",
        "datasets.rooms_val.folder=unseen",
        "data.val_scenes=1",  # scores are taken afterwards, from all unseen rooms
        "data.workers=0",
        "threads=1",
        f"model.net.backbone_ckpt={encoder}",
        *([f"model.net.backbone_condition={_CONDITION}"] if _prompted(arm) else []),
        *(f"model.net.{one}" for one in scale.net),
        f"trainer.max_steps={scale.steps}",
        f"trainer.val_every_steps={10 * scale.steps}",
        "save_every=1000000",
    ]


def _prompted(arm: str) -> bool:
    return ARMS[arm] == "mixed_ppt"


def _run_name(arm: str) -> str:
    return "decoder_" + arm.split()[0].replace("-", "_")


def _decoders(data: Path, scale: Scale, files: dict[str, Path]) -> list[Run]:
    """Runs of the arms whose encoder is there."""
    return [
        Run(_run_name(arm), seed, tuple(arguments(arm, file, data, scale))) for seed in scale.seeds for arm, file in files.items()
    ]


def _score(runs: Sequence[Run], files: dict[str, Path], folders: Sequence[Path], out: Path, scale: Scale, jobs: int) -> Outcome:
    arm_of = {_run_name(arm): arm for arm in files}
    condition = {arm: _CONDITION if _prompted(arm) else None for arm in files}
    wanted = [Scoring(f"components-{_run_name(arm)}", file, condition[arm]) for arm, file in files.items()]
    for one in runs:
        arm = arm_of[one.arm]
        decoder = out / "runs" / one.name / "decoder.safetensors"
        wanted.append(Scoring(one.name, files[arm], condition[arm], decoder, scale.queries))
    found = score_all(wanted, folders, out / "scores", jobs)
    return Outcome(
        scale,
        {arm: found[f"components-{_run_name(arm)}"] for arm in files},
        {(arm_of[one.arm], one.seed): found[one.name] for one in runs},
    )


def _minus(a: Spread, b: Spread) -> Spread:
    """Differences seed by seed; of one value to all where one has no seeds."""
    others = b.values * len(a.values) if len(b.values) == 1 else b.values
    return Spread(tuple(x - y for x, y in zip(a.values, others, strict=True)))


def claims(outcome: Outcome) -> dict[str, Any]:
    """What was asked and what was measured: mean and deviation over seeds of AP50, in points."""
    scale, gains = outcome.scale, {}
    for words, key in (("objects", "ap50"), ("objects by name", "class_ap50")):
        for arm in scale.arms:
            gains[f"decoder over components, {arm} encoder: {words}"] = _minus(
                outcome.decoder(arm, key), outcome.component(arm, key)
            )
        if {"plain norms", "prompt-driven norms"} <= set(scale.arms):
            gains[f"prompt-driven over plain norms: {words}"] = _minus(
                outcome.decoder("prompt-driven norms", key), outcome.decoder("plain norms", key)
            )
        few, many = min(scale.queries), max(scale.queries)
        arm = scale.arms[0]
        gains[f"{many} queries over {few}, {arm} encoder: {words}"] = _minus(
            outcome.decoder(arm, key, many), outcome.decoder(arm, key, few)
        )
    return {
        name: {"mean": 100 * found.mean, "deviation": 100 * found.deviation, "seeds": len(found.values)}
        for name, found in gains.items()
    }


def _write(outcome: Outcome, out: Path) -> None:
    scale = outcome.scale
    columns = {"AP50": "ap50", "AP25": "ap25", "AP50 by name": "class_ap50", "AP25 by name": "class_ap25"}
    table, keys = Table("encoder", "source", *columns, title="unseen rooms, mean ± deviation over seeds"), columns.values()
    for arm in scale.arms:
        table.add_row(arm, "components", *(str(outcome.component(arm, key)) for key in keys))
        for queries in scale.queries:
            table.add_row("", f"decoder, {queries} queries", *(str(outcome.decoder(arm, key, queries)) for key in keys))
    differences = Table("claim", "points of AP50", title="differences, seed by seed")
    for name, value in outcome.claims.items():
        differences.add_row(name, f"{value['mean']:+.1f} ± {value['deviation']:.1f}")
    for one in (table, differences):
        Console().print(one)
    values = {
        "scale": vars(scale),
        "claims": outcome.claims,
        "components": outcome.components,
        "decoders": [{"arm": arm, "seed": seed, **found} for (arm, seed), found in sorted(outcome.decoders.items())],
    }
    (out / "results.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    for file, title, key in (("objects.png", "objects", "ap50"), ("names.png", "objects by name", "class_ap50")):
        label = f"{'AP50' if key == 'ap50' else 'AP50 by name'} on unseen rooms, %"
        groups = {
            f"{arm}\nencoder": {"components": outcome.component(arm, key), "decoder": outcome.decoder(arm, key)}
            for arm in scale.arms
        }
        bars(out / file, title, groups, label)
    curves = {arm: [(count, outcome.decoder(arm, "ap50", count)) for count in scale.queries] for arm in scale.arms}
    trends(out / "queries.png", "queries", curves, "AP50 on unseen rooms, %")
