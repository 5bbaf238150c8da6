"""Does stage 1 of Mosaic3D learn as the paper says? Small trainings on generated rooms, on a CPU.

1. Masks: precise ones against their bounding boxes, and chance.
2. Scale: more rooms, bigger nets.
3. Mixing: rooms of two styles, with and without prompt-driven norms, against one style alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mosaic3d_core.data.scene_folder import read_points
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.metrics.evaluation import SemanticEvaluator
from training.studies.plots import bars, trend
from training.studies.rooms import record_all
from training.studies.runs import Run, Spread, over_seeds, run_all

SCORE = "val/unseen/f_miou"
SCORE_OTHER = "val/unseen_other/f_miou"
#: Narrow nets with the blocks of the published variants.
_WIDTHS = "[16,24,48,64,48,32,32,32]"
_BLOCKS = {"14a": "[1,1,1,1,1,1,1,1]", "18a": "[2,2,2,2,2,2,2,2]", "34c": "[2,3,4,6,2,2,2,2]"}


@dataclass(frozen=True)
class Scale:
    """How large the study is.

    Attributes:
        rooms: Rooms of the data-scale curve, ascending; one of them is ``usual``.
        usual: Rooms of the other arms.
        mixed: Rooms of each style when styles are mixed; in ``rooms``.
        unseen: Rooms of each style to score on.
        steps: Steps of every training.
        seeds: Seeds.
    """

    rooms: tuple[int, ...] = (25, 50, 100, 200)
    usual: int = 100
    mixed: int = 50
    unseen: int = 20
    steps: int = 1000
    seeds: tuple[int, ...] = (1, 2, 3)


QUICK = Scale(rooms=(4, 16), usual=16, mixed=4, unseen=4, steps=200, seeds=(1,))


@dataclass
class Outcome:
    """What came out.

    Attributes:
        scale: The size of the study.
        results: Scores of every run by (arm, seed).
        chance: f-mIoU of labels drawn at random, plain and other rooms.
    """

    scale: Scale
    results: dict[tuple[str, int], dict[str, float]]
    chance: tuple[float, float] = (0.0, 0.0)
    claims: dict[str, Any] = field(default_factory=dict)

    def score(self, arm: str, key: str = SCORE) -> Spread:
        """Foreground mIoU of an arm."""
        return over_seeds(self.results, arm, key)

    def gain(self, arm: str, over: str, key: str = SCORE) -> Spread:
        """Difference of two arms, seed by seed."""
        pairs = zip(self.score(arm, key).values, self.score(over, key).values, strict=True)
        return Spread(tuple(a - b for a, b in pairs))


def _base(data: Path, scale: Scale) -> list[str]:
    unseen = [
        f"+datasets.{name}={{folder: {name}, split: null, classes: rooms, segment: segment.npy, condition: {style}}}"
        for name, style in (("unseen", "plain"), ("unseen_other", "other"))
    ]
    return [
        f"data.root={data}",
        "~data.datasets.rooms",
        *unseen,
        "data.val_datasets=[unseen,unseen_other]",
        "model.voxel_size_m=0.06",
        "data.max_voxels=8000",
        "data.captions_per_mask=1",
        "data.workers=0",
        "threads=1",
        f"trainer.max_steps={scale.steps}",
        f"trainer.val_every_steps={10 * scale.steps}",
        "save_every=1000000",
    ]


def _data(rooms: int, folder: str = "plain", source: str = "precise") -> str:
    split = f"{folder}_{rooms}.txt"
    spec = f"{{folder: {folder}, split: {split}, sources: [{source}], condition: {folder}, transforms: rooms}}"
    return f"+data.datasets.{folder}={spec}"


def _net(variant: str = "14a", prompted: bool = False) -> list[str]:
    overrides = [
        f"+model.overrides.blocks={_BLOCKS[variant]}",
        f"+model.overrides.channels={_WIDTHS}",
        "+model.overrides.base=16",
    ]
    if not prompted:
        return overrides
    published = ["+model.overrides.momentum=0.1", "+model.overrides.init=kaiming", "model.out_channels=384"]
    return [*overrides, *published, "model.variant=spunet14a+ppt", "data.conditions=[plain,other]"]


def arms(scale: Scale) -> dict[str, list[str]]:
    """Arguments of every arm, without what all share."""
    found = {f"rooms{n}": [_data(n), *_net()] for n in scale.rooms}
    found["boxes"] = [_data(scale.usual, source="boxes"), *_net()]
    for variant in ("18a", "34c"):
        found[variant] = [_data(scale.usual), *_net(variant)]
    other = _data(scale.mixed, "other")
    both = [_data(scale.mixed), other]
    found["other_alone"] = [other, *_net()]
    found["mixed"] = [*both, *_net()]
    found["mixed_ppt"] = [*both, *_net(prompted=True)]
    return found


def run(out: Path, scale: Scale, jobs: int) -> Outcome:
    """Record the rooms, train every arm with every seed, score, print tables and draw.

    Args:
        out: Folder for rooms, runs, ``results.json`` and pictures; a second call goes on where the first stopped.
        scale: Size.
        jobs: Processes at a time.

    Raises:
        Mosaic3DError: If a training fails.
    """
    data = out / "rooms"
    _prepare(data, scale, jobs)
    base = _base(data, scale)
    runs = [Run(arm, seed, (*base, *extra)) for seed in scale.seeds for arm, extra in arms(scale).items()]
    outcome = Outcome(scale, run_all(runs, out / "runs", jobs))
    outcome.chance = _chance(data / "unseen", scale), _chance(data / "unseen_other", scale)
    outcome.claims = claims(outcome)
    _write(outcome, out)
    return outcome


def _prepare(data: Path, scale: Scale, jobs: int) -> None:
    rooms = max(*scale.rooms, scale.usual)
    wanted = [(seed, "train", "plain", data / "plain") for seed in range(rooms)]
    wanted += [(seed, "train", "other", data / "other") for seed in range(1000, 1000 + scale.mixed)]
    wanted += [(seed, "val", "plain", data / "unseen") for seed in range(scale.unseen)]
    wanted += [(seed, "val", "other", data / "unseen_other") for seed in range(1000, 1000 + scale.unseen)]
    record_all(wanted, jobs)
    for count in {*scale.rooms, scale.usual, scale.mixed}:
        _write_split(data / f"plain_{count}.txt", [f"train-{seed:04d}" for seed in range(count)])
    _write_split(data / f"other_{scale.mixed}.txt", [f"train-{seed:04d}" for seed in range(1000, 1000 + scale.mixed)])


def _write_split(path: Path, names: list[str]) -> None:
    path.write_text("\n".join(names) + "\n", encoding="utf-8")


def _chance(folder: Path, scale: Scale) -> float:
    """f-mIoU of labels drawn evenly from the foreground classes."""
    classes = get_class_list("rooms")
    total, rng = SemanticEvaluator(classes), np.random.default_rng(0)
    foreground = np.array(classes.foreground)
    for scene in sorted(folder.glob("*/coord.npy"))[: scale.unseen]:
        segment = read_points(scene.parent, "segment.npy").segment
        guess = rng.choice(foreground, len(segment))
        total.add_labels(guess, guess, segment)
    return total.scores("present").f_miou


def claims(outcome: Outcome) -> dict[str, Any]:
    """The paper's claims and what was measured: mean and deviation over seeds of f-mIoU, in points."""
    scale, usual = outcome.scale, f"rooms{outcome.scale.usual}"
    few, many = f"rooms{min(scale.rooms)}", f"rooms{max(scale.rooms)}"
    alone = f"rooms{scale.mixed}"
    gains = {
        "precise masks over boxes": outcome.gain(usual, "boxes"),
        "precise masks over chance": Spread(tuple(v - outcome.chance[0] for v in outcome.score(usual).values)),
        f"{max(scale.rooms)} rooms over {min(scale.rooms)}": outcome.gain(many, few),
        "18a blocks over 14a": outcome.gain("18a", usual),
        "34c blocks over 14a": outcome.gain("34c", usual),
        "mixed with prompt-driven norms over without, plain rooms": outcome.gain("mixed_ppt", "mixed"),
        "mixed with prompt-driven norms over without, other rooms": outcome.gain("mixed_ppt", "mixed", SCORE_OTHER),
        "mixed with prompt-driven norms over plain alone, plain rooms": outcome.gain("mixed_ppt", alone),
        "mixed with prompt-driven norms over other alone, other rooms": outcome.gain("mixed_ppt", "other_alone", SCORE_OTHER),
    }
    return {
        name: {"mean": 100 * gain.mean, "deviation": 100 * gain.deviation, "seeds": len(gain.values)}
        for name, gain in gains.items()
    }


def _write(outcome: Outcome, out: Path) -> None:
    scale = outcome.scale
    table = Table("arm", "f-mIoU, plain rooms", "f-mIoU, other rooms", title="unseen rooms, mean ± deviation over seeds")
    for arm in arms(scale):
        table.add_row(arm, str(outcome.score(arm)), str(outcome.score(arm, SCORE_OTHER)))
    table.add_row("chance", f"{100 * outcome.chance[0]:.1f}", f"{100 * outcome.chance[1]:.1f}")
    differences = Table("claim", "points of f-mIoU", title="differences, seed by seed")
    for name, value in outcome.claims.items():
        differences.add_row(name, f"{value['mean']:+.1f} ± {value['deviation']:.1f}")
    for one in (table, differences):
        Console().print(one)
    values = {
        "scale": vars(scale),
        "chance": outcome.chance,
        "claims": outcome.claims,
        "runs": [{"arm": arm, "seed": seed, **found} for (arm, seed), found in sorted(outcome.results.items())],
    }
    (out / "results.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    usual = f"rooms{scale.usual}"
    score = outcome.score
    bars(
        out / "masks.png",
        "precise masks against boxes",
        {"plain rooms": {"precise": score(usual), "boxes": score("boxes"), "chance": Spread((outcome.chance[0],))}},
    )
    trend(out / "rooms.png", "rooms to train on", [(n, score(f"rooms{n}")) for n in scale.rooms])
    bars(
        out / "models.png",
        "depth of the net",
        {"plain rooms": {"14a": score(usual), "18a": score("18a"), "34c": score("34c")}},
    )
    bars(
        out / "styles.png",
        "two styles of rooms",
        {
            name: {
                "plain alone": score(f"rooms{scale.mixed}", key),
                "other alone": score("other_alone", key),
                "mixed": score("mixed", key),
                "mixed, prompt-driven": score("mixed_ppt", key),
            }
            for name, key in (("plain rooms", SCORE), ("other rooms", SCORE_OTHER))
        },
    )
