"""How well objects are found in generated test rooms: by components, a mask decoder, both, and both judged as in the node.

python benchmarks/objects.py --rooms 20 --first-seed 1000 --decoder decoder.safetensors --json out/objects.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mosaic3d_core.data.synthetic import open_room
from mosaic3d_core.data.synthetic.classes import STUFF_IDS
from mosaic3d_core.data.synthetic.record import fuse_sequence, true_labels
from mosaic3d_core.data.synthetic.staged import STAGED, stage
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.mapping import MapSnapshot, VoxelMap, VoxelMapConfig
from mosaic3d_core.metrics.id_stability import IdStability, StabilityCounts
from mosaic3d_core.metrics.object_scores import (
    MIN_VOXELS,
    OBJECT_NAMES,
    NamedScores,
    ObjectScores,
    are_separated,
    embedding_scores,
    query_scores,
)
from mosaic3d_core.models import FeatureMap, SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import InstanceMap, QueryEngine
from mosaic3d_core.query.combined_proposals import CombinedProposals
from mosaic3d_core.query.proposals import DecoderProposals, Proposal, ProposalSource
from mosaic3d_core.query.sources import COMPONENTS, choose_proposals


@dataclass(frozen=True)
class Extent:
    """How much is looked at."""

    rooms: int = 20
    first_seed: int = 1000
    frames: int = 120
    width: int = 640
    cases: int = 20
    case_frames: int = 60
    trajectories: int = 20
    path_frames: int = 60
    every: int = 5

    @property
    def image(self) -> dict[str, int]:
        """Size of the images, pixels."""
        return {"width": self.width, "height": self.width * 3 // 4}


@dataclass
class Found:
    """What one source of proposals found."""

    source: ProposalSource
    objects: ObjectScores = field(default_factory=ObjectScores)
    named: NamedScores = field(default_factory=NamedScores)
    named_by_embedding: NamedScores = field(default_factory=NamedScores)
    separated: dict[str, list[bool]] = field(default_factory=dict)
    stability: StabilityCounts = field(default_factory=StabilityCounts)
    room_ms: list[float] = field(default_factory=list)
    path_ms: list[float] = field(default_factory=list)

    @property
    def has_embeddings(self) -> bool:
        """Whether its proposals have a place in text space."""
        return isinstance(self.source, DecoderProposals)

    def propose(self, features: FeatureMap, times: list[float]) -> list[Proposal]:
        """Proposals of a map; how long they took is added to the times, ms."""
        start = time.perf_counter()
        found = self.source.propose(features)
        times.append((time.perf_counter() - start) * 1e3)
        return found

    def result(self) -> dict[str, Any]:
        """The figures as plain values; None where there was nothing to measure."""
        values: dict[str, Any] = dict(self.objects.result())
        values |= {f"class_{key}": value for key, value in self.named.result().items()}
        if self.has_embeddings:
            values |= {f"class_{key}_by_embedding": value for key, value in self.named_by_embedding.result().items()}
        for kind, cases in self.separated.items():
            values[f"separated: {kind}"] = float(np.mean(cases)) if cases else float("nan")
            values[f"cases: {kind}"] = len(cases)
        values |= {f"ids_{key}": value for key, value in self.stability.shares().items()}
        values["ids_followed"] = self.stability.followed
        values["ms_per_map"] = float(np.median(self.room_ms)) if self.room_ms else float("nan")
        values["ms_per_map_on_the_way"] = float(np.median(self.path_ms)) if self.path_ms else float("nan")
        values = {key: None if value != value else value for key, value in values.items()}  # JSON knows no NaN
        return values | {"by_name": {name: list(both) for name, both in self.named.by_name().items()}}


class Bench:
    """The encoder, the query engine and the sources, over everything that is looked at."""

    def __init__(self, checkpoint: Path | None, decoder: Path | None, queries: int | None) -> None:
        self.encoder = SceneEncoder.from_checkpoint(checkpoint)
        self.engine = QueryEngine(get_text_encoder(self.encoder.text_encoder_name))
        used = choose_proposals(str(decoder or ""), self.encoder.head, self.engine, queries=queries)[0]
        self.found = {"components": Found(choose_proposals(COMPONENTS, self.encoder.head, self.engine)[0])}
        if isinstance(used, CombinedProposals):  # else none ships, or it belongs to another encoder
            alone = used.sources[0]
            self.found |= {"mask decoder": Found(alone), "both": Found(CombinedProposals(used.sources))}
            if used.judge is not None:
                self.found["decoder, judged"] = Found(CombinedProposals([alone], used.judge))
                self.found["judged"] = Found(used)

    def encode(self, snapshot: MapSnapshot) -> FeatureMap:
        """Encode a map and make it ready for queries."""
        features = self.encoder.encode(snapshot)
        self.engine.prepare(features)  # queries need it whatever proposes, so it is nobody's time
        return features

    def rooms(self, extent: Extent) -> None:
        """Average precision in whole rooms."""
        for seed in _seeds("rooms", extent.first_seed, extent.rooms):
            sequence = open_room(seed, "test", frames=extent.frames, **extent.image)
            features = self.encode(fuse_sequence(sequence))
            segment, instance = true_labels(sequence, features.snapshot.centroids)
            for one in self.found.values():
                proposals = one.propose(features, one.room_ms)
                one.objects.add(proposals, features, segment, instance)
                by_query = query_scores(self.engine, features, proposals, OBJECT_NAMES)
                one.named.add(proposals, by_query, features, segment, instance)
                if one.has_embeddings:
                    by_place = embedding_scores(self.engine, features.logit_scale, proposals, OBJECT_NAMES)
                    one.named_by_embedding.add(proposals, by_place, features, segment, instance)

    def pairs(self, extent: Extent) -> None:
        """Things that touch."""
        for kind in STAGED:
            for one in self.found.values():
                one.separated[kind] = []
            for seed in _seeds(kind, extent.first_seed, extent.cases):
                pair = stage(kind, seed, frames=extent.case_frames, **extent.image)
                features = self.encode(fuse_sequence(pair.sequence))
                _, instance = true_labels(pair.sequence, features.snapshot.centroids)
                if min((instance == number).sum() for number in (pair.first, pair.second)) < MIN_VOXELS:
                    continue  # the camera has missed one of them
                for one in self.found.values():
                    proposals = one.source.propose(features)
                    one.separated[kind].append(are_separated(proposals, features, instance, pair.first, pair.second))

    def paths(self, extent: Extent) -> None:
        """Ids along trajectories."""
        for seed in _seeds("trajectories", extent.first_seed, extent.trajectories):
            sequence = open_room(seed, "test", frames=extent.path_frames, width=320, height=240)
            things = [one.id for one in sequence.scene.instances if sequence.scene.class_ids[one.id] not in STUFF_IDS]
            voxel_map = VoxelMap(VoxelMapConfig(pixel_stride=1))
            kept = {name: (InstanceMap(), IdStability()) for name in self.found}
            for number, frame in enumerate(sequence, 1):
                voxel_map.integrate(frame)
                if number % extent.every:
                    continue
                features = self.encode(voxel_map.snapshot())
                _, instance = true_labels(sequence, features.snapshot.centroids)
                for name, one in self.found.items():
                    instances, stability = kept[name]
                    seen = instances.update(features, one.propose(features, one.path_ms))
                    stability.add(seen, features, instance, things)
            for name, (instances, stability) in kept.items():
                self.found[name].stability += stability.counts(instances.current_id)


def _seeds(what: str, first: int, count: int) -> Iterator[int]:
    yield from track(range(first, first + count), description=what)


def _save(bench: Bench, extent: Extent, seconds: float, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    results = {name: one.result() for name, one in bench.found.items()}
    values = {"extent": vars(extent), "seconds": round(seconds, 1), "sources": results}
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _show(results: dict[str, dict[str, Any]], title: str) -> None:
    table = Table("score", *results, title=title)
    keys = list(dict.fromkeys(key for values in results.values() for key in values if key != "by_name"))
    for key in keys:
        cells = [values.get(key, "") for values in results.values()]
        table.add_row(key, *(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    usual = Extent()
    parser = argparse.ArgumentParser(description="How well objects are found in generated test rooms.")
    parser.add_argument("--rooms", type=int, default=usual.rooms, help="whole rooms, which are also walked through for ids")
    parser.add_argument("--first-seed", type=int, default=usual.first_seed)
    parser.add_argument("--frames", type=int, default=usual.frames, help=f"frames per whole room (default {usual.frames})")
    parser.add_argument("--cases", type=int, default=usual.cases, help="rooms of each kind in which two things touch")
    parser.add_argument("--checkpoint", type=Path, default=None, help="encoder; default: the shipped one")
    parser.add_argument("--decoder", type=Path, default=None, help="mask decoder; default: the shipped one, if any")
    parser.add_argument("--queries", type=int, default=None, help="of the decoder (default: its own number)")
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="one room, one case of each kind, one short trajectory")
    args = parser.parse_args(arguments)
    if min(args.rooms, args.frames, args.cases, 1 if args.queries is None else args.queries) < 1 or args.first_seed < 0:
        print("error: --rooms, --frames, --cases and --queries must be >= 1, --first-seed >= 0", file=sys.stderr)
        return 2
    extent = Extent(args.rooms, args.first_seed, args.frames, cases=args.cases, trajectories=args.rooms)
    if args.quick:
        extent = Extent(1, args.first_seed, frames=40, width=320, cases=1, case_frames=30, trajectories=1, path_frames=20)
    start = time.perf_counter()
    try:
        bench = Bench(args.checkpoint, args.decoder, args.queries)
        for part in (bench.paths, bench.pairs, bench.rooms):
            part(extent)
            if args.json is not None:  # after every part: a run that is stopped leaves what it has
                _save(bench, extent, time.perf_counter() - start, args.json)
    except Mosaic3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = {name: one.result() for name, one in bench.found.items()}
    _show(results, f"{extent.rooms} test rooms from seed {extent.first_seed}, {extent.cases} cases of each kind")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
