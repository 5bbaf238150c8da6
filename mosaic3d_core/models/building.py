"""Building a net by its published name."""

from __future__ import annotations

from typing import Any

import torch

from mosaic3d_core.models.config import VARIANTS, SparseUNetConfig
from mosaic3d_core.models.prompt_driven import PromptDrivenUNet
from mosaic3d_core.models.sparse_unet import SparseUNet

#: Conditions of the published nets by their number, in the order of their embedding tables.
CONDITIONS: dict[int, tuple[str, ...]] = {
    1: ("ScanNet",),
    2: ("ScanNet", "ARKitScenes"),
    3: ("ScanNet", "ARKitScenes", "ScanNetPP"),
    4: ("ScanNet", "ARKitScenes", "Matterport3D", "ScanNetPP"),
    5: ("ScanNet", "ARKitScenes", "Matterport3D", "Structured3D", "ScanNetPP"),
}


def net_of(config: SparseUNetConfig, compute_dtype: torch.dtype | None = None) -> SparseUNet | PromptDrivenUNet:
    """The net of an architecture: prompt-driven when it has conditions."""
    return PromptDrivenUNet(config, compute_dtype) if config.conditions else SparseUNet(config, compute_dtype)


def build_sparse_unet(name: str, compute_dtype: torch.dtype | None = None, **overrides: Any) -> SparseUNet:
    """Build a plain net of a known size.

    Args:
        name: "spunet14a", "spunet18a", "spunet34c", "spunet50", "spunet101" or "narrow".
        compute_dtype: See :class:`SparseUNet`.
        **overrides: Fields of :class:`SparseUNetConfig` to change, such as ``in_channels=6``.

    Returns:
        The net with fresh weights, in training mode.

    Raises:
        ValueError: If the name or a field is unknown.
    """
    if name not in VARIANTS:
        raise ValueError(f'unknown encoder "{name}"; known are {", ".join(VARIANTS)}')
    return SparseUNet(SparseUNetConfig.from_dict({**VARIANTS[name].to_dict(), **overrides}), compute_dtype)


def build_prompt_driven(
    name: str, conditions: tuple[str, ...] = CONDITIONS[3], compute_dtype: torch.dtype | None = None, **overrides: Any
) -> PromptDrivenUNet:
    """Build a net with conditions ("+ppt" in the published names).

    Args:
        name: A published size, with or without "+ppt" behind it.
        conditions: Names of the conditions; their order fixes rows of the embedding table and norms.
        compute_dtype: See :class:`SparseUNet`.
        **overrides: Fields of :class:`SparseUNetConfig` to change.

    Returns:
        The net with fresh weights, in training mode.

    Raises:
        ValueError: If the name or a field is unknown, or there is no condition.
    """
    size = name.removesuffix("+ppt")
    if size not in VARIANTS:
        raise ValueError(f'unknown encoder "{name}"; known are {", ".join(VARIANTS)}')
    values = VARIANTS[size].to_dict() | {"name": f"{size}+ppt", "conditions": conditions}
    values["head_bias"] = VARIANTS[size].block == "basic"
    return PromptDrivenUNet(SparseUNetConfig.from_dict({**values, **overrides}), compute_dtype)
