"""The Lightning module of stage 1: align voxel features with captions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor

from mosaic3d_core.data.caption_dataset import CaptionBatch
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.losses.gathering import is_distributed
from mosaic3d_core.models.prompt_driven import PromptDrivenUNet
from mosaic3d_core.models.sparse_unet import SparseUNet
from mosaic3d_core.sparse import SparseTensor
from training.losses import AlignmentLoss
from training.optimizers import build_optimizer, build_schedule
from training.validation import Validation


class CaptionAlignment(lightning.LightningModule):
    """Trains an encoder with a loss between its features and captions.

    Args:
        model: The encoder, plain or prompt-driven.
        loss: The loss.
        texts: Texts to unit embeddings (U, D).
        optim: Group ``optim``.
        validation: What to validate on.
        max_seconds: Length of the schedule in seconds; whichever of steps and time is further along rules.
    """

    def __init__(
        self,
        model: SparseUNet | PromptDrivenUNet,
        loss: AlignmentLoss,
        texts: Callable[[list[str]], Tensor],
        optim: dict[str, Any],
        validation: Validation,
        max_seconds: float | None = None,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.texts, self.optim = model, loss, texts, optim
        self.validation, self.max_seconds = validation, max_seconds
        self._started = time.monotonic()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the tensors of a training batch; items of the validation stay."""
        return batch.to(device) if isinstance(batch, CaptionBatch) else batch

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        """One step.

        Raises:
            Mosaic3DError: If the loss is not a number; it names the scenes.
        """
        x = SparseTensor(batch.features, batch.indices)
        with torch.autocast(self.device.type, enabled=False):  # the net computes in its own dtype, the loss in float32
            features = self.model(x, batch.conditions) if isinstance(self.model, PromptDrivenUNet) else self.model(x)
            features, head = _with_bias(features.float(), self.model.final)
            loss = self.loss(features, head, self.texts(batch.texts).to(self.device), batch)
        if not torch.isfinite(loss):
            raise Mosaic3DError(
                f"the loss is {float(loss.detach())} at step {self.global_step}, in a batch of {', '.join(batch.names)}: look at "
                "these scenes, or lower optim.lr; last.ckpt holds the state before"
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=1, sync_dist=is_distributed())
        self.log("train/scale", self.loss.logit_scale, prog_bar=True, batch_size=1)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Take the net as it is."""
        backbone = self.model.backbone if isinstance(self.model, PromptDrivenUNet) else self.model
        self.validation.start(self.model, backbone.compute_dtype or torch.float32, self.device)

    def validation_step(self, batch: tuple[int, int] | None, batch_idx: int) -> None:
        """Zero-shot labels of one scene, by class name; None where there are fewer scenes than processes."""
        if batch is not None:
            self.validation.add(*batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores; `val/f_miou` is that of ScanNet200 where it is validated, else of the first set."""
        scores = self.validation.finish(self.device)
        for name, values in scores.items():
            for key, value in values.items():
                self.log(f"val/{name}/{key}", value)
        if scores:
            leading = "scannet200" if "scannet200" in scores else next(iter(scores))
            self.log("val/f_miou", scores[leading]["f_miou"], prog_bar=True)
            self.log("val/miou", scores[leading]["miou"], prog_bar=True)

    def _progress(self) -> float:
        done = self.global_step / max(1, self.trainer.estimated_stepping_batches)
        if self.max_seconds is not None:
            done = max(done, (time.monotonic() - self._started) / self.max_seconds)
        return min(done, 1.0)

    def on_train_batch_end(self, *args: object) -> None:
        """Stop when the time is up."""
        if self.max_seconds is not None and self._progress() >= 1.0:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> dict[str, object]:
        """The optimiser and its schedule, one step of which follows each step."""
        optimizer = build_optimizer(self, self.optim)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = build_schedule(optimizer, self.optim, steps, self._progress)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _with_bias(features: Tensor, final: Any) -> tuple[Tensor, Tensor]:
    """Features (V, C) and head (D, C); a bias becomes the weight of a constant feature."""
    head = final.weight.reshape(len(final.weight), -1).float()
    if final.bias is None:
        return features, head
    return torch.cat([features, features.new_ones(len(features), 1)], 1), torch.cat([head, final.bias.float()[:, None]], 1)
