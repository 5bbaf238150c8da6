"""How well queries find things in a generated room whose truth is known.

Ground-truth boxes are fitted to the observed voxels of each instance, as ScanNet's are fitted to its scans: what the cameras
never saw cannot be found. Instances with fewer than `MIN_VOXELS` observed voxels do not count as present.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.synthetic.classes import (
    CLASS_ID,
    CLASS_NAMES,
    CLASSES,
    NEVER_PRESENT,
    STUFF_IDS,
    USE_QUESTIONS,
    accepted_classes,
)
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.metrics.semantic import confusion_matrix, foreground_miou
from mosaic3d_core.models import FeatureMap
from mosaic3d_core.query import InstanceView, QueryEngine
from mosaic3d_core.query.boxes import OrientedBox, fit_upright_box, iou_3d
from mosaic3d_core.query.results import DetectedObject

#: Observed voxels that make an instance present.
MIN_VOXELS = 60
#: An answer is right when its box overlaps a true one by more than this (3D intersection over union).
IOU_THRESHOLD = 0.25


@dataclass(frozen=True)
class TrueObject:
    """One observed instance: class, box around its voxels, number of voxels."""

    class_name: str
    box: OrientedBox
    voxels: int


@dataclass(frozen=True)
class Question:
    """One question with its right answer.

    Attributes:
        text: What is asked.
        kind: "name", "synonym" (other names and uses; captions or the query vocabulary know them or phrases close to them),
            "held_out" (in neither of them) or "absent".
        accepted: Class names that answer it; empty for absent things.
    """

    text: str
    kind: str
    accepted: frozenset[str]


@dataclass(frozen=True)
class Answer:
    """The verdict on one question: whether it was right, the best object and its overlap with the truth."""

    question: Question
    correct: bool
    best: DetectedObject | None
    iou: float


def true_objects(snapshot: MapSnapshot, instance: NDArray[np.int32], class_of_instance: NDArray[np.int16]) -> list[TrueObject]:
    """Observed instances of a map.

    Args:
        snapshot: The map.
        instance: True instance id per voxel, (N,), 0 none.
        class_of_instance: Class id per instance id, entry 0 unused.
    """
    found = []
    for number in np.unique(instance[instance > 0]):
        rows = np.nonzero(instance == number)[0]
        if len(rows) >= MIN_VOXELS:
            box = fit_upright_box(snapshot.centroids[rows], snapshot.up, snapshot.voxel_size_m)
            found.append(TrueObject(CLASS_NAMES[class_of_instance[number]], box, len(rows)))
    return found


def room_questions(present: Iterable[str]) -> list[Question]:
    """All questions about a room with the given classes: names, synonyms, uses, held-out phrases, absent things."""
    here = set(present)
    by_use = {text: frozenset(names) for text, names in USE_QUESTIONS}
    questions = []
    for c in CLASSES:
        if c.name in here:
            questions.append(Question(c.name, "name", accepted_classes(c.name)))
            for kind, texts in (("synonym", (*c.synonyms, *c.uses)), ("held_out", c.held_out)):
                for text in texts:
                    questions.append(Question(text, kind, by_use.get(text, accepted_classes(c.name))))
        elif not accepted_classes(c.name) & here:
            questions.append(Question(c.name, "absent", frozenset()))
    asked = {q.text for q in questions}
    for text, names in USE_QUESTIONS:
        if text not in asked and set(names) & here:
            questions.append(Question(text, "synonym", frozenset(names)))
    return questions + [Question(text, "absent", frozenset()) for text in NEVER_PRESENT]


def judge(question: Question, objects: list[DetectedObject], truth: list[TrueObject]) -> Answer:
    """Compare the objects found for a question (best first) with the truth."""
    if not question.accepted:
        return Answer(question, not objects, objects[0] if objects else None, 0.0)
    if not objects:
        return Answer(question, False, None, 0.0)
    overlap = max((iou_3d(objects[0].box, t.box) for t in truth if t.class_name in question.accepted), default=0.0)
    return Answer(question, overlap > IOU_THRESHOLD, objects[0], overlap)


@dataclass
class RoomScores:
    """Scores summed over rooms; `result` gives the shares."""

    answers: list[Answer] = field(default_factory=list)
    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), np.int64))
    rooms: int = 0

    def add(self, answers: list[Answer], confusion: NDArray[np.int64]) -> None:
        """Add one room."""
        self.answers += answers
        self.confusion += confusion
        self.rooms += 1

    def share(self, *kinds: str) -> float | None:
        """Share of right answers among the questions of some kinds; None when there are none."""
        picked = [a.correct for a in self.answers if a.question.kind in kinds]
        return float(np.mean(picked)) if picked else None

    def result(self) -> dict[str, float | int | None]:
        """The figures as plain numbers.

        `top1_by_synonym` covers synonyms, uses and held-out phrases; the two groups are also given apart.
        """
        return asdict(
            _Result(
                self.share("name"),
                self.share("synonym", "held_out"),
                self.share("synonym"),
                self.share("held_out"),
                self.share("absent"),
                foreground_miou(self.confusion, STUFF_IDS),
                self.rooms,
                sum(a.question.kind == "name" for a in self.answers),
                len(self.answers),
            )
        )

    def by_class(self) -> dict[str, tuple[int, int]]:
        """(right, asked) by name per class."""
        out: dict[str, tuple[int, int]] = {}
        for a in self.answers:
            if a.question.kind == "name":
                right, asked = out.get(a.question.text, (0, 0))
                out[a.question.text] = (right + a.correct, asked + 1)
        return dict(sorted(out.items()))


@dataclass(frozen=True)
class _Result:
    top1_by_name: float | None
    top1_by_synonym: float | None
    top1_by_seen_synonym: float | None
    top1_by_held_out_phrase: float | None
    absent_rejected: float | None
    foreground_miou: float
    rooms: int
    names_asked: int
    questions_asked: int


def foreground_confusion(feature_map: FeatureMap, engine: QueryEngine, segment: NDArray[np.int16]) -> NDArray[np.int64]:
    """Confusion over all classes with predictions and truth restricted to foreground (Mosaic3D's f-mIoU protocol).

    Args:
        feature_map: The encoded map.
        engine: Supplies the text encoder.
        segment: True class per map voxel, (N,), -1 none.
    """
    foreground = np.array([i for i in range(len(CLASS_NAMES)) if i not in STUFF_IDS])
    text = np.asarray(engine.text_encoder.encode([CLASS_NAMES[i] for i in foreground]), np.float32)
    label = foreground[feature_map.cosine(text).argmax(1)] if len(feature_map.features) else np.zeros(0, np.int64)
    truth = np.where(np.isin(segment, foreground), segment, -1)
    return confusion_matrix(truth, label[feature_map.voxel_of_point], len(CLASS_NAMES))


def score_room(
    feature_map: FeatureMap,
    engine: QueryEngine,
    instance: NDArray[np.int32],
    class_of_instance: NDArray[np.int16],
    proposed: InstanceView | None = None,
) -> tuple[list[Answer], NDArray[np.int64]]:
    """Ask every question about a room.

    Args:
        feature_map: The encoded map.
        engine: The query engine.
        instance: True instance id per map voxel, (N,), 0 none.
        class_of_instance: Class id per instance id; entry 0 is -1.
        proposed: Instances of the map that queries rank first; None to answer from voxels alone.

    Returns:
        The answers and the foreground confusion matrix.
    """
    truth = true_objects(feature_map.snapshot, instance, class_of_instance)
    # an instance seen too little is neither asked for nor counted as absent
    seen = {t.class_name for t in truth}
    glimpsed = {CLASS_NAMES[class_of_instance[i]] for i in np.unique(instance[instance > 0])} - seen
    questions = [
        q for q in room_questions(seen) if not (q.kind == "absent" and q.text in CLASS_ID and accepted_classes(q.text) & glimpsed)
    ]
    answers = []
    for start in range(0, len(questions), 32):
        part = questions[start : start + 32]
        found = engine.query(feature_map, [q.text for q in part], instances=proposed)
        answers += [judge(q, found.of(q.text), truth) for q in part]
    return answers, foreground_confusion(feature_map, engine, class_of_instance[instance])
