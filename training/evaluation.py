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

from mosaic3d_core.data.scene_folder import SceneFolderError, read_instances, read_points
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.metrics.class_lists import ClassList, get_class_list
from mosaic3d_core.metrics.evaluation import SemanticEvaluator
from mosaic3d_core.metrics.instance_ap import InstanceEvaluator, InstanceScores
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.scene_encoder import FeatureMap
from mosaic3d_core.models.text import TextEncoder
from mosaic3d_core.models.text.prompts import class_prompts
from training.instance_masks import MaskSource, NamedMasks
from training.published_maps import check_voxelization, encode_published


@dataclass(frozen=True)
class InstanceFiles:
    """Where true instances lie.

    Attributes:
        instance: File of the instance ids in each scene folder.
        no_instance: The id that means none.
    """

    instance: str
    no_instance: int


@dataclass(frozen=True)
class EvaluationSet:
    """Scenes with ground truth.

    Attributes:
        name: Name for tables and files.
        scenes: Scene folders in evaluation order.
        classes: The class list.
        segment: File of the labels in each folder.
        condition: Condition of the net, None for its first.
        instances: Instances to compare masks with; None for semantic scores only.
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
        features: The encoded scene, where it was asked for.
    """

    best: NDArray[np.int64]
    foreground: NDArray[np.int64]
    logits: NDArray[np.float32] | None
    voxel_of_point: NDArray[np.int64]
    features: FeatureMap | None = None


class SceneLabeller:
    """Gives every point of a scene its best class, over all classes and over the foreground.

    Args:
        encoder: The encoder, under the condition of the set.
        text: Its text encoder.
        classes: The class list.
        prompt: Template of the class texts, None for bare names.
        voxelization: "anchored" or "official".
        keep_logits: Whether the scores of all classes are wanted, for given masks. They are what the published evaluation takes:
            products of texts with features of any length (official); or scaled cosines (anchored).
        keep_features: Whether the encoded scene is wanted, for a mask decoder.

    Attributes:
        texts: Unit embedding of each class. Shape (K, D).
    """

    def __init__(
        self,
        encoder: SceneEncoder,
        text: TextEncoder,
        classes: ClassList,
        prompt: str | None,
        voxelization: str,
        keep_logits: bool = False,
        keep_features: bool = False,
    ) -> None:
        check_voxelization(voxelization, encoder)
        self.encoder, self.voxelization = encoder, voxelization
        self.keep_logits, self.keep_features = keep_logits, keep_features
        self.texts = np.asarray(text.encode(class_prompts(classes.names, prompt)), np.float32)
        self.matrix = encoder.head.query_matrix(self.texts)
        self.foreground = np.array(classes.foreground, np.int64)

    def label(
        self, coords: Sequence[NDArray[np.floating]], colors: Sequence[NDArray[np.integer]], normals: Sequence[NDArray | None]
    ) -> list[SceneLabels]:
        """Classes of the scenes of a batch."""
        if self.voxelization == "official":
            return self._official(coords, colors)
        return [self._anchored(*scene) for scene in zip(coords, colors, normals, strict=True)]

    def _official(self, coords: Sequence[NDArray[np.floating]], colors: Sequence[NDArray[np.integer]]) -> list[SceneLabels]:
        return [self._labels(one) for one in encode_published(self.encoder, coords, colors)]

    def _anchored(self, coord: NDArray, color: NDArray, normal: NDArray | None) -> SceneLabels:
        if not len(coord):
            raise Mosaic3DError("the scene has no points")
        snapshot, row = MapSnapshot.from_points_with_inverse(coord, color, min(0.02, self.encoder.voxel_size_m), normal)
        return self._labels(self.encoder.encode(snapshot), row)

    def _labels(self, encoded: FeatureMap, row: NDArray[np.int64] | None = None) -> SceneLabels:
        """Classes of points, of which each is in a row of the map (None: in its own).

        The length of a feature does not change which text it is most like, so for classes it is not divided out.
        """
        features = encoded.features
        voxel_of_point = encoded.voxel_of_point if row is None else encoded.voxel_of_point[row]
        width = features.shape[1]
        scores = features @ self.matrix[:width]
        if len(self.matrix) > width:
            scores += self.matrix[width]
        best, foreground = scores.argmax(1), self.foreground[scores[:, self.foreground].argmax(1)]
        if self.keep_logits and self.voxelization == "anchored":
            scores *= (self.encoder.logit_scale / encoded.norms)[:, None]
        return SceneLabels(
            best[voxel_of_point],
            foreground[voxel_of_point],
            scores if self.keep_logits else None,
            voxel_of_point,
            encoded if self.keep_features else None,
        )


def evaluate(
    data: EvaluationSet,
    labeller: SceneLabeller,
    key: dict[str, object],
    out: Path,
    batch_size: int,
    masks: MaskSource | None = None,
) -> Iterator[int]:
    """Evaluate all scenes, keeping each one's confusion and instances in `out`; yields how many scenes are done.

    Args:
        data: The scenes.
        labeller: The encoder with its texts.
        key: What the result depends on; stored results of another key are made again.
        out: Folder of the set's results.
        batch_size: Scenes per batch.
        masks: Finds the instances; needed where the set has true ones.

    Raises:
        Mosaic3DError: Naming the scene and what about it does not fit.
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
                named = None
                if data.instances is not None and masks is not None:
                    read_instances(scene, data.segment, data.instances.instance)  # a missing one is named now, not at the end
                    named = masks.find(scene, found)
                _store(out, scene, digest, evaluator, named)
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
            masks = np.unpackbits(stored["masks"], axis=1, count=len(owner)).astype(bool)
            try:
                instances.add(masks, stored["mask_labels"], stored["mask_scores"], truth.segment, owner)
            except Mosaic3DError as error:
                raise Mosaic3DError(f"{data.name}: {scene.name}: {error}") from error
    return total, None if instances is None else instances.scores()


def _store(out: Path, scene: Path, digest: str, evaluator: SemanticEvaluator, named: NamedMasks | None) -> None:
    target = out / f"{scene.name}.npz"
    temporary = target.with_suffix(".tmp.npz")
    arrays: dict[str, NDArray] = {"all": evaluator.all_confusion, "foreground": evaluator.foreground_confusion}
    if named is not None:
        arrays |= {"masks": np.packbits(named.masks, axis=1), "mask_labels": named.labels, "mask_scores": named.scores}
    np.savez_compressed(temporary, key=np.array(digest), **arrays)
    os.replace(temporary, target)


def _stored(out: Path, scene: Path, digest: str) -> dict[str, NDArray] | None:
    try:
        with np.load(out / f"{scene.name}.npz", allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files} if str(stored["key"]) == digest else None
    except (OSError, ValueError, KeyError):
        return None
