"""Does stage 1 of Mosaic3D learn as the paper says? Small trainings on generated rooms, on a CPU.

1. Masks: precise ones against their bounding boxes, and chance.
2. Scale: more rooms, deeper nets.
3. Mixing: rooms of two styles, with and without prompt-driven norms, against one style alone. A mixture takes twice the steps, so
   that each style is seen as often as alone (as in the published schedule); one style alone for as many steps stands beside it.

No augmentation: in trainings as short as these it hides what more rooms bring, and costs more than it gives.
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
from training.studies.rooms import POINTS, record_all
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
        steps: Steps of a training; mixtures and the data-scale curve take twice as many.
        seeds: Seeds.
    """

    rooms: tuple[int, ...] = (25, 50, 100, 200)
    usual: int = 100
    mixed: int = 50
    unseen: int = 20
    steps: int = 1000
    seeds: tuple[int, ...] = (1, 2, 3)


QUICK = Scale(rooms=(4, 8), usual=8, mixed=4, unseen=2, steps=24, seeds=(1,))


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


def shared(data: Path, scale: Scale) -> list[str]:
    """Arguments that all trainings share."""
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
        f"trainer.val_every_steps={10 * scale.steps}",
        "save_every=1000000",
    ]


def _data(rooms: int, folder: str = "plain", source: str = "precise") -> str:
    split = f"{folder}_{rooms}.txt"
    spec = f"{{folder: {folder}, split: {split}, sources: [{source}], condition: {folder}, transforms: none}}"
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
    once, twice = (f"trainer.max_steps={k * scale.steps}" for k in (1, 2))
    found = {f"rooms{n}": [_data(n), *_net(), twice] for n in scale.rooms}
    found["precise"] = [_data(scale.usual), *_net(), once]
    found["boxes"] = [_data(scale.usual, source="boxes"), *_net(), once]
    for variant in ("18a", "34c"):
        found[variant] = [_data(scale.usual), *_net(variant), once]
    plain, other = _data(scale.mixed), _data(scale.mixed, "other")
    found["plain_alone"] = [plain, *_net(), once]
    found["other_alone"] = [other, *_net(), once]
    found["mixed"] = [plain, other, *_net(), twice]
    found["mixed_ppt"] = [plain, other, *_net(prompted=True), twice]
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
    prepare(data, scale, jobs)
    base = shared(data, scale)
    runs = [Run(arm, seed, (*base, *extra)) for seed in scale.seeds for arm, extra in arms(scale).items()]
    outcome = Outcome(scale, run_all(runs, out / "runs", jobs))
    outcome.chance = _chance(data / "unseen", scale), _chance(data / "unseen_other", scale)
    outcome.claims = claims(outcome)
    _write(outcome, out)
    return outcome


def prepare(data: Path, scale: Scale, jobs: int, points: int = POINTS) -> None:
    """Record the rooms of the study, of so many points at most, and list those of each training; what is there stays."""
    rooms = max(*scale.rooms, scale.usual)
    wanted = [(seed, "train", "plain", data / "plain") for seed in range(rooms)]
    wanted += [(seed, "train", "other", data / "other") for seed in range(1000, 1000 + scale.mixed)]
    wanted += [(seed, "val", "plain", data / "unseen") for seed in range(scale.unseen)]
    wanted += [(seed, "val", "other", data / "unseen_other") for seed in range(1000, 1000 + scale.unseen)]
    record_all(wanted, jobs, points)
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
    scale, gain = outcome.scale, outcome.gain
    few, many, longer = f"rooms{min(scale.rooms)}", f"rooms{max(scale.rooms)}", f"rooms{scale.mixed}"
    gains = {
        "precise masks over boxes": gain("precise", "boxes"),
        "precise masks over chance": Spread(tuple(v - outcome.chance[0] for v in outcome.score("precise").values)),
        f"{max(scale.rooms)} rooms over {min(scale.rooms)}": gain(many, few),
        "18a blocks over 14a": gain("18a", "precise"),
        "34c blocks over 14a": gain("34c", "precise"),
        "mixed, prompt-driven over plain norms: plain rooms": gain("mixed_ppt", "mixed"),
        "mixed, prompt-driven over plain norms: other rooms": gain("mixed_ppt", "mixed", SCORE_OTHER),
        "mixed, prompt-driven over plain alone: plain rooms": gain("mixed_ppt", "plain_alone"),
        "mixed, prompt-driven over plain alone for as many steps: plain rooms": gain("mixed_ppt", longer),
        "mixed, prompt-driven over other alone: other rooms": gain("mixed_ppt", "other_alone", SCORE_OTHER),
    }
    return {
        name: {"mean": 100 * found.mean, "deviation": 100 * found.deviation, "seeds": len(found.values)}
        for name, found in gains.items()
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
    score = outcome.score
    bars(
        out / "masks.png",
        "precise masks against boxes",
        {"plain rooms": {"precise": score("precise"), "boxes": score("boxes"), "chance": Spread((outcome.chance[0],))}},
    )
    trend(out / "rooms.png", "rooms to train on", [(n, score(f"rooms{n}")) for n in scale.rooms])
    bars(
        out / "models.png",
        "depth of the net",
        {"plain rooms": {"14a": score("precise"), "18a": score("18a"), "34c": score("34c")}},
    )
    bars(
        out / "styles.png",
        "two styles of rooms",
        {
            name: {
                "plain alone": score("plain_alone", key),
                "other alone": score("other_alone", key),
                "mixed": score("mixed", key),
                "mixed, prompt-driven": score("mixed_ppt", key),
            }
            for name, key in (("plain rooms", SCORE), ("other rooms", SCORE_OTHER))
        },
    )
