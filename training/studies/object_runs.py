"""Sources of proposals scored on scene folders: side by side, each kept, none done twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from mosaic3d_core.data.caption_dataset import scene_snapshot
from mosaic3d_core.data.scene_folder import read_scene_folder
from mosaic3d_core.metrics.object_scores import OBJECT_NAMES, NamedScores, ObjectScores, query_scores
from mosaic3d_core.models.mask_decoder.checkpoint import load_decoder
from mosaic3d_core.models.scene_encoder import DEFAULT_CHECKPOINT, SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import QueryEngine
from mosaic3d_core.query.component_proposals import ComponentProposals
from mosaic3d_core.query.proposals import DecoderProposals, ProposalSource
from training.worker_processes import worker_processes


@dataclass(frozen=True)
class Scoring:
    """What is scored.

    Attributes:
        name: Name of its file.
        encoder: Checkpoint of the encoder; None for the one that ships.
        condition: Condition of the encoder, None for its first.
        decoder: Mask decoder of that encoder; None for connected components.
        queries: Numbers of queries to try; none for connected components.
    """

    name: str
    encoder: Path | None = None
    condition: str | None = None
    decoder: Path | None = None
    queries: tuple[int, ...] = ()


def score_all(wanted: Sequence[Scoring], folders: Sequence[Path], out: Path, jobs: int) -> dict[str, dict[str, float]]:
    """Scores by name; those that are there, of the same files and scenes, are taken as they are.

    Args:
        wanted: What to score.
        folders: Scene folders with true instances.
        out: Folder of the results, one file each.
        jobs: Processes at a time.

    Returns:
        "ap50", "ap25", "class_ap50" and "class_ap25" of connected components; of a decoder, each with "@" and the queries.

    Raises:
        Mosaic3DError: If a checkpoint or a scene cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    with worker_processes(min(jobs, len(wanted))) as pool:
        tasks = [pool.submit(_score, one, tuple(folders), out / f"{one.name}.json") for one in wanted]
        found = [task.result() for task in track(tasks, description="scores")]
    return dict(zip((one.name for one in wanted), found, strict=True))


def _score(what: Scoring, folders: tuple[Path, ...], file: Path) -> dict[str, float]:
    asked = {key: str(value) for key, value in asdict(what).items()} | {
        "scenes": [str(one) for one in folders],
        "files": [_digest(one) for one in (what.encoder or DEFAULT_CHECKPOINT, what.decoder) if one is not None],
    }
    if file.exists():
        known = json.loads(file.read_text(encoding="utf-8"))
        if known["asked"] == asked:
            return {key: float(value) for key, value in known["found"].items()}
    found = evaluate(what, folders)
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps({"asked": asked, "found": found}, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, file)
    return found


def evaluate(what: Scoring, folders: Sequence[Path]) -> dict[str, float]:
    """Score one source in one process; see `score_all`. NaN, where no scene has an object, becomes 0."""
    encoder = SceneEncoder.from_checkpoint(what.encoder, condition=what.condition)
    engine = QueryEngine(get_text_encoder(encoder.text_encoder_name))
    sources: dict[str, ProposalSource] = {"": ComponentProposals(engine)}
    if what.decoder is not None:
        loaded = load_decoder(what.decoder)
        loaded.check_encoder(encoder.head, what.decoder.name)
        sources = {f"@{count}": DecoderProposals(loaded.model, queries=count) for count in what.queries}
    scores = {key: (ObjectScores(), NamedScores()) for key in sources}
    for folder in folders:
        scene = read_scene_folder(folder, None)
        features = encoder.encode(scene_snapshot(scene))
        for key, source in sources.items():
            proposals = source.propose(features)
            objects, named = scores[key]
            objects.add(proposals, features, scene.segment, scene.instance)
            asked = query_scores(engine, features, proposals, OBJECT_NAMES)
            named.add(proposals, asked, features, scene.segment, scene.instance)
    found = {}
    for key, (objects, named) in scores.items():
        for name in ("ap50", "ap25"):
            found[name + key] = objects.result()[name]
            found[f"class_{name}{key}"] = named.result()[name]
    return {key: 0.0 if np.isnan(value) else value for key, value in found.items()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
