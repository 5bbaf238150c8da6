"""Turning a generated room into a labelled, captioned map: what a robot would have fused, with exact labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.scene_folder import CaptionedScene
from mosaic3d_core.data.synthetic.captions import caption
from mosaic3d_core.data.synthetic.scene import room_rng
from mosaic3d_core.data.synthetic.sensor import SensorModel
from mosaic3d_core.data.synthetic.sequence import SyntheticSequence, open_room
from mosaic3d_core.data.synthetic.staged import stage
from mosaic3d_core.mapping import MapSnapshot, VoxelMap, VoxelMapConfig

#: Name of the caption source of generated rooms.
SOURCE = "rooms"


def fuse_sequence(sequence: SyntheticSequence, config: VoxelMapConfig | None = None) -> MapSnapshot:
    """The map of a whole recording."""
    voxel_map = VoxelMap(config)
    for frame in sequence:
        voxel_map.integrate(frame)
    return voxel_map.snapshot()


def true_labels(sequence: SyntheticSequence, points: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """(class ids (N,), -1 none; instance ids (N,), 0 none) of map points, from the nearest true surface within 6 cm."""
    instance = sequence.renderer.closest_instance(points)
    return sequence.scene.class_ids[instance], instance


def random_recording(rng: np.random.Generator, frames: tuple[int, int] = (16, 48)) -> tuple[SensorModel, dict[str, Any]]:
    """A random sensor, and options (`SequenceConfig`) of a recording of random length, focal length and sweep, at 320x240."""
    return SensorModel.random(rng), {
        "frames": int(rng.integers(frames[0], frames[1] + 1)),
        "width": 320,
        "height": 240,
        "fx_at_640": float(rng.uniform(480, 600)),
        "turns": float(rng.uniform(1.0, 2.0)),
        "shadows": bool(rng.random() < 0.5),
    }


def random_training_sequence(seed: int, split: str, frames: tuple[int, int] = (16, 48), threads: int = 1) -> SyntheticSequence:
    """A room with a random recording."""
    sensor, options = random_recording(room_rng(seed, split, stream=2), frames)
    return open_room(seed, split, sensor=sensor, threads=threads, **options)


def record_room(
    seed: int, split: str, captions_per_mask: int = 12, max_points: int = 250_000, threads: int = 1
) -> CaptionedScene:
    """Generate, record, fuse, label and caption one room.

    Args:
        seed: Room seed.
        split: "train", "val" or "test".
        captions_per_mask: Captions drawn for each visible instance.
        max_points: Larger maps are thinned at random to this many points.
        threads: Ray-casting threads.

    Returns:
        The scene; masks are the visible instances with at least 8 points.
    """
    sequence = random_training_sequence(seed, split, threads=threads)
    return _captioned(sequence, room_rng(seed, split, stream=3), captions_per_mask, max_points)


def record_touching(kind: str, seed: int, split: str, captions_per_mask: int = 12, max_points: int = 250_000) -> CaptionedScene:
    """As `record_room`, of a small room in which two things touch.

    Args:
        kind: One of `staged.STAGED`.
        seed: Room seed.
        split: "train", "val" or "test".
        captions_per_mask: See `record_room`.
        max_points: See `record_room`.
    """
    sensor, options = random_recording(room_rng(seed, split, stream=4))
    sequence = stage(kind, seed, split, sensor, threads=1, **options).sequence
    return _captioned(sequence, room_rng(seed, split, stream=5), captions_per_mask, max_points)


def _captioned(sequence: SyntheticSequence, rng: np.random.Generator, captions_per_mask: int, max_points: int) -> CaptionedScene:
    config = VoxelMapConfig(pixel_stride=1, min_views=int(rng.integers(1, 3)), max_depth_m=float(rng.uniform(4.0, 6.0)))
    snapshot = fuse_sequence(sequence, config)
    keep = np.sort(rng.choice(len(snapshot), min(len(snapshot), max_points), replace=False))
    coord = snapshot.centroids[keep]
    segment, instance = true_labels(sequence, coord)
    masks, captions = [], []
    for item in sequence.scene.instances:
        points = np.nonzero(instance == item.id)[0]
        if len(points) >= 8:
            masks.append(points)
            captions.append(tuple(caption(item, sequence.scene, rng) for _ in range(captions_per_mask)))
    return CaptionedScene(
        sequence.scene.name,
        coord,
        np.clip(snapshot.colors[keep], 0, 255).astype(np.uint8),
        snapshot.normals[keep],
        segment,
        instance,
        masks,
        captions,
    )
