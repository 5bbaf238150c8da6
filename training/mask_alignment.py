"""The Lightning module of stage 2: a mask decoder on a frozen encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from mosaic3d_core.data.mask_dataset import MaskSample
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.losses.gathering import is_distributed
from mosaic3d_core.losses.mask_losses import MaskTargets, MaskWeights, mask_loss
from mosaic3d_core.models.mask_decoder import MaskDecoder
from mosaic3d_core.models.scene_encoder import SceneEncoder
from training.mask_validation import MaskValidation
from training.optimizers import build_optimizer, build_schedule


class MaskAlignment(lightning.LightningModule):
    """Trains a mask decoder; the encoder stays as it is.

    Args:
        decoder: The decoder.
        encoder: The frozen encoder.
        weights: Weights of the losses.
        texts: Texts to unit embeddings (U, D).
        optim: Group ``optim``.
        validation: What to validate on.
        auxiliary: Whether the predictions after the earlier steps count as well.
        logit_scale: Start of the learnt scale of the contrastive loss.
        seed: Seed of the draws in the decoder.
        voxels: Voxels of a scene that count in a step, drawn at random after it was encoded whole; None for all.
    """

    def __init__(
        self,
        decoder: MaskDecoder,
        encoder: SceneEncoder,
        weights: MaskWeights,
        texts: Callable[[list[str]], Tensor],
        optim: dict[str, Any],
        validation: MaskValidation,
        auxiliary: bool = False,
        logit_scale: float = 14.285714,
        seed: int = 0,
        voxels: int | None = None,
    ) -> None:
        super().__init__()
        self.decoder, self.weights, self.texts, self.optim = decoder, weights, texts, optim
        self.validation, self.auxiliary, self.seed, self.voxels = validation, auxiliary, seed, voxels
        self.log_scale = torch.nn.Parameter(torch.tensor(float(np.log(logit_scale))))
        self.encoder = encoder  # no module, so its weights are neither trained nor stored
        self.head_weight = torch.from_numpy(encoder.head.weight)
        self.head_bias = None if encoder.head.bias is None else torch.from_numpy(encoder.head.bias)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Scenes are moved one by one, after encoding."""
        return batch

    def training_step(self, batch: list[MaskSample], batch_idx: int) -> Tensor:
        """One step over some scenes.

        Raises:
            Mosaic3DError: If the loss is not a number; it names the scenes.
        """
        parts: dict[str, list[Tensor]] = {}
        for scene in batch:
            for name, value in self._losses(scene).items():
                parts.setdefault(name, []).append(value)
        means = {name: torch.stack(values).mean() for name, values in parts.items()}
        loss = torch.stack(list(means.values())).sum()
        if not torch.isfinite(loss):
            raise Mosaic3DError(
                f"the loss is {float(loss.detach())} at step {self.global_step}, in a batch of "
                f"{', '.join(scene.name for scene in batch)}: look at these scenes, or lower optim.lr"
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=1, sync_dist=is_distributed())
        for name, value in means.items():
            self.log(f"train/{name}", value, batch_size=1)
        return loss

    def _losses(self, scene: MaskSample) -> dict[str, Tensor]:
        features = torch.from_numpy(self.encoder.encode_cells(_with_batch(scene.indices), scene.features)).to(self.device)
        generator = torch.Generator().manual_seed(int(np.random.default_rng([self.seed, *scene.draw]).integers(2**62)))
        scene, features = _drawn(scene, features, self.voxels, generator)
        bias = None if self.head_bias is None else self.head_bias.to(self.device)
        output = self.decoder(
            features,
            self.head_weight.to(self.device),
            bias,
            torch.from_numpy(scene.positions).to(self.device),
            steps=self.auxiliary,
            generator=generator,
        )
        targets = MaskTargets(
            torch.from_numpy(scene.masks).to(self.device),
            self._embeddings(scene.captions),
            torch.from_numpy(scene.counts).to(self.device),
        )
        scale = self.log_scale.exp().clamp(max=100.0)
        total = mask_loss(output.final, targets, self.weights, scale)
        for step in output.steps:
            for name, value in mask_loss(step, targets, self.weights, scale).items():
                total[name] = total[name] + value / len(output.steps)
        return total

    def _embeddings(self, captions: list[str]) -> Tensor:
        known = [number for number, text in enumerate(captions) if text]
        found = torch.zeros(len(captions), self.decoder.config.text_width, device=self.device)
        if known:
            found[known] = self.texts([captions[number] for number in known]).to(self.device)
        return found

    def on_validation_epoch_start(self) -> None:
        """Take the decoder as it is."""
        self.validation.start(self.decoder)

    def validation_step(self, batch: tuple[int, int] | None, batch_idx: int) -> None:
        """Find the objects of one scene."""
        if batch is not None:
            self.validation.add(*batch)

    def on_validation_epoch_end(self) -> None:
        """Log average precision."""
        for name, value in self.validation.finish().items():
            self.log(f"val/{name}", value, prog_bar=name == "ap50")

    def configure_optimizers(self) -> dict[str, object]:
        """The optimiser and its schedule."""
        optimizer = build_optimizer(self, self.optim)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = build_schedule(optimizer, self.optim, steps, lambda: self.global_step / max(1, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _drawn(scene: MaskSample, features: Tensor, voxels: int | None, generator: torch.Generator) -> tuple[MaskSample, Tensor]:
    """Some voxels of a scene with their features; objects of which none was drawn are left out."""
    if voxels is None or len(features) <= voxels:
        return scene, features
    rows = torch.randperm(len(features), generator=generator)[:voxels].sort().values
    chosen = rows.numpy()
    masks = scene.masks[:, chosen]
    kept = np.flatnonzero(masks.any(axis=1))
    part = replace(
        scene,
        indices=scene.indices[chosen],
        features=scene.features[chosen],
        positions=scene.positions[chosen],
        counts=scene.counts[chosen],
        masks=masks[kept],
        captions=[scene.captions[k] for k in kept],
    )
    return part, features[rows.to(features.device)]


def _with_batch(indices: np.ndarray) -> np.ndarray:
    cells = np.zeros((len(indices), 4), np.int32)
    cells[:, 1:] = indices
    return cells
