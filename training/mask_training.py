"""Stage-2 training: the mask decoder. Called by ``train.py`` where the loss is that of masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
from omegaconf import DictConfig, OmegaConf

from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.errors import CheckpointError, Mosaic3DError
from mosaic3d_core.losses.mask_losses import MaskWeights
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.models.mask_decoder import MaskDecoder, MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.checkpoint import save_decoder
from mosaic3d_core.models.mask_decoder.segment3d import take_over
from mosaic3d_core.models.scene_encoder import SceneEncoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.models.text.base import TextEncoder
from mosaic3d_core.models.text.prompts import class_prompts
from training.data import TrainingData, all_captions, build_mask_datasets
from training.evaluation import EvaluationSet
from training.mask_alignment import MaskAlignment
from training.mask_validation import InstanceSet, MaskValidation
from training.outputs import write_summary
from training.text_table import OnlineTexts, TextTable
from training.trainer import GoOn, build_trainer, checkpoint_to_resume

_LARGEST_TABLE = 200_000
_NET = ("hidden", "feedforward", "heads", "iterations", "queries", "test_queries", "fourier_scale", "max_keys", "window")


class _Export(lightning.Callback):
    """Exports the decoder after every validation; the best one stays beside it."""

    def __init__(self, out: Path, metadata: dict[str, Any]) -> None:
        self.out, self.metadata, self.best = out, metadata, float("-inf")

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write `decoder.safetensors`, and `best.safetensors` where AP50 is the best so far."""
        assert isinstance(pl_module, MaskAlignment)
        if not trainer.is_global_zero:
            return
        score = float(trainer.callback_metrics.get("val/ap50", np.nan))
        values = {**self.metadata, "steps": int(trainer.global_step), "ap50": score}
        names = ["decoder.safetensors"]
        if score > self.best:
            self.best = score
            names.append("best.safetensors")
        for name in names:
            save_decoder(self.out / name, pl_module.decoder, pl_module.encoder.head, values)

    def state_dict(self) -> dict[str, Any]:
        """The best score, for a run that is resumed."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = float(state_dict["best"])


def train_decoder(config: DictConfig, out: Path) -> dict[str, float]:
    """Train a decoder, export `decoder.safetensors` and return the last validation scores.

    Raises:
        Mosaic3DError: If the configuration names something unknown or missing, or the loss is not a number.
        CheckpointError: If the encoder cannot be loaded.
    """
    net = config.model.net
    device = "cpu" if config.trainer.accelerator == "cpu" else "cuda"
    encoder = SceneEncoder.from_checkpoint(net.backbone_ckpt, device, condition=net.backbone_condition)
    text = get_text_encoder(encoder.text_encoder_name, cache_dir=config.text_cache)
    mix = build_mask_datasets(config.data, encoder, config.voxelization, config.seed)
    validation = _validation(config, encoder, text)
    data = TrainingData(mix, config.data, config.seed, validation.items, list)
    captions = all_captions(mix.datasets) | set(CLASS_NAMES)
    small = len(captions) <= _LARGEST_TABLE
    name = encoder.text_encoder_name
    texts: Any = TextTable(captions, name, out / "captions.npz", config.text_cache) if small else OnlineTexts(text)
    loss = config.loss
    decoder = MaskDecoder(MaskDecoderConfig(text_width=encoder.head.text_dim, **{key: net[key] for key in _NET}))
    if net.decoder_init is not None:
        _start_from(decoder, Path(net.decoder_init))
    module = MaskAlignment(
        decoder,
        encoder,
        MaskWeights(loss.object, loss.bce, loss.dice, loss.caption),
        texts,
        OmegaConf.to_container(config.optim),  # type: ignore[arg-type]
        validation,
        loss.auxiliary,
        loss.logit_scale,
        config.seed,
        loss.voxels,
    )
    export = _Export(out, {"text_encoder": name, "recipe": {"seed": int(config.seed)}})
    trainer = build_trainer(config, out, [export, GoOn()], monitor="val/ap50")
    resume = checkpoint_to_resume(config, out)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=None if resume is None else True)
    scores = trainer.validate(module, datamodule=data, verbose=False)[0]
    result = {key: float(value) for key, value in scores.items()} | {"steps": float(trainer.global_step)}
    if trainer.is_global_zero:
        write_summary(out, result, ("train/loss", "train/dice", "val/ap50", "val/class_ap50"))
    return result


def _start_from(decoder: MaskDecoder, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"model.net.decoder_init={path} does not exist: make it with training/download_segment3d.py")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"model.net.decoder_init={path} is not a whole safetensors file ({error})") from error
    done = take_over(decoder, weights)
    print(f"{len(done.taken)} weights start from {path.name}, {len(done.random)} at random")


def _validation(config: DictConfig, encoder: SceneEncoder, text: TextEncoder) -> MaskValidation:
    name = config.data.val_datasets[-1]  # of several class lists over the same scenes the last one, which is the longest
    if name not in config.datasets:
        raise Mosaic3DError(f"validation set {name} is unknown: datasets has {', '.join(config.datasets)}")
    spec = config.datasets[name]
    root = Path(config.data.root) / spec.folder
    split = None if spec.split is None else Path(spec.split)
    scenes = EvaluationSet.open(name, root, split, spec.classes, spec.segment, None, config.data.val_scenes).scenes
    classes = get_class_list(spec.classes)
    data = InstanceSet(tuple(scenes), classes, spec.segment, spec.instance, spec.no_instance)
    texts = np.asarray(text.encode(class_prompts(classes.names, config.prompt)), np.float32)
    return MaskValidation(data, encoder, texts, voxelization=config.voxelization)
