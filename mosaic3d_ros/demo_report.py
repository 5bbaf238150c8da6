"""What the demo leaves behind: verdicts on the answers, pictures, the labelled cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from mosaic3d_core.data.synthetic import SyntheticSequence
from mosaic3d_core.data.synthetic.classes import CLASS_ID, CLASS_NAMES, accepted_classes
from mosaic3d_core.data.synthetic.record import true_labels
from mosaic3d_core.mapping import load_map
from mosaic3d_core.metrics.room_scores import Answer, Question, TrueObject, foreground_confusion, room_questions, true_objects
from mosaic3d_core.models import FeatureMap
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import DEFAULT_VOCABULARY, QueryEngine
from mosaic3d_core.query.feature_store import unpack_features
from mosaic3d_core.query.instance_map import MapInstance
from mosaic3d_core.query.instance_store import unpack_instances
from mosaic3d_core.query.sources import instances_kept
from mosaic3d_core.visualization.pictures import Scene, picture_of_labels, picture_of_map, picture_of_query, save_picture
from mosaic3d_core.visualization.ply import write_labelled_ply
from mosaic3d_core.visualization.views import ViewKind


@dataclass(frozen=True)
class Truth:
    """What is really in the room, as far as the map has seen it.

    Attributes:
        objects: Observed instances.
        questions: What to ask.
        segment: True class per map voxel, (N,) int16, -1 none.
    """

    objects: list[TrueObject]
    questions: list[Question]
    segment: NDArray[np.int16]

    @classmethod
    def of(cls, features: FeatureMap, sequence: SyntheticSequence) -> Truth:
        """Label the node's map by the surfaces of the room it shows."""
        segment, instance = true_labels(sequence, features.snapshot.centroids)
        objects = true_objects(features.snapshot, instance, sequence.scene.class_ids)
        seen = {found.class_name for found in objects}
        # What was hardly seen is neither asked for nor counted as absent.
        glimpsed = {CLASS_NAMES[k] for k in np.unique(segment[segment >= 0])} - seen
        questions = [
            q
            for q in room_questions(seen)
            if not (q.kind == "absent" and q.text in CLASS_ID and accepted_classes(q.text) & glimpsed)
        ]
        return cls(objects, questions, segment)


def open_saved(path: Path) -> tuple[FeatureMap, tuple[MapInstance, ...]]:
    """The encoded map and the objects in the file that the node wrote."""
    snapshot, metadata, extras = load_map(path, with_extras=True)
    features = unpack_features(snapshot, metadata, extras)
    kept = None if features is None else unpack_instances(features, extras)
    if features is None or kept is None:
        raise ValueError(f"'{path}' has no features or no objects; the node must save its encoded map.")
    return features, kept


def confusion_of(features: FeatureMap, truth: Truth) -> NDArray[np.int64]:
    """Foreground confusion of the node's own features (from its file) against the truth."""
    return foreground_confusion(features, _engine(features), truth.segment)


def _engine(features: FeatureMap) -> QueryEngine:
    return QueryEngine(get_text_encoder(features.text_encoder_name))


def _shown(rows: Sequence[tuple[Answer, float]]) -> list[tuple[Answer, float]]:
    """All names, and a few of the other kinds: the table has to fit a screen or two."""
    room = {"name": len(rows), "synonym": 8, "held_out": 8, "absent": 5}
    shown = []
    for row in rows:
        kind = row[0].question.kind
        room[kind] -= 1
        if room[kind] >= 0:
            shown.append(row)
    return shown


def answer_rows(rows: Sequence[tuple[Answer, float]]) -> list[dict[str, object]]:
    """Every question with its verdict, as JSON values."""
    return [
        {
            "text": answer.question.text,
            "kind": answer.question.kind,
            "right": answer.correct,
            "iou": round(answer.iou, 3),
            "score": None if answer.best is None else round(answer.best.score, 3),
            "ms": round(ms, 1),
        }
        for answer, ms in rows
    ]


def answer_table(rows: Sequence[tuple[Answer, float]]) -> Table:
    """One row per question: the best object, whether it is right, and the time."""
    table = Table(title="Queries over ROS 2")
    table.add_column("query", max_width=34)
    table.add_column("best object")
    for name in ("score", "centre (m)", "size (m)", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for answer, ms in _shown(rows):
        best = answer.best
        mark = "[green]right[/]" if answer.correct else "[red]wrong[/]"
        if best is None:
            table.add_row(answer.question.text, f"none {mark}", "-", "-", "-", f"{ms:.0f}")
            continue
        center = " ".join(f"{v:.2f}" for v in best.box.center)
        size = " x ".join(f"{v:.2f}" for v in best.box.size)
        overlap = f", IoU {answer.iou:.2f}" if answer.question.accepted else ""
        table.add_row(answer.question.text, f"#{best.id} {mark}{overlap}", f"{best.score:.2f}", center, size, f"{ms:.0f}")
    return table


def write_pictures(
    features: FeatureMap, kept: tuple[MapInstance, ...], texts: Sequence[str], folder: Path, width: int, height: int
) -> list[Path]:
    """The map and its labels from above and in perspective, and a heat map per text, with the objects that the node had."""
    from mosaic3d_core.cli.cmd_query import slug

    engine = _engine(features)
    instances = instances_kept(features, engine, kept)
    labelling = engine.label(features, DEFAULT_VOCABULARY, instances)
    written = []
    views: tuple[ViewKind, ...] = ("top", "perspective")
    scenes = {kind: Scene.of(features.snapshot, kind, width, height) for kind in views}
    for kind, scene in scenes.items():
        written.append(save_picture(picture_of_map(scene), folder / f"map_{kind}.png"))
        written.append(save_picture(picture_of_labels(scene, labelling), folder / f"labels_{kind}.png"))
    result = engine.query(features, list(texts), instances=instances)
    for text in result.texts:
        image = picture_of_query(scenes["perspective"], result, text)
        written.append(save_picture(image, folder / f"query_{slug(text)}.png"))
    return written


def write_cloud(rows: NDArray, path: Path) -> None:
    """The labelled cloud as it came over ROS, as PLY."""
    points = np.stack([rows["x"], rows["y"], rows["z"]], axis=1)
    colors = np.stack([(rows["rgb"] >> shift) & 255 for shift in (16, 8, 0)], axis=1)
    words = tuple(f"label {k} {word}" for k, word in enumerate(DEFAULT_VOCABULARY))
    write_labelled_ply(path, points, colors, rows["label"], rows["instance"], rows["score"], words)


def picture_texts(answers: Sequence[Answer], count: int = 6) -> list[str]:
    """Texts worth a picture: things by name, by use, and one absent thing."""
    shell = {"wall", "floor", "ceiling"}
    names = [a.question.text for a in answers if a.question.kind == "name" and a.question.text not in shell]
    uses = [a.question.text for a in answers if a.question.kind in ("synonym", "held_out") and " " in a.question.text]
    uses.sort(key=lambda text: (not text.startswith(("something", "place", "a place", "where", "somewhere")), len(text)))
    absent = [a.question.text for a in answers if a.question.kind == "absent"]
    return list(dict.fromkeys([*names[: count - 3], *uses[:2], *absent[:1]]))[:count]
