"""Evaluation of an encoder over folders of scenes, one batch after the other, resumable per scene."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.mask_file import read_masks
from mosaic3d_core.data.scene_folder import SceneFolderError, read_instances, read_points
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.metrics.class_lists import ClassList, get_class_list
from mosaic3d_core.metrics.evaluation import SemanticEvaluator
from mosaic3d_core.metrics.instance_ap import InstanceEvaluator, InstanceScores
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.encoder_input import build_encoder_input
from mosaic3d_core.models.official_input import centre, official_batch
from mosaic3d_core.models.text import TextEncoder
from mosaic3d_core.models.text.prompts import class_prompts
from mosaic3d_core.query.mask_classes import classify_masks


@dataclass(frozen=True)
class InstanceFiles:
    """Where masks and true instances lie.

    Attributes:
        masks: Folder of SCENE.npz files.
        instance: File of the instance ids in each scene folder.
        no_instance: The id that means none.
    """

    masks: Path
    instance: str
    no_instance: int

    def masks_of(self, scene: Path) -> Path:
        """File of a scene's masks."""
        return self.masks / f"{scene.name}.npz"


@dataclass(frozen=True)
class EvaluationSet:
    """Scenes with ground truth.

    Attributes:
        name: Name for tables and files.
        scenes: Scene folders in evaluation order.
        classes: The class list.
        segment: File of the labels in each folder.
        condition: Condition of the net, None for its first.
        instances: Masks to classify and the instances to compare them with; None for semantic scores only.
    """

    name: str
    scenes: tuple[Path, ...]
    classes: ClassList
    segment: str
    condition: str | None
    instances: InstanceFiles | None = None

    @classmethod
    def open(
        cls,
        name: str,
        root: Path,
        split: Path | None,
        classes: str,
        segment: str,
        condition: str | None,
        limit: int | None,
        instances: InstanceFiles | None = None,
    ) -> EvaluationSet:
        """Find the scenes.

        Args:
            name: Name of the set.
            root: Folder of scene folders.
            split: File with one scene name per line, None for every folder with a coord.npy.
            classes: Name or file of the class list.
            segment: File of the labels.
            condition: See the class.
            limit: At most this many scenes.
            instances: See the class.

        Raises:
            Mosaic3DError: If there is no scene, or one of the split is not there.
        """
        if split is None:
            found = sorted((p.parent for p in root.glob("*/coord.npy")), key=lambda p: natural(p.name))
        else:
            if not split.is_file():
                raise Mosaic3DError(f"split file {split} of {name} does not exist: give a text file, one scene per line")
            listed = [line.strip() for line in split.read_text(encoding="utf-8").splitlines() if line.strip()]
            found = [root / one for one in sorted(listed, key=natural)]
            missing = [p.name for p in found if not (p / "coord.npy").exists()]
            if missing:
                raise Mosaic3DError(f"{len(missing)} scenes of {split} are not in {root}, the first is {missing[0]}")
        if not found:
            raise Mosaic3DError(f"no scenes of {name} in {root}: expected SCENE/coord.npy, color.npy and {segment}")
        return cls(name, tuple(found[:limit]), get_class_list(classes), segment, condition, instances)


def natural(text: str) -> tuple[object, ...]:
    """Sorting key by which scene2 comes before scene10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text))


@dataclass(frozen=True)
class SceneLabels:
    """What an encoder says of a scene.

    Attributes:
        best: Best class of each point. Shape (N,).
        foreground: Best foreground class of each point. Shape (N,).
        logits: Score of each voxel and class, where they were asked for. Shape (V, C).
        voxel_of_point: Voxel of each point. Shape (N,).
    """

    best: NDArray[np.int64]
    foreground: NDArray[np.int64]
    logits: NDArray[np.float32] | None
    voxel_of_point: NDArray[np.int64]


class SceneLabeller:
    """Gives every point of a scene its best class, over all classes and over the foreground.

    Args:
        encoder: The encoder, under the condition of the set.
        text: Its text encoder.
        classes: The class list.
        prompt: Template of the class texts, None for bare names.
        voxelization: "anchored" or "official".
        keep_logits: Whether the scores of all classes are wanted, for instances. They are what the published evaluation takes:
            products of texts with features of any length (official); or scaled cosines (anchored).
    """

    def __init__(
        self,
        encoder: SceneEncoder,
        text: TextEncoder,
        classes: ClassList,
        prompt: str | None,
        voxelization: str,
        keep_logits: bool = False,
    ) -> None:
        if voxelization not in ("anchored", "official"):
            raise Mosaic3DError(f'voxelization must be "anchored" or "official", got "{voxelization}"')
        if voxelization == "official" and encoder.input_channels != ("color",):
            raise Mosaic3DError(
                f"the published voxelisation feeds colour only, but this checkpoint takes {', '.join(encoder.input_channels)}: "
                "use voxelization=anchored"
            )
        self.encoder, self.voxelization, self.keep_logits = encoder, voxelization, keep_logits
        self.matrix = encoder.head.query_matrix(np.asarray(text.encode(class_prompts(classes.names, prompt)), np.float32))
        self.foreground = np.array(classes.foreground, np.int64)

    def label(
        self, coords: Sequence[NDArray[np.floating]], colors: Sequence[NDArray[np.integer]], normals: Sequence[NDArray | None]
    ) -> list[SceneLabels]:
        """Classes of the scenes of a batch."""
        if self.voxelization == "official":
            batch = official_batch([centre(c) for c in coords], colors)
            features = self.encoder.encode_cells(batch.indices, batch.features)
            ends = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
            return [self._labels(features, batch.voxel_of_point[a:b]) for a, b in ends]
        return [self._anchored(*scene) for scene in zip(coords, colors, normals, strict=True)]

    def _anchored(self, coord: NDArray, color: NDArray, normal: NDArray | None) -> SceneLabels:
        if not len(coord):
            raise Mosaic3DError("the scene has no points")
        snapshot, row = MapSnapshot.from_points_with_inverse(coord, color, min(0.02, self.encoder.voxel_size_m), normal)
        inputs = build_encoder_input(snapshot, self.encoder.voxel_size_m, self.encoder.input_channels)
        cells = np.concatenate([np.zeros((len(inputs.indices), 1), np.int32), inputs.indices], 1)
        return self._labels(self.encoder.encode_cells(cells, inputs.features), inputs.voxel_of_point[row])

    def _labels(self, features: NDArray[np.float32], voxel_of_point: NDArray[np.int64]) -> SceneLabels:
        """The length of a feature does not change which text it is most like, so for classes it is not divided out."""
        first, last = int(voxel_of_point.min()), int(voxel_of_point.max()) + 1  # cells of a batch are sorted by scene
        features, voxel_of_point = features[first:last], voxel_of_point - first
        width = features.shape[1]
        scores = features @ self.matrix[:width]
        if len(self.matrix) > width:
            scores += self.matrix[width]
        best, foreground = scores.argmax(1), self.foreground[scores[:, self.foreground].argmax(1)]
        if self.keep_logits and self.voxelization == "anchored":
            scores *= (self.encoder.logit_scale / self.encoder.head.norms(features))[:, None]
        return SceneLabels(best[voxel_of_point], foreground[voxel_of_point], scores if self.keep_logits else None, voxel_of_point)


def evaluate(data: EvaluationSet, labeller: SceneLabeller, key: dict[str, object], out: Path, batch_size: int) -> Iterator[int]:
    """Evaluate all scenes, keeping each one's confusion in `out`; yields how many scenes are done.

    Args:
        data: The scenes.
        labeller: The encoder with its texts.
        key: What the result depends on; stored results of another key are made again.
        out: Folder of the set's results.
        batch_size: Scenes per batch.
    """
    out.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    done = 0
    for start in range(0, len(data.scenes), batch_size):
        part = data.scenes[start : start + batch_size]
        if not all(_stored(out, scene, digest) is not None for scene in part):
            points = [read_points(scene, data.segment) for scene in part]
            try:
                labels = labeller.label([p.coord for p in points], [p.color for p in points], [p.normal for p in points])
            except ValueError as error:
                names = ", ".join(scene.name for scene in part)
                raise Mosaic3DError(f"{data.name}: {names}: {error}") from error
            for scene, truth, found in zip(part, points, labels, strict=True):
                evaluator = SemanticEvaluator(data.classes)
                try:
                    evaluator.add_labels(found.best, found.foreground, truth.segment)
                except Mosaic3DError as error:
                    raise SceneFolderError(f"{scene / data.segment}: {error}") from error
                of_masks = None
                if data.instances is not None and found.logits is not None:
                    masks = read_masks(data.instances.masks_of(scene), len(truth.coord))
                    of_masks = classify_masks(found.logits, found.voxel_of_point, masks)
                _store(out, scene, digest, evaluator, of_masks)
        done += len(part)
        yield done


def collect(data: EvaluationSet, key: dict[str, object], out: Path) -> tuple[SemanticEvaluator, InstanceScores | None]:
    """Sum of the stored scenes, and instance scores where there are masks."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    total = SemanticEvaluator(data.classes)
    instances = None if data.instances is None else InstanceEvaluator(data.classes)
    for scene in data.scenes:
        stored = _stored(out, scene, digest)
        if stored is None:
            raise Mosaic3DError(f"{data.name}: scene {scene.name} has not been evaluated")
        total.all_confusion += stored["all"]
        total.foreground_confusion += stored["foreground"]
        if instances is not None and data.instances is not None:
            truth = read_instances(scene, data.segment, data.instances.instance)
            owner = np.where(truth.instance == data.instances.no_instance, -1, truth.instance)
            masks = read_masks(data.instances.masks_of(scene), len(owner))
            try:
                instances.add(masks, stored["mask_labels"], stored["mask_scores"], truth.segment, owner)
            except Mosaic3DError as error:
                raise Mosaic3DError(f"{data.instances.masks_of(scene)}: {error}") from error
    return total, None if instances is None else instances.scores()


def _store(
    out: Path,
    scene: Path,
    digest: str,
    evaluator: SemanticEvaluator,
    of_masks: tuple[NDArray[np.int64], NDArray[np.float32]] | None,
) -> None:
    target = out / f"{scene.name}.npz"
    temporary = target.with_suffix(".tmp.npz")
    masks = {} if of_masks is None else {"mask_labels": of_masks[0], "mask_scores": of_masks[1]}
    confusions = {"all": evaluator.all_confusion, "foreground": evaluator.foreground_confusion}
    np.savez_compressed(temporary, key=np.array(digest), **confusions, **masks)
    os.replace(temporary, target)


def _stored(out: Path, scene: Path, digest: str) -> dict[str, NDArray] | None:
    try:
        with np.load(out / f"{scene.name}.npz", allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files} if str(stored["key"]) == digest else None
    except (OSError, ValueError, KeyError):
        return None
