"""Zero-shot validation during training: the scores of ``training/eval.py`` on a few scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mosaic3d_core.data.scene_folder import LabelledPoints, read_points
from mosaic3d_core.data.synthetic.record import record_room
from mosaic3d_core.losses.gathering import is_distributed
from mosaic3d_core.metrics.class_lists import ClassList, get_class_list
from mosaic3d_core.metrics.evaluation import SemanticEvaluator
from mosaic3d_core.models.checkpoint import LoadedCheckpoint
from mosaic3d_core.models.prompt_driven import PromptDrivenUNet
from mosaic3d_core.models.scene_encoder import SceneEncoder
from mosaic3d_core.models.sparse_unet import SparseUNet
from mosaic3d_core.models.text.base import TextEncoder
from training.evaluation import EvaluationSet, SceneLabeller

_ROOMS = 12


@dataclass(frozen=True)
class ValidationSet:
    """Labelled scenes, read when they are needed.

    Attributes:
        name: Name for logs.
        classes: The class list.
        condition: Condition of the net, None for its first.
        count: Number of scenes.
        read: Reads one.
    """

    name: str
    classes: ClassList
    condition: str | None
    count: int
    read: Callable[[int], LabelledPoints]


def validation_sets(config: Any) -> list[ValidationSet]:
    """The sets of ``data.val_datasets``; "rooms" are generated."""
    found = []
    for name in config.data.val_datasets:
        if name == "rooms":
            found.append(_generated(config.data.val_scenes or _ROOMS))
            continue
        spec = config.datasets[name]
        root = Path(config.data.root) / spec.folder
        split = None if spec.split is None else Path(spec.split)
        scenes = EvaluationSet.open(name, root, split, spec.classes, spec.segment, spec.condition, config.data.val_scenes)
        found.append(ValidationSet(name, scenes.classes, scenes.condition, len(scenes.scenes), _reader(scenes)))
    return found


def _reader(scenes: EvaluationSet) -> Callable[[int], LabelledPoints]:
    return lambda number: read_points(scenes.scenes[number], scenes.segment)


def _generated(rooms: int) -> ValidationSet:
    kept: dict[int, LabelledPoints] = {}

    def read(seed: int) -> LabelledPoints:
        if seed not in kept:
            room = record_room(seed, "val", captions_per_mask=1)
            kept[seed] = LabelledPoints(room.coord, room.color, room.normal, room.segment.astype("int64"))
        return kept[seed]

    return ValidationSet("rooms", get_class_list("rooms"), None, rooms, read)


class Validation:
    """Labels the scenes of some sets with a net as it is and adds up the confusion.

    Args:
        sets: The sets.
        text: Text encoder.
        prompt: Template of the class texts.
        voxelization: "anchored" or "official".
        metadata: Of the checkpoint that the net would be exported as.
    """

    def __init__(
        self, sets: list[ValidationSet], text: TextEncoder, prompt: str | None, voxelization: str, metadata: dict[str, Any]
    ) -> None:
        self.sets, self.text, self.prompt = sets, text, prompt
        self.voxelization, self.metadata = voxelization, metadata
        self._labellers: list[SceneLabeller] = []
        self._totals: list[SemanticEvaluator] = []
        self.example: tuple[ClassList, LabelledPoints, NDArray[np.int64]] | None = None  # the last scene, for a picture

    @property
    def items(self) -> list[tuple[int, int]]:
        """(set, scene) of everything to label."""
        return [(number, scene) for number, one in enumerate(self.sets) for scene in range(one.count)]

    def start(self, model: SparseUNet | PromptDrivenUNet, dtype: torch.dtype, device: torch.device) -> None:
        """Take the net as it is now."""
        loaded = LoadedCheckpoint(model, model.config, {**self.metadata, "logit_scale": 1.0})
        self._totals = [SemanticEvaluator(one.classes) for one in self.sets]
        self._labellers = []
        for one in self.sets:
            known = one.condition if model.config.conditions else None  # a plain net has none to choose from
            encoder = SceneEncoder(loaded, device, dtype, condition=known, backend="torch")
            self._labellers.append(SceneLabeller(encoder, self.text, one.classes, self.prompt, self.voxelization))

    def add(self, number: int, scene: int) -> None:
        """Label a scene."""
        points = self.sets[number].read(scene)
        (labels,) = self._labellers[number].label([points.coord], [points.color], [points.normal])
        self._totals[number].add_labels(labels.best, labels.foreground, points.segment)
        self.example = self.sets[number].classes, points, labels.best

    def finish(self, device: torch.device) -> dict[str, dict[str, float]]:
        """Scores by set, of the scenes of all processes; classes that do not occur are left out."""
        found = {}
        for one, total in zip(self.sets, self._totals, strict=True):
            for matrix in (total.all_confusion, total.foreground_confusion):
                matrix[:] = _summed(torch.from_numpy(matrix.copy()).to(device)).cpu().numpy()
            scores = total.scores("present")
            found[one.name] = {"f_miou": scores.f_miou, "f_macc": scores.f_macc, "miou": scores.miou, "macc": scores.macc}
        return found


def _summed(counts: Tensor) -> Tensor:
    if is_distributed():
        torch.distributed.all_reduce(counts)
    return counts
