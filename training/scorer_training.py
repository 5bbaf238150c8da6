"""Training of a proposal scorer. Called by ``train.py`` where the loss is that of overlaps."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torchmetrics import MeanAbsoluteError, PearsonCorrCoef

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.models.mask_decoder.checkpoint import load_decoder
from mosaic3d_core.models.precision import choose_device, choose_dtype
from mosaic3d_core.models.proposal_scorer import ProposalScorer, ScorerConfig
from mosaic3d_core.models.proposal_scorer.checkpoint import save_scorer
from mosaic3d_core.models.proposal_scorer.scorer import ViewBatch
from mosaic3d_core.models.scene_encoder import SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import QueryEngine
from mosaic3d_core.query.component_proposals import ComponentProposals
from mosaic3d_core.query.proposals import DecoderProposals, ProposalSource
from mosaic3d_core.query.sources import DEFAULT_DECODER
from training.data import training_scenes
from training.evaluation import EvaluationSet
from training.optimizers import build_optimizer, build_schedule
from training.outputs import write_summary
from training.scorer_candidates import CandidateMaker, Candidates, candidates_of
from training.scorer_data import SampleConfig, ScorerBatches, ScorerSamples
from training.trainer import GoOn, build_trainer, checkpoint_to_resume

#: Samples are drawn, so an epoch is nothing but a stretch of the progress bar.
_EPOCH_STEPS = 1000
#: Every so manieth voxel counts for mean and spread of the features.
_STRIDE = 50


class OverlapFit(lightning.LightningModule):
    """Trains a scorer to say overlaps: binary cross-entropy against the true ones, which is least where they are met.

    Args:
        scorer: The scorer.
        optim: Group ``optim``.
    """

    def __init__(self, scorer: ProposalScorer, optim: dict[str, Any]) -> None:
        super().__init__()
        self.scorer, self.optim = scorer, optim
        self.error, self.correlation = MeanAbsoluteError(), PearsonCorrCoef()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Views and overlaps."""
        views, overlaps = batch
        return ViewBatch(*(getattr(views, key).to(device) for key in ViewBatch.__dataclass_fields__)), overlaps.to(device)

    def training_step(self, batch: tuple[ViewBatch, Tensor], batch_idx: int) -> Tensor:
        """One step.

        Raises:
            Mosaic3DError: If the loss is not a number.
        """
        views, overlaps = batch
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self.scorer(views), overlaps)
        if not torch.isfinite(loss):
            raise Mosaic3DError(f"the loss is {float(loss.detach())} at step {self.global_step}: lower optim.lr")
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[ViewBatch, Tensor], batch_idx: int) -> None:
        """Compare predicted and true overlaps."""
        views, overlaps = batch
        found = self.scorer(views).sigmoid()
        self.error.update(found, overlaps)
        self.correlation.update(found, overlaps)

    def on_validation_epoch_end(self) -> None:
        """Log the mean absolute error and the correlation."""
        self.log("val/error", self.error.compute(), prog_bar=True)
        self.log("val/correlation", self.correlation.compute())
        self.error.reset()
        self.correlation.reset()

    def configure_optimizers(self) -> dict[str, object]:
        """The optimiser and its schedule."""
        optimizer = build_optimizer(self, self.optim)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = build_schedule(optimizer, self.optim, steps, lambda: self.global_step / max(1, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train_scorer(config: DictConfig, out: Path) -> dict[str, float]:
    """Train a scorer, export `scorer.safetensors` and return the last validation scores.

    Raises:
        Mosaic3DError: If the configuration names something unknown or missing, or the loss is not a number.
        CheckpointError: If the encoder or the decoder cannot be loaded.
    """
    net, data = config.model.net, config.data
    if config.trainer.max_steps <= 0:
        raise Mosaic3DError(f"a proposal scorer is trained for trainer.max_steps > 0, got {config.trainer.max_steps}")
    device = "cpu" if config.trainer.accelerator == "cpu" else "cuda"
    encoder = SceneEncoder.from_checkpoint(net.backbone_ckpt, device, condition=net.backbone_condition)
    views = ScorerConfig(encoder.head.weight.shape[1], tuple(net.widths), tuple(net.hidden), net.inside, net.around, net.margin_m)
    train, weights, unseen = _candidates(config, encoder, out)
    pushed = SampleConfig(data.pushed, config.seed)
    samples = ScorerSamples(
        train, weights, encoder.voxel_size_m, views, pushed, _EPOCH_STEPS * data.batch_size * _processes(config)
    )
    validation = ScorerSamples(unseen, np.ones(len(unseen)), encoder.voxel_size_m, views, pushed, data.val_samples)
    scorer = ProposalScorer(views)
    scorer.normalise(torch.from_numpy(np.concatenate([one.features[::_STRIDE] for one in train]).astype(np.float32)))
    module = OverlapFit(scorer, OmegaConf.to_container(config.optim))  # type: ignore[arg-type]
    batches = ScorerBatches(samples, validation, data.batch_size, data.workers)
    trainer = build_trainer(config, out, [GoOn()], monitor="val/correlation")
    resume = checkpoint_to_resume(config, out)
    trainer.fit(module, datamodule=batches, ckpt_path=resume, weights_only=None if resume is None else True)
    scores = trainer.validate(module, datamodule=batches, verbose=False)[0]
    result = {key: float(value) for key, value in scores.items()} | {"steps": float(trainer.global_step)}
    if trainer.is_global_zero:
        recipe = {"scenes": len(train), "steps": int(trainer.global_step), "seed": int(config.seed)}
        save_scorer(out / "scorer.safetensors", scorer, encoder.head, {"recipe": recipe, **result})
        write_summary(out, result, ("train/loss", "val/error", "val/correlation"))
    return result


def _processes(config: DictConfig) -> int:
    return int(config.trainer.devices) * int(config.trainer.num_nodes) if isinstance(config.trainer.devices, int) else 1


def _candidates(config: DictConfig, encoder: SceneEncoder, out: Path) -> tuple[list[Candidates], np.ndarray, list[Candidates]]:
    """Candidates of the training scenes, how often each scene's are drawn, and candidates of the validation scenes."""
    data, name = config.data, config.data.val_datasets[-1]
    if name not in config.datasets:
        raise Mosaic3DError(f"validation set {name} is unknown: datasets has {', '.join(config.datasets)}")
    spec = config.datasets[name]
    root = Path(data.root) / spec.folder
    unseen = EvaluationSet.open(
        name, root, None if spec.split is None else Path(spec.split), spec.classes, spec.segment, None, data.val_scenes
    ).scenes
    classes = get_class_list(spec.classes)
    maker = CandidateMaker(
        encoder, _sources(config, encoder), spec.segment, spec.instance, frozenset(classes.not_instances), spec.no_instance
    )
    scenes = training_scenes(data)
    if data.weights is not None and len(data.weights) != len(scenes):
        raise Mosaic3DError(f"data.weights has {len(data.weights)} values for {len(scenes)} datasets: give one for each")
    shares = dict.fromkeys(scenes, 1.0) if data.weights is None else dict(zip(scenes, data.weights, strict=True))
    kept = out / "candidates" / _who_proposes(config, encoder)
    train: list[Candidates] = []
    weights: list[float] = []
    for which, folders in scenes.items():
        found = candidates_of(folders[:: data.every[which]] if which in data.every else folders, maker, kept, which)
        train += found
        weights += [float(shares[which])] * len(found)
    return train, np.array(weights), candidates_of(unseen, maker, kept, name)


def _decoder_file(config: DictConfig) -> Path:
    return Path(config.model.net.decoder_ckpt or DEFAULT_DECODER)


def _who_proposes(config: DictConfig, encoder: SceneEncoder) -> str:
    """A name for encoder and decoder: candidates of others are no use."""
    decoder = _decoder_file(config)
    content = decoder.read_bytes() if decoder.is_file() else b""
    return f"{encoder.head.fingerprint()}-{hashlib.sha256(content).hexdigest()[:8]}"


def _sources(config: DictConfig, encoder: SceneEncoder) -> tuple[ProposalSource, ...]:
    engine = QueryEngine(get_text_encoder(encoder.text_encoder_name, cache_dir=config.text_cache))
    decoder = load_decoder(_decoder_file(config))
    decoder.check_encoder(encoder.head, _decoder_file(config).name)
    device = choose_device("cpu" if config.trainer.accelerator == "cpu" else "cuda")
    proposals = DecoderProposals(decoder.model.to(device), dtype=choose_dtype(device, None))  # as the node does
    return proposals, ComponentProposals(engine)
