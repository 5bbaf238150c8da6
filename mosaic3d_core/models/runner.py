"""A net ready to run on a device: folded, on the backend of that device, in its dtype."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mosaic3d_core.models.precision import choose_dtype
from mosaic3d_core.models.sparse_unet import SparseUNet, fold_batchnorm
from mosaic3d_core.sparse import SparseTensor
from mosaic3d_core.sparse.backends import choose_backend

_log = logging.getLogger(__name__)
#: Cosine between the backends below which spconv's result is taken for wrong; float16 alone stays above 0.999.
_LEAST_COSINE = 0.99


@dataclass(frozen=True)
class Runner:
    """A net on its backend.

    Attributes:
        backend: "torch" or "spconv".
        dtype: Dtype of the computation.
        run: Features (V, Cin) and cells (V, 4) on the device to features (V, C), float32.
    """

    backend: str
    dtype: torch.dtype
    run: Callable[[Tensor, Tensor], Tensor]


def build_runner(
    model: SparseUNet, device: torch.device, dtype: torch.dtype | str | None = None, backend: str = "auto"
) -> Runner:
    """Put a net on a device.

    With backend "auto" spconv is used on CUDA where it is installed, after it has shown on a small cloud that it computes what
    the torch backend computes; where it does not, a warning says so and torch is used.

    Args:
        model: The net, with plain norms; it is not changed.
        device: Where to run.
        dtype: Dtype, or None for the fast one of device and backend (float16 with spconv).
        backend: "auto", "torch" or "spconv".

    Raises:
        ValueError: If backend or dtype are unknown or do not go together.
        MissingDependencyError: If the backend asked for cannot run there.
    """
    chosen = choose_backend(backend, device)
    if chosen == "spconv" and dtype is not None and choose_dtype(device, dtype) == torch.bfloat16:
        if backend == "spconv":
            raise ValueError("backend spconv does not compute in bfloat16; choose float16 or float32, or backend torch")
        chosen = "torch"
    torch_runner = _on_torch(model, device, choose_dtype(device, dtype))
    if chosen == "torch":
        return torch_runner
    wanted = torch.float16 if dtype is None and device.type == "cuda" else choose_dtype(device, dtype)
    if backend == "spconv":
        return _on_spconv(model, device, wanted)
    try:
        runner = _on_spconv(model, device, wanted)
        problem = _difference(runner, torch_runner, model.config.in_channels, device)
    except Exception as error:  # spconv compiles for the GPU at hand: anything can go wrong, and torch runs as well
        problem = f"it failed ({type(error).__name__}: {error})"
    if problem is None:
        return runner
    _log.warning("backend spconv is not used: on a small cloud %s; the encoder runs on backend torch", problem)
    return torch_runner


def _on_torch(model: SparseUNet, device: torch.device, dtype: torch.dtype) -> Runner:
    folded = fold_batchnorm(model).to(device)
    folded.compute_dtype = dtype
    return Runner("torch", dtype, lambda features, indices: folded(SparseTensor(features, indices)))


def _on_spconv(model: SparseUNet, device: torch.device, dtype: torch.dtype) -> Runner:
    from mosaic3d_core.models.spconv_unet import SpconvUNet

    return Runner("spconv", dtype, SpconvUNet(model, dtype).to(device))


def _difference(one: Runner, other: Runner, channels: int, device: torch.device) -> str | None:
    """What is wrong with the first, held against the second; None if they agree."""
    cells = floor_and_wall(24)
    features = np.random.default_rng(0).uniform(-1, 1, (len(cells), channels)).astype(np.float32)
    arguments = torch.from_numpy(features).to(device), torch.from_numpy(cells).to(device)
    with torch.inference_mode():
        found, wanted = one.run(*arguments), other.run(*arguments)
    cosine = float(torch.nn.functional.cosine_similarity(found, wanted, dim=1).min())
    return None if cosine >= _LEAST_COSINE else f"its features differ from those of torch (cosine {cosine:.3f})"


def floor_and_wall(half: int) -> np.ndarray:
    """Cells of a made-up cloud, 2 * half wide. Shape (V, 4), int32."""
    side = np.arange(-half, half, dtype=np.int32)
    floor = np.stack(np.meshgrid([0], side, side, [0], indexing="ij"), -1).reshape(-1, 4)
    return np.unique(np.concatenate([floor, floor[:, [0, 1, 3, 2]]]), axis=0).astype(np.int32)
