"""Stage-1 training, language alignment of a sparse encoder; with an experiment of stage 2 a mask decoder or a proposal scorer.

python training/prepare_data.py synthetic --rooms 1100 --out data/rooms
python training/train.py data.root=data/rooms
python training/train.py experiment=train_spunet_multidata_ppt data=sc+ar trainer=ddp trainer.devices=8 logger=wandb
python training/train.py experiment=train_opensegment3d_scannet model.net.backbone_ckpt=FILE trainer=ddp trainer.devices=8
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

# NumPy's own threads fight with torch's for the cores: measured, they made a loader worker three times slower
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `python training/train.py` from a clone that is not installed

import hydra
import lightning
import torch
from omegaconf import DictConfig, OmegaConf

from mosaic3d_core.data.caption_dataset import CaptionCollate
from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.interrupts import lasting_interrupts
from mosaic3d_core.models.building import build_prompt_driven, build_sparse_unet
from mosaic3d_core.models.checkpoint import save_checkpoint
from mosaic3d_core.models.encoder_input import channel_count
from mosaic3d_core.models.precision import choose_dtype
from mosaic3d_core.models.prompt_driven import PromptDrivenUNet
from mosaic3d_core.models.sparse_unet import SparseUNet
from mosaic3d_core.models.text import get_text_encoder
from training.alignment import CaptionAlignment
from training.data import TrainingData, all_captions, build_datasets, negatives
from training.losses import build_loss
from training.outputs import write_example, write_summary
from training.text_table import OnlineTexts, TextTable
from training.trainer import GoOn, build_trainer, checkpoint_to_resume
from training.validation import Validation, validation_sets

#: More distinct captions than this are encoded as they come.
_LARGEST_TABLE = 200_000
_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def build_model(config: DictConfig) -> SparseUNet | PromptDrivenUNet:
    """The net of a configuration, in the dtype of its trainer.

    Raises:
        Mosaic3DError: If the precision is unknown.
        ValueError: If the variant or a field is unknown.
    """
    precision = config.trainer.precision
    if precision != "auto" and precision not in _DTYPES:
        raise Mosaic3DError(f"trainer.precision {precision} is unknown: choose auto, {', '.join(_DTYPES)}")
    device = torch.device("cpu" if config.trainer.accelerator == "cpu" else "cuda")
    dtype = choose_dtype(device) if precision == "auto" else _DTYPES[precision]
    overrides: dict[str, Any] = OmegaConf.to_container(config.model.overrides, resolve=True)  # type: ignore[assignment]
    overrides = {key: tuple(value) if isinstance(value, list) else value for key, value in overrides.items()}
    overrides["in_channels"] = channel_count(tuple(config.model.channels))
    if config.model.out_channels is not None:
        overrides["out_channels"] = config.model.out_channels
    if str(config.model.variant).endswith("+ppt"):
        return build_prompt_driven(config.model.variant, tuple(config.data.conditions), dtype, **overrides)
    return build_sparse_unet(config.model.variant, dtype, **overrides)


class _Outputs(lightning.Callback):
    """Exports the net after every validation, so that a stopped run leaves a usable one; the best one stays beside it."""

    def __init__(self, out: Path, metadata: dict[str, Any]) -> None:
        self.out, self.metadata, self.best = out, metadata, float("-inf")

    def export(self, trainer: lightning.Trainer, module: CaptionAlignment) -> None:
        """Write `model.safetensors`, and `best.safetensors` where foreground mIoU is the best so far."""
        if not trainer.is_global_zero:
            return
        values = dict(self.metadata, logit_scale=float(module.loss.logit_scale.detach()), steps=int(trainer.global_step))
        save_checkpoint(self.out / "model.safetensors", module.model, values)
        score = float(trainer.callback_metrics.get("val/f_miou", torch.tensor(0.0)))
        if score > self.best:
            self.best = score
            save_checkpoint(self.out / "best.safetensors", module.model, dict(values, f_miou=score))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Export."""
        assert isinstance(pl_module, CaptionAlignment)
        self.export(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The best score, for a run that is resumed."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = float(state_dict["best"])


def train(config: DictConfig) -> dict[str, float]:
    """Train, export `model.safetensors` and return the last validation scores.

    Raises:
        Mosaic3DError: If the configuration names something unknown or missing, or the loss is not a number.
    """
    _quieten_lightning()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    torch.set_num_threads(config.threads)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    if config.loss.kind == "mask":
        from training.mask_training import train_decoder

        return train_decoder(config, out)
    if config.loss.kind == "overlap":
        from training.scorer_training import train_scorer

        return train_scorer(config, out)
    mix = build_datasets(config.data, config.model, config.voxelization, config.seed)
    model = build_model(config)
    if isinstance(model, PromptDrivenUNet) and any(one.condition not in model.config.conditions for one in mix.datasets):
        raise Mosaic3DError(f"every dataset needs a condition of data.conditions ({', '.join(model.config.conditions)})")
    encoder = get_text_encoder(config.text_encoder, cache_dir=config.text_cache)
    metadata = {
        "text_encoder": config.text_encoder,
        "voxel_size_m": float(config.model.voxel_size_m),
        "input_channels": list(config.model.channels),
        "recipe": {"loss": str(config.loss.kind), "data": _describe(mix, config), "seed": int(config.seed)},
    }
    validation = Validation(validation_sets(config), encoder, config.prompt, config.voxelization, metadata)
    _check_conditions(model, validation)
    always = negatives(config.data)
    data = TrainingData(mix, config.data, config.seed, validation.items, CaptionCollate(always, config.data.balance))
    captions = all_captions(mix.datasets) | set(always)
    if len(captions) <= _LARGEST_TABLE:
        texts: Any = TextTable(captions | set(CLASS_NAMES), config.text_encoder, out / "captions.npz", config.text_cache)
    else:
        texts = OnlineTexts(encoder)
    seconds = None if config.max_minutes is None else 60.0 * config.max_minutes
    optim: dict[str, Any] = OmegaConf.to_container(config.optim)  # type: ignore[assignment]
    loss = build_loss(OmegaConf.to_container(config.loss))  # type: ignore[arg-type]
    module = CaptionAlignment(model, loss, texts, optim, validation, seconds)
    outputs = _Outputs(out, metadata)
    trainer = build_trainer(config, out, [outputs, GoOn()])
    resume = checkpoint_to_resume(config, out)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=None if resume is None else True)
    scores = trainer.validate(module, datamodule=data, verbose=False)[0]
    result = {key: float(value) for key, value in scores.items()} | {"steps": float(trainer.global_step)}
    if trainer.is_global_zero:
        write_summary(out, result, ("train/loss", "train/scale", "val/f_miou", "val/miou"))
        write_example(out, validation)
    return result


def _check_conditions(model: SparseUNet | PromptDrivenUNet, validation: Validation) -> None:
    """Refuse a validation set of a condition that is not trained, before hours have passed."""
    for one in validation.sets if isinstance(model, PromptDrivenUNet) else ():
        if one.condition is not None and one.condition not in model.config.conditions:
            raise Mosaic3DError(
                f"validation set {one.name} needs condition {one.condition}, but {', '.join(model.config.conditions)} are "
                f"trained: leave it out of data.val_datasets, or set datasets.{one.name}.condition"
            )


def _quieten_lightning() -> None:
    """Leave out what Lightning says about itself: advertisements, its own deprecations, and hooks that are as meant."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for start in (
        ".*isinstance.treespec",
        "Checkpoint directory",
        "Experiment logs directory",  # what it held was put aside, or belongs to a run that begins anew
        "You're resuming from a checkpoint that ended before the epoch",  # GoOn leaves out what was done
        "You have overridden `transfer_batch_to_device`",
        "The .*dataloader",
    ):
        warnings.filterwarnings("ignore", start)


def _describe(mix: Any, config: DictConfig) -> str:
    return ", ".join(f"{name} ({size} scenes)" for name, size in zip(config.data.datasets, mix.sizes, strict=True))


@hydra.main(version_base="1.3", config_path="../config/training", config_name="train")
def main(config: DictConfig) -> None:
    """Command line; exit code 2 and one line for bad input, 130 after Ctrl-C (resume=true goes on)."""
    try:
        with lasting_interrupts():
            train(config)
    except (Mosaic3DError, ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command with resume=true goes on from here", file=sys.stderr)
        sys.exit(130)


def _accept_published_form(arguments: list[str]) -> list[str]:
    """The README of Mosaic3D prints `trainer.ddp` where Hydra wants `trainer=ddp`."""
    out = []
    for one in arguments:
        if one.startswith("trainer.") and "=" not in one:
            print(f"hint: {one} is taken for {one.replace('.', '=', 1)}", file=sys.stderr)
            one = one.replace(".", "=", 1)
        out.append(one)
    return out


if __name__ == "__main__":
    sys.argv[1:] = _accept_published_form(sys.argv[1:])
    main()
