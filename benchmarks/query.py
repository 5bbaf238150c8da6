"""Query time by map size and number of texts; prints a table, ``--json FILE`` writes it as well.

The map is a box room of random features: the time depends on sizes, on how much matches and on nothing else.
"new map" is the first query of a map generation, "same map" all later ones; "new text" adds the text encoder,
without it the texts were asked before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.models.encoder_input import build_encoder_input
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.scene_encoder import FeatureMap
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import DEFAULT_VOCABULARY, QueryEngine

CHANNELS = 96
VOXEL_M = 0.02
WORDS = ["wall", "chair", "table", "sofa", "bed", "desk", "lamp", "plant", "door", "tv", "box", "stove", "piano"]


def furnished_box(voxels: int, rng: np.random.Generator) -> tuple[MapSnapshot, np.ndarray]:
    """A room shell with cubes of furniture, about ``voxels`` voxels, and the thing number (0 = shell) of each."""
    side = (voxels * 0.75 / 4.4) ** 0.5  # floor + four walls of half its side, in voxels
    s, h = int(side), int(side / 2.6)
    grid = lambda a, b: np.stack(np.meshgrid(np.arange(a), np.arange(b), indexing="ij"), -1).reshape(-1, 2)  # noqa: E731
    floor, wall = grid(s, s), grid(s, h)
    parts = [np.insert(floor, 2, 0, axis=1)]
    parts += [np.insert(wall, 0, k, axis=1) for k in (0, s)] + [np.insert(wall, 1, k, axis=1) for k in (0, s)]
    edge = max(int((voxels * 0.25 / 12 / 5) ** 0.5), 3)
    shell = sum(map(len, parts))
    things = [np.zeros(shell, int)]
    for number in range(12):
        corner = np.append(rng.integers(2, s - edge - 2, 2), 1)
        faces = [np.insert(grid(edge, edge), axis, k, axis=1) for axis in range(3) for k in (0, edge)]
        cube = np.vstack(faces) + corner
        parts.append(cube)
        things.append(np.full(len(cube), number + 1))
    indices = np.vstack(parts).astype(np.int64)
    snapshot = MapSnapshot.from_points((indices + 0.5) * VOXEL_M, np.full(indices.shape, 128.0), VOXEL_M)
    keys = {tuple(row): thing for row, thing in zip(indices.tolist(), np.concatenate(things).tolist(), strict=True)}
    return snapshot, np.array([keys[tuple(row)] for row in snapshot.indices.tolist()])


def feature_map(snapshot: MapSnapshot, things: np.ndarray, rng: np.random.Generator, encoder_text) -> FeatureMap:  # noqa: ANN001
    """Features that match "wall" on the shell and a word of furniture on each thing."""
    weight = np.linalg.qr(rng.normal(size=(encoder_text.dim, CHANNELS)))[0].astype(np.float32)
    inputs = build_encoder_input(snapshot, 2 * VOXEL_M, ("color",))
    owner = np.zeros(len(inputs.indices), int)
    owner[inputs.voxel_of_point] = things
    features = (encoder_text.encode(WORDS) @ weight)[owner] + rng.normal(scale=0.02, size=(len(owner), CHANNELS))
    features = features.astype(np.float32)
    head = FoldedHead(weight)
    norms = head.norms(features)
    return FeatureMap(snapshot, features, norms, inputs.voxel_of_point, inputs.indices, 2 * VOXEL_M, head, "minilm", 20.0, 0.0)


def timed(work, repeat: int) -> list[float]:  # noqa: ANN001
    """Milliseconds of each call."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def measure(voxels: int, num_texts: int, repeat: int, text_encoder) -> dict[str, float]:  # noqa: ANN001
    """Medians for one map size and number of texts."""
    rng = np.random.default_rng(0)
    snapshot, things = furnished_box(voxels, rng)
    encoded = feature_map(snapshot, things, rng, text_encoder)
    engine = QueryEngine(text_encoder)
    engine.warm_up()
    present = [word for word in WORDS if word != "wall"]
    texts = [*present, *(word for word in DEFAULT_VOCABULARY if word not in WORDS)][:num_texts]
    engine.query(encoded, texts)

    def afresh() -> None:
        engine.reset()
        engine.query(encoded, texts)

    counter = iter(range(10**6))
    same = timed(lambda: engine.query(encoded, texts), repeat)
    new_map = timed(afresh, repeat)
    scores = timed(lambda: engine._voxel_scores(encoded, texts), repeat)
    new_text = timed(lambda: engine.query(encoded, [f"{t} {next(counter)}" for t in texts]), repeat)
    label = timed(lambda: engine.label(encoded, DEFAULT_VOCABULARY), max(repeat // 3, 2))
    return {
        "map_voxels": len(snapshot),
        "encoder_voxels": len(encoded.features),
        "texts": num_texts,
        "same_map_ms": statistics.median(same),
        "same_map_p95_ms": float(np.quantile(same, 0.95)),
        "new_map_ms": statistics.median(new_map),
        "scores_only_ms": statistics.median(scores),
        "new_text_ms": statistics.median(new_text),
        "label_ms": statistics.median(label),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="small maps and few repetitions")
    arguments = parser.parse_args()
    sizes = (30_000, 100_000) if arguments.quick else (30_000, 100_000, 300_000, 600_000)
    counts = (1, 8) if arguments.quick else (1, 8, 32)
    repeat = 5 if arguments.quick else 15
    text_encoder = get_text_encoder("minilm")
    rows = [measure(size, count, repeat, text_encoder) for size in sizes for count in counts]
    print("medians in ms          texts asked before           texts new")
    print(
        f"{'map vox':>9} {'enc vox':>8} {'texts':>5} | {'same map':>8} {'(p95)':>7} {'scores':>7} {'new map':>8} | "
        f"{'same map':>8} | {'label':>7}"
    )
    for r in rows:
        print(
            f"{r['map_voxels']:>9,} {r['encoder_voxels']:>8,} {r['texts']:>5} | {r['same_map_ms']:>8.1f} "
            f"{r['same_map_p95_ms']:>7.1f} {r['scores_only_ms']:>7.1f} {r['new_map_ms']:>8.1f} | "
            f"{r['new_text_ms']:>8.1f} | {r['label_ms']:>7.1f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"query": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
