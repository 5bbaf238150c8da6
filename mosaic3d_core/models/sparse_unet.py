"""SparseUNet: the 3D encoder of Mosaic3D (arXiv 2502.02548), under the names and shapes of its checkpoints.

Stem 3^3; four times (k2 s2 down, residual blocks); four times (inverse up, concatenation with the skip,
residual blocks); a linear head into text space. Everything before the head is kept as the feature of a voxel:
see ``folded_head.py``.
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from torch import Tensor, nn

from mosaic3d_core.models.blocks import EXPANSION, BasicBlock, BottleneckBlock, ConvNorm, MakeNorm
from mosaic3d_core.models.config import SparseUNetConfig
from mosaic3d_core.models.prompt_norm import PromptDrivenNorm, batch_norm
from mosaic3d_core.sparse import PointwiseLinear, SparseConv3d, SparseInverseConv3d, SparseTensor, SubMConv3d
from mosaic3d_core.sparse.modules import Conv


class SparseUNet(nn.Module):
    """The encoder.

    Args:
        config: Architecture. With conditions and basic blocks its norms are prompt-driven, and ``forward`` needs a tensor
            that carries a condition: :class:`~mosaic3d_core.models.prompt_driven.PromptDrivenUNet` takes care of that.
        compute_dtype: Dtype of the computation inside; None computes in the dtype of the input features.
            Parameters and statistics stay float32, products add up in float32, and the result is float32
            (float64 for float64 input).
    """

    def __init__(self, config: SparseUNetConfig, compute_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.conv_input = self._conv_norm(SubMConv3d(config.in_channels, config.base), config.base)
        self.down, self.enc, self.up, self.dec = (nn.ModuleList() for _ in range(4))
        widths, blocks = config.channels, config.blocks
        wide = EXPANSION if config.block == "bottleneck" else 1  # blocks give this many times their width
        skips = [config.base, *(wide * w for w in widths[:3])]
        for stage in range(4):
            below, width = skips[stage], widths[stage]
            # a bottleneck net keeps the stem's width on the way to its first stage
            entry = config.base if stage == 0 and wide > 1 else wide * width
            self.down.append(self._conv_norm(SparseConv3d(below, entry), entry))
            self.enc.append(self._stage(entry, width, blocks[stage]))
            # Decoder lists count from the finest stage; widths and blocks list the deepest first.
            up_width = widths[7 - stage]
            deeper = wide * (widths[6 - stage] if stage < 3 else widths[3])
            self.up.append(self._conv_norm(SparseInverseConv3d(deeper, up_width), up_width))
            self.dec.append(self._stage(up_width + below, up_width, blocks[7 - stage]))
        self.final = PointwiseLinear(config.feature_channels, config.out_channels, bias=config.head_bias)
        if config.init == "kaiming":
            self._init_kaiming()

    @property
    def _norm(self) -> MakeNorm:
        momentum, count = self.config.momentum, len(self.config.conditions)
        if self.config.prompt_driven_norms:
            return lambda channels: PromptDrivenNorm(channels, momentum, count)
        return lambda channels: batch_norm(channels, momentum)

    def _conv_norm(self, conv: nn.Module, channels: int) -> ConvNorm:
        names = ("conv", "bn") if self.config.prompt_driven_norms else ("0", "1")
        return ConvNorm(conv, self._norm(channels), names=names)

    def _stage(self, in_channels: int, channels: int, blocks: int) -> nn.Sequential:
        stage = nn.Sequential()
        for i in range(blocks):
            if self.config.block == "bottleneck":
                block: nn.Module = BottleneckBlock(in_channels if i == 0 else EXPANSION * channels, channels, self._norm)
            else:
                prompt = self.config.prompt_driven_norms
                block = BasicBlock(in_channels if i == 0 else channels, channels, self._norm, prompt)
            stage.add_module(f"block{i}", block)
        return stage

    def _init_kaiming(self) -> None:
        for module in self.modules():
            if isinstance(module, SubMConv3d | SparseConv3d | SparseInverseConv3d | PointwiseLinear):
                taps = {SubMConv3d: 10, SparseConv3d: 4}.get(type(module), 1)  # occupied taps on typical surfaces
                nn.init.trunc_normal_(module.weight, std=math.sqrt(2.0 / (taps * module.in_channels)))

    def forward(self, x: SparseTensor, head: bool = False) -> Tensor:
        """Encode the cells of a sparse tensor.

        Args:
            x: Input features (N, in_channels); N may be 0 outside training.
            head: Whether to apply the head.

        Returns:
            Features before the head (N, C), or in text space (N, D) with ``head=True``; rows as in ``x``.
        """
        dtype = x.features.dtype
        if self.compute_dtype is not None and self.compute_dtype != dtype:
            x = x.replace(x.features.to(self.compute_dtype))
        x = self.conv_input(x)
        skips = [x]
        for down, enc in zip(self.down, self.enc, strict=True):
            x = enc(down(x))
            skips.append(x)
        skips.pop()
        for stage in (3, 2, 1, 0):
            x = self.dec[stage](_up_beside(cast(ConvNorm, self.up[stage]), x, skips[stage]))
        if head:
            x = self.final(x)
        return x.features.to(torch.promote_types(dtype, torch.float32))


def _up_beside(up: ConvNorm, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
    """The upsampled features and, in further columns, those of the skip connection."""
    if isinstance(up[1], nn.Identity):
        return cast(SparseInverseConv3d, up[0]).infer_beside(x, skip, relu=up.relu)
    x = up(x)
    return x.replace(torch.cat([x.features, skip.features], 1))


def fold_batchnorm(model: SparseUNet) -> SparseUNet:
    """A copy for inference, with every batch norm folded into the convolution before it.

    Args:
        model: A net with plain batch norms; it is not changed. (A prompt-driven one becomes plain by choosing a
            condition first: ``PromptDrivenUNet.for_condition``.)

    Returns:
        A net in evaluation mode without gradients that computes what ``model`` computes in evaluation mode.

    Raises:
        ValueError: If the net has prompt-driven norms.
    """
    if model.config.prompt_driven_norms:
        raise ValueError("prompt-driven norms cannot be folded before a condition is chosen: call for_condition(name) first")
    with torch.inference_mode(False), torch.no_grad():  # ordinary tensors: their changes can be noticed
        folded = copy.deepcopy(model).eval().requires_grad_(False)
        for module in folded.modules():
            if isinstance(module, ConvNorm):
                _fold(cast(Conv, module[0]), module[1])
                module[1] = nn.Identity()
            elif isinstance(module, BasicBlock | BottleneckBlock):
                for number in (1, 2, 3):
                    if (norm := getattr(module, f"bn{number}", None)) is not None:
                        _fold(getattr(module, f"conv{number}"), norm)
                        setattr(module, f"bn{number}", nn.Identity())
    return folded


def _fold(conv: Conv, norm: nn.Module) -> None:
    if not isinstance(norm, nn.BatchNorm1d) or norm.running_var is None or norm.running_mean is None:
        return  # folded before
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)
    conv.forget_prepared()
