"""The encoder as the rest of the system sees it: a map snapshot in, a feature map out."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.checkpoint import LoadedCheckpoint, load_checkpoint
from mosaic3d_core.models.encoder_input import EncoderInput, build_encoder_input
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.precision import choose_device
from mosaic3d_core.models.runner import build_runner, floor_and_wall
from mosaic3d_core.models.sparse_unet import SparseUNet

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot

DEFAULT_CHECKPOINT = Path(__file__).resolve().parent.parent / "assets" / "mosaic3d_narrow.safetensors"


@dataclass(frozen=True)
class FeatureMap:
    """Features of one map generation, ready for queries.

    Attributes:
        snapshot: The map that was encoded.
        features: Features before the head, one row per encoder voxel. Shape (V, C), float32.
        norms: Their lengths in text space. Shape (V,), float32.
        voxel_of_point: Encoder voxel of each map voxel. Shape (N,), int64.
        cells: Indices of the encoder voxels on their own lattice. Shape (V, 3), int32.
        cell_size_m: Edge of an encoder voxel, metres.
        head: The head, folded into the text side.
        text_encoder_name: Text encoder that the features are aligned with.
        logit_scale: Learnt scale of the cosines.
        encode_ms: Time of the encode in milliseconds.
    """

    snapshot: MapSnapshot
    features: np.ndarray
    norms: np.ndarray
    voxel_of_point: np.ndarray
    cells: np.ndarray
    cell_size_m: float
    head: FoldedHead
    text_encoder_name: str
    logit_scale: float
    encode_ms: float

    @property
    def generation(self) -> int:
        """Generation of the map that was encoded."""
        return self.snapshot.generation

    def cosine(self, text_embeddings: np.ndarray) -> np.ndarray:
        """Cosine of every encoder voxel to every text: unit embeddings (Q, D) -> (V, Q) float32.

        Raises:
            ValueError: If the width of the embeddings is not that of the text encoder.
        """
        return self.head.cosine(self.features, self.norms, text_embeddings)


class SceneEncoder:
    """An encoder with its input recipe, ready to run; ``encode`` may be called from any thread.

    Args:
        checkpoint: A loaded checkpoint.
        device: "cpu", "cuda", "cuda:N" or "auto".
        dtype: Dtype of the computation, or None for the fast one of the device (see
            ``precision.choose_dtype``).
        backend: Backend of the sparse layers: "auto", "torch" or "spconv" (see ``runner.build_runner``).
        condition: For nets trained on several datasets, the one whose statistics to use; None for the first. ``condition``
            of the encoder says which it is.

    Raises:
        ValueError: If the device or dtype cannot be used, or the net does not have the condition.
    """

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str | None = None,
        backend: str = "auto",
        condition: str | None = None,
    ) -> None:
        metadata = checkpoint.metadata
        self.config = checkpoint.config
        self.metadata = metadata
        self.text_encoder_name = str(metadata["text_encoder"])
        self.voxel_size_m = float(metadata["voxel_size_m"])
        self.input_channels = tuple(str(name) for name in metadata["input_channels"])
        self.logit_scale = float(metadata["logit_scale"])
        self.device = choose_device(device)
        model, self.condition = _plain(checkpoint, condition)
        self.head = head_of(model, self.condition)
        runner = build_runner(model, self.device, dtype, backend)
        self.dtype, self.backend, self._run = runner.dtype, runner.backend, runner.run
        self._lock = threading.Lock()

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str | None = None,
        backend: str = "auto",
        condition: str | None = None,
    ) -> SceneEncoder:
        """Load an encoder.

        Args:
            path: Checkpoint file, or None for the one that ships with the package.
            device: "cpu", "cuda", "cuda:N" or "auto".
            dtype: Dtype of the computation, or None for the fast one of the device.
            backend: Backend of the sparse layers.
            condition: See the class.

        Raises:
            CheckpointError: If the file cannot be used, or the package was installed without its checkpoint.
            ValueError: If the device or dtype cannot be used, or the net does not have the condition.
        """
        if path is None and not DEFAULT_CHECKPOINT.is_file():
            raise CheckpointError(
                f"the checkpoint that ships with the package is missing ({DEFAULT_CHECKPOINT}); "
                "install the package again, or name a checkpoint file"
            )
        return cls(load_checkpoint(DEFAULT_CHECKPOINT if path is None else path), device, dtype, backend, condition)

    def is_source_of(self, feature_map: FeatureMap) -> bool:
        """Whether an encoding, perhaps one from a file, is of this encoder."""
        return feature_map.cell_size_m == self.voxel_size_m and feature_map.head.fingerprint() == self.head.fingerprint()

    def encode(self, snapshot: MapSnapshot) -> FeatureMap:
        """Encode a map.

        Args:
            snapshot: The map; an empty one gives an empty feature map.

        Returns:
            Features, norms and the voxel of every map point.
        """
        start = time.perf_counter()
        inputs = build_encoder_input(snapshot, self.voxel_size_m, self.input_channels)
        features = self._features(inputs)
        norms = self.head.norms(features)
        return FeatureMap(
            snapshot=snapshot,
            features=features,
            norms=norms,
            voxel_of_point=inputs.voxel_of_point,
            cells=inputs.indices,
            cell_size_m=self.voxel_size_m,
            head=self.head,
            text_encoder_name=self.text_encoder_name,
            logit_scale=self.logit_scale,
            encode_ms=(time.perf_counter() - start) * 1e3,
        )

    def warm_up(self) -> None:
        """Run once on a made-up cloud, so that compilation does not fall on the first map."""
        cells = floor_and_wall(40)  # so large that what only large clouds use is compiled too
        self.encode_cells(cells, np.zeros((len(cells), self.config.in_channels), np.float32))

    def encode_cells(self, indices: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Encode cells of any lattice, for those who voxelise by themselves.

        Args:
            indices: Occupied cells (batch, x, y, z), none twice. Shape (V, 4), int32.
            features: Input channels. Shape (V, Cin), float32.

        Returns:
            Features before the head. Shape (V, C), float32.
        """
        with self._lock, torch.inference_mode():
            return self._run(torch.from_numpy(features).to(self.device), torch.from_numpy(indices).to(self.device)).cpu().numpy()

    def _features(self, inputs: EncoderInput) -> np.ndarray:
        cells = np.zeros((len(inputs.indices), 4), np.int32)
        cells[:, 1:] = inputs.indices
        return self.encode_cells(cells, inputs.features)


def _plain(checkpoint: LoadedCheckpoint, condition: str | None) -> tuple[SparseUNet, str | None]:
    """The net with plain norms, and its condition."""
    model = checkpoint.model
    if isinstance(model, SparseUNet):
        if condition is not None:
            raise ValueError(f"condition {condition!r} cannot be chosen: {checkpoint.config.name} is a net without conditions")
        return model, None
    name = checkpoint.config.conditions[0] if condition is None else condition
    return model.for_condition(name), name


def head_of(model: SparseUNet, condition: str | None = None) -> FoldedHead:
    """The head of a net, under one of its conditions, as a :class:`FoldedHead`."""
    bias = None if model.final.bias is None else model.final.bias.detach().float().cpu().numpy()
    return FoldedHead(model.final.weight.detach().float().flatten(1).cpu().numpy(), bias, condition)
