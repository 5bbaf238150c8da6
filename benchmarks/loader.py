"""Scenes per second of the training loader, by number of worker processes; prints a table, ``--json FILE`` writes it as well.

Generated rooms in the published layout go through what training does with them: reading, the published augmentation and crop,
voxelisation on the 2 cm grid, up to 300 masks, a batch of four. Without workers the training step waits for all of it; with
them the loader is the limit only where a step takes less time than a batch takes here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from torch.utils.data import DataLoader

from mosaic3d_core.data.caption_dataset import CaptionCollate, CaptionDataset, SampleRecipe
from mosaic3d_core.data.caption_filter import CaptionFilter
from mosaic3d_core.data.mixing import DatasetMix, SingleDatasetBatches
from mosaic3d_core.data.published_transforms import published_transforms
from mosaic3d_core.data.scene_folder import write_scene_folder
from mosaic3d_core.data.synthetic.record import SOURCE, record_room

BATCH = 4
RECIPE = SampleRecipe(
    0.02, ("color",), published=True, captions_per_mask=1, max_masks=300, max_voxels=None, caption_filter=CaptionFilter()
)


def measure(folders: list[Path], workers: int, batches: int) -> dict[str, float]:
    """One row: the first batch, in which workers start, is not counted."""
    mix = DatasetMix([CaptionDataset(folders, [SOURCE], RECIPE, published_transforms("scannet"), "ScanNet")])
    repeat = -(-(batches + 1) * BATCH // len(folders))
    loader = DataLoader(
        mix,
        batch_sampler=SingleDatasetBatches(mix.sizes, BATCH, repeat),  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=CaptionCollate(balance=None),
        prefetch_factor=1 if workers else None,
    )
    source = iter(loader)
    next(source)
    times = []
    start = time.perf_counter()
    for _ in range(batches):
        before = time.perf_counter()
        voxels = len(next(source).indices)
        times.append(time.perf_counter() - before)
    whole = time.perf_counter() - start
    return {
        "workers": workers,
        "scenes_per_s": round(batches * BATCH / whole, 2),
        "batch_ms": round(1e3 * whole / batches, 1),
        "p95_wait_ms": round(1e3 * sorted(times)[min(len(times) - 1, int(0.95 * len(times)))], 1),
        "median_wait_ms": round(1e3 * statistics.median(times), 1),
        "voxels_last_batch": voxels,
    }


def main() -> None:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--quick", action="store_true", help="two small rooms, few batches")
    parser.add_argument("--root", type=Path, help="folder of scenes with captions of source rooms (default: generate some)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of workers (default: 0 1 2)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.root is not None:
            folders = sorted(p.parent for p in arguments.root.glob("*/coord.npy"))[:32]
        else:
            folders = []
            for seed in range(2 if arguments.quick else 8):
                folders.append(Path(folder) / f"room-{seed}")
                write_scene_folder(
                    folders[-1], record_room(seed, "train", max_points=10_000 if arguments.quick else 250_000), SOURCE
                )
        if not folders:
            raise SystemExit(f"error: no scenes in {arguments.root}: expected SCENE/coord.npy")
        rows = []
        for workers in arguments.workers:
            rows.append(measure(folders, workers, 3 if arguments.quick else 12))
            if len(rows) == 1:
                print("  ".join(f"{name:>17}" for name in rows[0]))
            print("  ".join(f"{value!s:>17}" for value in rows[-1].values()), flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
