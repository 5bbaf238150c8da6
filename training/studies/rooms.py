"""Rooms for studies: recorded, fused, and captioned frame by frame by the data engine, with exact and with box-shaped masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from mosaic3d_core.data.caption_files import write_frame_captions
from mosaic3d_core.data.engine.frames import FrameEngine
from mosaic3d_core.data.engine.image_masks import Segmenter
from mosaic3d_core.data.engine.label_images import BoxMasks, RenderedLabels
from mosaic3d_core.data.engine.template_captions import TemplateCaptioner
from mosaic3d_core.data.scene_folder import CaptionedScene, write_scene_folder
from mosaic3d_core.data.synthetic.captions import words_for_classes
from mosaic3d_core.data.synthetic.record import fuse_sequence, random_training_sequence, true_labels
from mosaic3d_core.data.synthetic.scene import room_rng
from mosaic3d_core.data.synthetic.sensor import SensorModel
from mosaic3d_core.mapping import VoxelMapConfig
from training.worker_processes import worker_processes

#: Caption sources of a study room, besides the instances themselves ("rooms").
SOURCES = ("precise", "boxes")
STYLES = ("plain", "other")
_EVERY = 2  # frames of a recording per one that is captioned
POINTS = 60_000  # enough for voxels of 6 cm


def record(seed: int, split: str, style: str, out: Path, points: int = POINTS) -> str:
    """Record a room, caption it and write it as a scene folder of so many points at most, unless that is complete.

    The style "other" is another camera and another map: three times the depth noise, washed-out and tinted colours, and four
    of ten points.

    Returns:
        Its name.
    """
    folder = out / f"{split}-{seed:04d}"
    if (folder / "coord.npy").exists():
        return folder.name
    sequence = random_training_sequence(seed, split, frames=(10, 20))
    rng = room_rng(seed, split, stream=5)
    if style == "other":
        sequence.sensor = _worse(sequence.sensor)
    snapshot = fuse_sequence(sequence, VoxelMapConfig(min_views=1))
    count = min(len(snapshot), points)
    keep = np.sort(rng.permutation(len(snapshot))[: int(0.4 * count) if style == "other" else count])
    coord = snapshot.centroids[keep]
    segment, instance = true_labels(sequence, coord)
    color = snapshot.colors[keep] if style == "plain" else _tinted(snapshot.colors[keep])
    color = np.clip(np.rint(color), 0, 255).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    captioner = TemplateCaptioner(words_for_classes(), seed=seed)
    segmenters: Sequence[Segmenter] = (RenderedLabels(), BoxMasks(RenderedLabels()))  # type: ignore[assignment]
    engines = [FrameEngine(segmenter, captioner) for segmenter in segmenters]
    # frame by frame, as a view is rendered once for both
    pairs = [[engine.process(sequence, index, coord) for engine in engines] for index in range(0, len(sequence), _EVERY)]
    for source, found in zip(SOURCES, zip(*pairs, strict=True), strict=True):
        write_frame_captions(folder, source, [one.masks for one in found], [one.captions for one in found])
    ids = [item for item in np.unique(instance) if item > 0]
    masks = [np.flatnonzero(instance == item) for item in ids]
    names = [(sequence.scene.instances[item - 1].class_name,) for item in ids]
    scene = CaptionedScene(folder.name, coord, color, snapshot.normals[keep], segment, instance, masks, names)
    write_scene_folder(folder, scene, "rooms")
    return folder.name


def _worse(sensor: SensorModel) -> SensorModel:
    return replace(
        sensor,
        axial_noise=3 * sensor.axial_noise,
        lateral_noise_px=1.0,
        hole_rate=1.8,
        color_noise=12.0,
        white_balance=0.02,
        exposure=0.15,
        pose_noise=0.006,
    )


def _tinted(color: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half the saturation, a raised black level, and a blue cast."""
    grey = color.mean(1, keepdims=True)
    return (60 + 0.55 * (0.5 * color + 0.5 * grey)) * np.array([0.8, 0.95, 1.2], np.float32)


def record_all(wanted: Sequence[tuple[int, str, str, Path]], workers: int, points: int = POINTS) -> None:
    """Record many rooms, (seed, split, style, folder) each; a second call goes on where the first stopped."""
    left = [one for one in wanted if not (one[3] / f"{one[1]}-{one[0]:04d}" / "coord.npy").exists()]
    if not left:
        return
    with worker_processes(workers) as pool:
        jobs = [pool.submit(record, *one, points) for one in left]
        for job in track(jobs, description="rooms"):
            job.result()
