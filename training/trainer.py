"""The Lightning trainer of a configuration, with checkpoints that a stopped run goes on from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from omegaconf import DictConfig

from mosaic3d_core.errors import Mosaic3DError
from training.checkpointing import AtomicCheckpoints
from training.outputs import build_logger


class GoOn(lightning.Callback):
    """After a stop in the middle of an epoch, leaves out the batches that were done."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the sampler; in a run that was not resumed nothing is done yet.

        Raises:
            Mosaic3DError: If the run was planned for fewer steps and its schedule cannot be drawn out.
        """
        # by the optimiser's steps: a checkpoint is written before the loop has counted the batch that led to it
        sampler, together = trainer.datamodule.sampler, trainer.accumulate_grad_batches  # type: ignore[attr-defined]
        if sampler is not None:
            steps = trainer.global_step - trainer.current_epoch * -(-len(sampler) // together)
            sampler.skip = steps * together
        schedule: Any = pl_module.lr_schedulers()
        planned, wanted = getattr(schedule, "total_steps", None), int(trainer.estimated_stepping_batches)
        if planned is not None and planned < wanted:
            raise Mosaic3DError(
                f"this run's OneCycle schedule was laid out for {planned} steps and cannot be resumed for {wanted}: start a new "
                "run, or keep trainer.max_epochs and trainer.max_steps"
            )


def checkpoint_to_resume(config: DictConfig, out: Path) -> Path | None:
    """The last checkpoint of a stopped run, if ``resume=true`` and there is one; else the run begins."""
    last = out / "last.ckpt"
    return last if config.resume and last.exists() else None


def build_trainer(
    config: DictConfig, out: Path, callbacks: list[lightning.Callback], monitor: str = "val/f_miou"
) -> lightning.Trainer:
    """The trainer of a configuration.

    Args:
        config: The whole configuration.
        out: Folder of checkpoints and logs.
        callbacks: Further callbacks.
        monitor: What the best checkpoint is best by.

    Raises:
        Mosaic3DError: If group ``trainer`` or ``logger`` holds something impossible.
    """
    spec = config.trainer
    by_steps = spec.val_every_steps is not None
    # a batch of one dataset leaves the norms of the other conditions without a gradient
    strategy = "ddp_find_unused_parameters_true" if spec.strategy == "ddp" else spec.strategy
    saved = partial(ModelCheckpoint, out, enable_version_counter=False)
    try:
        return lightning.Trainer(
            accelerator=spec.accelerator,
            devices=spec.devices,
            num_nodes=spec.num_nodes,
            strategy=strategy,
            plugins=[AtomicCheckpoints()],
            precision="16-mixed" if spec.precision == "16-mixed" else "32-true",
            max_epochs=spec.max_epochs,
            max_steps=spec.max_steps,
            accumulate_grad_batches=spec.accumulate_grad_batches,
            logger=build_logger(config.logger, out, checkpoint_to_resume(config, out) is not None),
            gradient_clip_val=config.optim.clip_norm,
            callbacks=[
                saved(filename="last", every_n_train_steps=config.save_every),
                saved(filename="best", monitor=monitor, mode="max"),
                RichProgressBar(refresh_rate=20),
                *callbacks,
            ],
            val_check_interval=spec.val_every_steps * spec.accumulate_grad_batches if by_steps else 1.0,
            check_val_every_n_epoch=None if by_steps else spec.check_val_every_n_epoch,
            num_sanity_val_steps=0,
            log_every_n_steps=max(1, min(20, spec.max_steps // 20)) if spec.max_steps > 0 else 20,
            enable_model_summary=False,
            use_distributed_sampler=False,  # the sampler shares the batches out by itself
        )
    except (lightning.fabric.utilities.exceptions.MisconfigurationException, ValueError) as error:
        raise Mosaic3DError(f"the trainer cannot be set up so: {error}") from error
