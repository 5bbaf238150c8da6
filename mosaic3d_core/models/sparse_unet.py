"""SparseUNet: the 3D encoder of Mosaic3D (arXiv 2502.02548), under the names and shapes of its checkpoints.

Stem 3^3; four times (k2 s2 down, residual blocks); four times (inverse up, concatenation with the skip,
residual blocks); a linear head into text space. Everything before the head is kept as the feature of a voxel:
see ``folded_head.py``.
"""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from mosaic3d_core.models.config import VARIANTS, SparseUNetConfig
from mosaic3d_core.sparse import PointwiseLinear, SparseConv3d, SparseInverseConv3d, SparseTensor, SubMConv3d
from mosaic3d_core.sparse.modules import Conv

_BN_EPS = 1e-3


def _batch_norm(channels: int, momentum: float) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(channels, eps=_BN_EPS, momentum=momentum)


class ConvNorm(nn.Sequential):
    """A sparse convolution and its batch norm, as "0" and "1" of a sequence, with an optional ReLU behind."""

    def __init__(self, conv: nn.Module, norm: nn.Module, relu: bool = True) -> None:
        super().__init__(conv, norm)
        self.relu = relu

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Sparse tensor in, sparse tensor on the convolution's cells out."""
        conv, norm = self
        if isinstance(norm, nn.Identity):
            return cast(Conv, conv).infer(x, relu=self.relu)
        y = conv(x)
        features = norm(y.features)
        return y.replace(features.relu() if self.relu else features)


class BasicBlock(nn.Module):
    """Two submanifold convolutions and a shortcut: identity, or linear + norm where widths differ."""

    def __init__(self, in_channels: int, out_channels: int, momentum: float) -> None:
        super().__init__()
        self.proj: ConvNorm | None = None
        if in_channels != out_channels:
            linear = PointwiseLinear(in_channels, out_channels)
            self.proj = ConvNorm(linear, _batch_norm(out_channels, momentum), relu=False)
        self.conv1 = SubMConv3d(in_channels, out_channels)
        self.bn1: nn.Module = _batch_norm(out_channels, momentum)
        self.conv2 = SubMConv3d(out_channels, out_channels)
        self.bn2: nn.Module = _batch_norm(out_channels, momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (N, out) on the same cells."""
        shortcut = x if self.proj is None else self.proj(x)
        if isinstance(self.bn1, nn.Identity):
            return self.conv2.infer(self.conv1.infer(x, relu=True), relu=True, residual=shortcut.features)
        y = self.conv1(x)
        y = y.replace(self.bn1(y.features).relu())
        y = self.conv2(y)
        return y.replace((self.bn2(y.features) + shortcut.features).relu())


def _stage(in_channels: int, out_channels: int, blocks: int, momentum: float) -> nn.Sequential:
    stage = nn.Sequential()
    for i in range(blocks):
        stage.add_module(f"block{i}", BasicBlock(in_channels if i == 0 else out_channels, out_channels, momentum))
    return stage


class SparseUNet(nn.Module):
    """The encoder.

    Args:
        config: Architecture.
        compute_dtype: Dtype of the computation inside; None computes in the dtype of the input features.
            Parameters and statistics stay float32, products add up in float32, and the result is float32
            (float64 for float64 input).
    """

    def __init__(self, config: SparseUNetConfig, compute_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        widths, blocks, momentum = config.channels, config.blocks, config.momentum
        self.conv_input = ConvNorm(SubMConv3d(config.in_channels, config.base), _batch_norm(config.base, momentum))
        self.down, self.enc, self.up, self.dec = (nn.ModuleList() for _ in range(4))
        skips = [config.base, *widths[:3]]
        for stage in range(4):
            width, below = widths[stage], skips[stage]
            self.down.append(ConvNorm(SparseConv3d(below, width), _batch_norm(width, momentum)))
            self.enc.append(_stage(width, width, blocks[stage], momentum))
            # Decoder lists count from the finest stage; widths and blocks list the deepest first.
            up_width = widths[7 - stage]
            deeper = widths[6 - stage] if stage < 3 else widths[3]
            self.up.append(ConvNorm(SparseInverseConv3d(deeper, up_width), _batch_norm(up_width, momentum)))
            self.dec.append(_stage(up_width + below, up_width, blocks[7 - stage], momentum))
        self.final = PointwiseLinear(config.feature_channels, config.out_channels)
        if config.init == "kaiming":
            self._init_kaiming()

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
            x = self.up[stage](x)
            x = self.dec[stage](x.replace(torch.cat([x.features, skips[stage].features], 1)))
        if head:
            x = self.final(x)
        return x.features.to(torch.promote_types(dtype, torch.float32))


def fold_batchnorm(model: SparseUNet) -> SparseUNet:
    """A copy for inference, with every batch norm folded into the convolution before it.

    Args:
        model: The net; it is not changed.

    Returns:
        A net in evaluation mode without gradients that computes what ``model`` computes in evaluation mode.
    """
    with torch.inference_mode(False), torch.no_grad():  # ordinary tensors: their changes can be noticed
        folded = copy.deepcopy(model).eval().requires_grad_(False)
        for module in folded.modules():
            if isinstance(module, ConvNorm):
                _fold(cast(Conv, module[0]), module[1])
                module[1] = nn.Identity()
            elif isinstance(module, BasicBlock):
                _fold(module.conv1, module.bn1)
                _fold(module.conv2, module.bn2)
                module.bn1, module.bn2 = nn.Identity(), nn.Identity()
    return folded


def _fold(conv: Conv, norm: nn.Module) -> None:
    if not isinstance(norm, nn.BatchNorm1d) or norm.running_var is None or norm.running_mean is None:
        return  # folded before
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)
    conv.forget_prepared()


def build_sparse_unet(name: str, compute_dtype: torch.dtype | None = None, **overrides: Any) -> SparseUNet:
    """Build a net of a known size.

    Args:
        name: "spunet14a", "spunet18a", "spunet34c" or "narrow".
        compute_dtype: See :class:`SparseUNet`.
        **overrides: Fields of :class:`SparseUNetConfig` to change, such as ``in_channels=6``.

    Returns:
        The net with fresh weights, in training mode.

    Raises:
        ValueError: If the name or a field is unknown.
    """
    if name not in VARIANTS:
        raise ValueError(f'unknown encoder "{name}"; known are {", ".join(VARIANTS)}')
    config = SparseUNetConfig.from_dict({**VARIANTS[name].to_dict(), **overrides})
    return SparseUNet(config, compute_dtype)
