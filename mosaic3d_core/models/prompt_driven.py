"""Nets trained on several datasets at once, with an embedding per dataset ("PPT" in the published names).

The published ``spunet14a/18a/34c+ppt`` nets have prompt-driven norms; ``spunet50+ppt`` and ``spunet101+ppt`` carry an embedding
table beside plain batch norms, which does not influence their output (the released configuration put it so).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mosaic3d_core.models.blocks import ConvNorm, ResidualBlock
from mosaic3d_core.models.config import SparseUNetConfig
from mosaic3d_core.models.prompt_norm import CONTEXT_CHANNELS, PromptDrivenNorm, condition_of
from mosaic3d_core.models.sparse_unet import SparseUNet
from mosaic3d_core.sparse import SparseTensor


class PromptDrivenUNet(nn.Module):
    """A SparseUNet and the embedding of each condition.

    Args:
        config: Architecture with at least one condition.
        compute_dtype: See :class:`SparseUNet`.

    Raises:
        ValueError: If the configuration has no condition.
    """

    def __init__(self, config: SparseUNetConfig, compute_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if not config.conditions:
            raise ValueError("a prompt-driven net needs at least one condition")
        self.config = config
        self.backbone = SparseUNet(config, compute_dtype)
        self.embedding_table = nn.Embedding(len(config.conditions), CONTEXT_CHANNELS)

    @property
    def final(self) -> nn.Module:
        """The head."""
        return self.backbone.final

    def forward(self, x: SparseTensor, condition: str | Sequence[str], head: bool = False) -> Tensor:
        """Encode the cells of a sparse tensor.

        Args:
            x: Input features (N, in_channels).
            condition: Name of the condition of all samples, or one name per sample (batch index).
            head: Whether to apply the head.

        Returns:
            As :meth:`SparseUNet.forward`.

        Raises:
            ValueError: If a condition is unknown, or there are fewer names than samples.
        """
        names = [condition] if isinstance(condition, str) else list(condition)
        chosen = condition_of(names, self.config.conditions, self.embedding_table.weight)
        samples = int(x.indices[:, 0].max()) + 1 if len(x) else 0
        if len(names) > 1 and len(names) < samples:
            raise ValueError(f"{len(names)} conditions are given for {samples} samples: give one for all, or one each")
        return self.backbone(SparseTensor(x.features, x.coordinates, condition=chosen), head)

    @torch.no_grad()
    def for_condition(self, name: str) -> SparseUNet:
        """The plain net that computes what this one computes under a condition in evaluation mode.

        Args:
            name: The condition.

        Raises:
            ValueError: If the condition is unknown, listing those there are.
        """
        (index,) = condition_of([name], self.config.conditions, self.embedding_table.weight).index
        plain = SparseUNet(replace(self.config, conditions=()), self.backbone.compute_dtype)
        if not self.config.prompt_driven_norms:
            plain.load_state_dict(self.backbone.state_dict())
            return plain.eval()
        theirs = dict(plain.named_modules())
        for path, module in self.backbone.named_modules():
            if isinstance(module, ConvNorm):
                target = theirs[path]
                assert isinstance(target, ConvNorm)
                self._copy(module[0], module[1], target[0], target[1], index)
            elif isinstance(module, ResidualBlock):
                block = theirs[path]
                for number in ("1", "2"):
                    of, to = ((getattr(m, f"conv{number}"), getattr(m, f"bn{number}")) for m in (module, block))
                    self._copy(*of, *to, index)
                if hasattr(module, "proj_conv"):
                    proj = block.proj
                    self._copy(module.proj_conv, module.proj_norm, proj[0], proj[1], index)  # type: ignore[index]
        plain.final.load_state_dict(self.backbone.final.state_dict())
        return plain.eval()

    def _copy(self, conv: Any, norm: Any, to_conv: Any, to_norm: Any, index: int) -> None:
        to_conv.load_state_dict(conv.state_dict())
        assert isinstance(norm, PromptDrivenNorm)
        to_norm.load_state_dict(norm.for_condition(index, self.embedding_table.weight))
