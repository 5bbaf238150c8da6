"""Stage-1 training: language alignment of a sparse encoder.

python training/prepare_data.py synthetic --rooms 1100 --out data/rooms
python training/train.py data.root=data/rooms
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

# NumPy's own threads fight with torch's for the cores: measured, they made a loader worker three times slower
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `python training/train.py` from a clone that is not installed

import hydra
import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from mosaic3d_core.data.caption_dataset import (
    CaptionCollate,
    CaptionDataset,
    SampleRecipe,
    VoxelSample,
    find_scenes,
    scene_snapshot,
)
from mosaic3d_core.data.synthetic.captions import plain_vocabulary
from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.data.synthetic.record import record_room
from mosaic3d_core.data.transforms import training_transforms
from mosaic3d_core.models.building import build_sparse_unet
from mosaic3d_core.models.checkpoint import save_checkpoint
from mosaic3d_core.models.encoder_input import build_encoder_input, channel_count
from mosaic3d_core.models.precision import choose_device, choose_dtype
from training.alignment import CaptionAlignment
from training.text_table import TextTable


def validation_samples(rooms: int, voxel_size_m: float, channels: tuple[str, ...]) -> list[VoxelSample]:
    """Rooms of the "val" split on the encoder's grid, without augmentation."""
    out = []
    for seed in range(rooms):
        scene = record_room(seed, "val", captions_per_mask=1)
        inputs = build_encoder_input(scene_snapshot(scene), voxel_size_m, channels)
        out.append(VoxelSample(inputs.indices, inputs.features, inputs.voxel_of_point, scene.segment, [], []))
    return out


def all_captions(folders: list[Path], source: str) -> set[str]:
    """Every caption of the scenes."""
    texts: set[str] = set()
    for folder in folders:
        with np.load(folder / f"captions.{source}.npz", allow_pickle=False) as data:
            texts.update(str(t) for t in data["packed"])
    return texts


class Reshuffle(lightning.Callback):
    """Gives every epoch its own augmentation."""

    def __init__(self, dataset: CaptionDataset) -> None:
        self.dataset = dataset

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Advance the epoch before the workers start."""
        self.dataset.epoch = trainer.current_epoch


def _seed_worker(worker: int, threads: int = 1) -> None:
    torch.set_num_threads(threads)


def train(config: DictConfig) -> dict[str, float]:
    """Train, export `model.safetensors` and return the last validation scores.

    Raises:
        SystemExit: With one line when there are no scenes.
    """
    lightning.seed_everything(config.seed, workers=True)
    torch.set_num_threads(config.threads)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    channels = tuple(config.model.channels)
    folders = find_scenes(Path(config.data.root), config.data.source)
    if not folders:
        raise SystemExit(
            f"error: no scenes with captions '{config.data.source}' in {config.data.root}: run training/prepare_data.py first"
        )
    dtype = choose_dtype(choose_device("cpu"), None if config.model.compute_dtype == "auto" else config.model.compute_dtype)
    model = build_sparse_unet(config.model.variant, compute_dtype=dtype, in_channels=channel_count(channels))
    vocabulary = [text for text, _ in plain_vocabulary()]
    texts = TextTable(
        all_captions(folders, config.data.source) | set(vocabulary) | set(CLASS_NAMES), config.text_encoder, out / "captions.npz"
    )
    recipe = SampleRecipe(
        config.model.voxel_size_m,
        channels,
        captions_per_mask=config.data.captions_per_mask,
        max_voxels=config.data.max_voxels,
    )
    dataset = CaptionDataset(folders, [config.data.source], recipe, training_transforms(), seed=config.seed)
    loader = DataLoader(
        dataset,
        config.data.batch_size,
        shuffle=True,
        drop_last=len(dataset) >= config.data.batch_size,
        num_workers=config.data.workers,
        collate_fn=CaptionCollate(vocabulary, config.data.balance, config.seed),
        worker_init_fn=_seed_worker,
        prefetch_factor=3 if config.data.workers else None,
    )
    val = DataLoader(validation_samples(config.data.val_rooms, config.model.voxel_size_m, channels), 1, collate_fn=list)  # type: ignore[arg-type]
    seconds = None if config.max_minutes is None else 60.0 * config.max_minutes
    optim: dict[str, Any] = OmegaConf.to_container(config.optim)  # type: ignore[assignment]
    module = CaptionAlignment(model, texts, optim, config.max_steps, seconds, config.logit_scale, config.learn_scale)
    metadata = {
        "text_encoder": config.text_encoder,
        "voxel_size_m": float(config.model.voxel_size_m),
        "input_channels": list(channels),
        "recipe": {"loss": "caption contrastive", "data": f"{len(folders)} synthetic rooms", "seed": int(config.seed)},
    }
    export = partial(_export, module=module, metadata=metadata, path=out / "model.safetensors")
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=config.max_steps,
        logger=CSVLogger(out, name="log", version=""),
        gradient_clip_val=config.optim.clip_norm,
        callbacks=[
            ModelCheckpoint(out, filename="last", every_n_train_steps=200, save_weights_only=False, enable_version_counter=False),
            Reshuffle(dataset),
            RichProgressBar(refresh_rate=20),
            _Exporter(export),
        ],
        val_check_interval=config.val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        enable_model_summary=False,
    )
    resume = out / "last.ckpt" if config.resume and (out / "last.ckpt").exists() else None
    trainer.fit(module, loader, val, ckpt_path=resume, weights_only=None if resume is None else True)
    scores = trainer.validate(module, val, verbose=False)[0]
    export(step=trainer.global_step)
    result = {key: float(value) for key, value in scores.items()} | {"steps": float(trainer.global_step)}
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return result


def _export(module: CaptionAlignment, metadata: dict[str, Any], path: Path, step: int) -> None:
    values = dict(metadata, logit_scale=float(module.logit_scale.detach()), steps=int(step))
    save_checkpoint(path, module.model, values)


class _Exporter(lightning.Callback):
    """Exports the model after every validation, so that a stopped run leaves a usable one."""

    def __init__(self, export: partial[None]) -> None:
        self.export = export

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write `model.safetensors`."""
        self.export(step=trainer.global_step)


@hydra.main(version_base="1.3", config_path="../config/training", config_name="train")
def main(config: DictConfig) -> None:
    """Command line."""
    train(config)


if __name__ == "__main__":
    main()
