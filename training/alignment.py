"""The Lightning module of stage 1: align voxel features with captions."""

from __future__ import annotations

import math
import time

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from mosaic3d_core.data.caption_dataset import CaptionBatch, VoxelSample
from mosaic3d_core.data.synthetic.classes import CLASS_NAMES, STUFF_IDS
from mosaic3d_core.losses.caption_contrastive import caption_contrastive_loss, folded_cosine
from mosaic3d_core.metrics.semantic import confusion_matrix, foreground_miou, intersection_over_union
from mosaic3d_core.models.sparse_unet import SparseUNet
from mosaic3d_core.sparse import SparseTensor
from training.text_table import TextTable

#: The learned scale is kept at or below this (reference: 100).
MAX_LOGIT_SCALE = 100.0


class CaptionAlignment(lightning.LightningModule):
    """Trains a SparseUNet with the per-point caption contrastive loss.

    Args:
        model: The encoder.
        texts: Embeddings of every caption.
        optim: lr, weight_decay, warmup_share, final_share.
        max_steps: Length of the schedule in steps.
        max_seconds: Length of the schedule in seconds; whichever share is further along rules.
        logit_scale: Start value of the scale.
        learn_scale: Whether it is learned.
    """

    def __init__(
        self,
        model: SparseUNet,
        texts: TextTable,
        optim: dict[str, float],
        max_steps: int,
        max_seconds: float | None = None,
        logit_scale: float = 20.0,
        learn_scale: bool = True,
    ) -> None:
        super().__init__()
        self.model, self.texts, self.optim = model, texts, optim
        self.max_steps, self.max_seconds = max_steps, max_seconds
        self.log_scale = nn.Parameter(torch.tensor(math.log(logit_scale)), requires_grad=learn_scale)
        self._started = time.monotonic()
        self._confusion = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), np.int64)

    @property
    def head_weight(self) -> Tensor:
        """The head as a matrix (D, C)."""
        return self.model.final.weight.reshape(self.model.final.weight.shape[0], -1)

    @property
    def logit_scale(self) -> Tensor:
        """Exp of the learned log-scale, at most `MAX_LOGIT_SCALE`."""
        return self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def transfer_batch_to_device(
        self, batch: CaptionBatch | list[VoxelSample], device: torch.device, dataloader_idx: int
    ) -> CaptionBatch | list[VoxelSample]:
        """Move the tensors of a training batch; validation samples stay NumPy arrays."""
        return batch if isinstance(batch, list) else batch.to(device)

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        """One step of the contrastive loss."""
        features = self.model(SparseTensor(batch.features, batch.indices), head=False).float()
        used, row = torch.unique(batch.point, return_inverse=True)
        cosine = folded_cosine(features[used], self.head_weight.float(), self.texts(batch.texts))
        loss = caption_contrastive_loss(cosine, row, batch.mask, batch.target, self.logit_scale)
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        self.log("train/scale", self.logit_scale, prog_bar=True, batch_size=1)
        return loss

    def validation_step(self, batch: list[VoxelSample], batch_idx: int) -> None:
        """Zero-shot labels of one room, by class name."""
        text = self.texts(list(CLASS_NAMES))
        for sample in batch:
            indices = torch.from_numpy(np.concatenate([np.zeros((len(sample.indices), 1), np.int32), sample.indices], 1))
            features = self.model(SparseTensor(torch.from_numpy(sample.features), indices), head=False).float()
            label = folded_cosine(features, self.head_weight.float(), text).argmax(1).numpy()
            self._confusion += confusion_matrix(sample.segment, label[sample.voxel_of_point], len(CLASS_NAMES))

    def on_validation_epoch_end(self) -> None:
        """Log mean IoU over all classes and over the foreground."""
        if not self._confusion.sum():
            return
        iou = intersection_over_union(self._confusion)
        self.log("val/miou", float(np.nanmean(iou)), prog_bar=True)
        self.log("val/foreground_miou", foreground_miou(self._confusion, STUFF_IDS), prog_bar=True)
        self.log("val/accuracy", float(np.diag(self._confusion).sum() / self._confusion.sum()))
        worst = sorted((v, n) for v, n in zip(iou, CLASS_NAMES, strict=True) if np.isfinite(v))
        self.print("\nstep", self.global_step, "  ".join(f"{n} {v:.2f}" for v, n in worst))
        self._confusion[:] = 0

    def _progress(self) -> float:
        done = self.global_step / self.max_steps
        if self.max_seconds is not None:
            done = max(done, (time.monotonic() - self._started) / self.max_seconds)
        return min(done, 1.0)

    def _rate(self, step: int) -> float:
        """Warm-up, then cosine decay, as a share of the peak rate."""
        done, warm, final = self._progress(), self.optim["warmup_share"], self.optim["final_share"]
        if done < warm:
            return max(done / warm, 0.02)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))

    def on_train_batch_end(self, *args: object) -> None:
        """Stop when the time is up."""
        if self._progress() >= 1.0:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW without weight decay on norms and the scale."""
        decay = [p for n, p in self.named_parameters() if p.ndim > 1]
        plain = [p for n, p in self.named_parameters() if p.ndim <= 1 and p.requires_grad]
        groups = [{"params": decay, "weight_decay": self.optim["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.optim["lr"])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
