"""Semantic evaluation of an encoder over folders of scenes, one batch after the other, resumable per scene."""

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

from mosaic3d_core.data.scene_folder import SceneFolderError, read_points
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.metrics.class_lists import ClassList, get_class_list
from mosaic3d_core.metrics.evaluation import SemanticEvaluator
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.encoder_input import build_encoder_input
from mosaic3d_core.models.official_input import centre, official_batch
from mosaic3d_core.models.text import TextEncoder
from mosaic3d_core.models.text.prompts import class_prompts


@dataclass(frozen=True)
class EvaluationSet:
    """Scenes with ground truth.

    Attributes:
        name: Name for tables and files.
        scenes: Scene folders in evaluation order.
        classes: The class list.
        segment: File of the labels in each folder.
        condition: Condition of the net, None for its first.
    """

    name: str
    scenes: tuple[Path, ...]
    classes: ClassList
    segment: str
    condition: str | None

    @classmethod
    def open(
        cls, name: str, root: Path, split: Path | None, classes: str, segment: str, condition: str | None, limit: int | None
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
        return cls(name, tuple(found[:limit]), get_class_list(classes), segment, condition)


def natural(text: str) -> tuple[object, ...]:
    """Sorting key by which scene2 comes before scene10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text))


class SceneLabeller:
    """Gives every point of a scene its best class, over all classes and over the foreground.

    Args:
        encoder: The encoder, under the condition of the set.
        text: Its text encoder.
        classes: The class list.
        prompt: Template of the class texts, None for bare names.
        voxelization: "anchored" or "official".
    """

    def __init__(
        self, encoder: SceneEncoder, text: TextEncoder, classes: ClassList, prompt: str | None, voxelization: str
    ) -> None:
        if voxelization not in ("anchored", "official"):
            raise Mosaic3DError(f'voxelization must be "anchored" or "official", got "{voxelization}"')
        if voxelization == "official" and encoder.input_channels != ("color",):
            raise Mosaic3DError(
                f"the published voxelisation feeds colour only, but this checkpoint takes {', '.join(encoder.input_channels)}: "
                "use voxelization=anchored"
            )
        self.encoder, self.voxelization = encoder, voxelization
        self.matrix = encoder.head.query_matrix(np.asarray(text.encode(class_prompts(classes.names, prompt)), np.float32))
        self.foreground = np.array(classes.foreground, np.int64)

    def label(
        self, coords: Sequence[NDArray[np.floating]], colors: Sequence[NDArray[np.integer]], normals: Sequence[NDArray | None]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(best class, best foreground class) per point of each scene of a batch."""
        if self.voxelization == "official":
            batch = official_batch([centre(c) for c in coords], colors)
            best = self._best(self.encoder.encode_cells(batch.indices, batch.features))
            ends = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
            return [(best[0][batch.voxel_of_point[a:b]], best[1][batch.voxel_of_point[a:b]]) for a, b in ends]
        return [self._anchored(*scene) for scene in zip(coords, colors, normals, strict=True)]

    def _anchored(self, coord: NDArray, color: NDArray, normal: NDArray | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if not len(coord):
            raise Mosaic3DError("the scene has no points")
        snapshot, row = MapSnapshot.from_points_with_inverse(coord, color, min(0.02, self.encoder.voxel_size_m), normal)
        inputs = build_encoder_input(snapshot, self.encoder.voxel_size_m, self.encoder.input_channels)
        cells = np.concatenate([np.zeros((len(inputs.indices), 1), np.int32), inputs.indices], 1)
        best = self._best(self.encoder.encode_cells(cells, inputs.features))
        of_point = inputs.voxel_of_point[row]
        return best[0][of_point], best[1][of_point]

    def _best(self, features: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The length of a feature does not change which text it is most like, so it is not divided out."""
        width = features.shape[1]
        scores = features @ self.matrix[:width]
        if len(self.matrix) > width:
            scores += self.matrix[width]
        return scores.argmax(1), self.foreground[scores[:, self.foreground].argmax(1)]


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
            for scene, truth, (best, foreground) in zip(part, points, labels, strict=True):
                evaluator = SemanticEvaluator(data.classes)
                try:
                    evaluator.add_labels(best, foreground, truth.segment)
                except Mosaic3DError as error:
                    raise SceneFolderError(f"{scene / data.segment}: {error}") from error
                _store(out, scene, digest, evaluator)
        done += len(part)
        yield done


def collect(data: EvaluationSet, key: dict[str, object], out: Path) -> SemanticEvaluator:
    """Sum of the stored scenes."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    total = SemanticEvaluator(data.classes)
    for scene in data.scenes:
        stored = _stored(out, scene, digest)
        if stored is None:
            raise Mosaic3DError(f"{data.name}: scene {scene.name} has not been evaluated")
        total.all_confusion += stored[0]
        total.foreground_confusion += stored[1]
    return total


def _store(out: Path, scene: Path, digest: str, evaluator: SemanticEvaluator) -> None:
    target = out / f"{scene.name}.npz"
    temporary = target.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, key=np.array(digest), all=evaluator.all_confusion, foreground=evaluator.foreground_confusion)
    os.replace(temporary, target)


def _stored(out: Path, scene: Path, digest: str) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    try:
        with np.load(out / f"{scene.name}.npz", allow_pickle=False) as stored:
            return (stored["all"], stored["foreground"]) if str(stored["key"]) == digest else None
    except (OSError, ValueError, KeyError):
        return None
