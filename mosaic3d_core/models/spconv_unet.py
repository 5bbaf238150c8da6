"""A folded SparseUNet on spconv's layers: the CUDA path for the large nets. Inference only.

Weights keep their layout ([out, kx, ky, kz, in] is spconv's own), so one state dict serves both backends. One rulebook serves all
convolutions of a level, linear layers run as matrix products, and inverse convolutions reuse the pairs of their way down.

spconv's CPU build is for comparisons only: with more than one thread its rulebooks are wrong now and then.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from mosaic3d_core.errors import MissingDependencyError
from mosaic3d_core.models.blocks import BasicBlock, BottleneckBlock, ConvNorm, ResidualBlock
from mosaic3d_core.models.sparse_unet import SparseUNet, fold_batchnorm
from mosaic3d_core.sparse.modules import Conv

_STRIDE = 16  # of the deepest level: shifts by its multiples leave all lattices where they are


def import_spconv() -> Any:
    """The module ``spconv.pytorch``; MissingDependencyError if it is not installed."""
    try:
        import spconv.pytorch as spconv
    except ImportError as error:
        raise MissingDependencyError(
            "backend spconv needs spconv for your CUDA version: pip install spconv-cu120 (up to Python 3.11) or spconv-cu126"
        ) from error
    return spconv


class SpconvUNet(nn.Module):
    """A SparseUNet whose sparse layers are spconv's.

    Args:
        model: The net, folded or not; it is not changed.
        dtype: Dtype of the computation; float16 is spconv's fast one on CUDA.

    Raises:
        MissingDependencyError: If spconv is not installed.
    """

    def __init__(self, model: SparseUNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self._spconv = import_spconv()
        folded = fold_batchnorm(model)
        self.config, self.dtype = model.config, dtype
        self.stem = self._subm(cast(Conv, folded.conv_input[0]), "level0")
        self.down = nn.ModuleList(self._strided(cast(Conv, one[0]), f"down{k}") for k, one in enumerate(_conv_norms(folded.down)))
        self.up = nn.ModuleList(self._inverse(cast(Conv, one[0]), f"down{k}") for k, one in enumerate(_conv_norms(folded.up)))
        self.enc = nn.ModuleList(self._stage(one, f"level{k + 1}") for k, one in enumerate(folded.enc))
        self.dec = nn.ModuleList(self._stage(one, f"level{k}") for k, one in enumerate(folded.dec))
        self.to(dtype).eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, features: Tensor, indices: Tensor) -> Tensor:
        """Encode cells.

        Args:
            features: Input features. Shape (V, Cin).
            indices: Cells (batch, x, y, z); negative ones are fine. Shape (V, 4), int32.

        Returns:
            Features before the head. Shape (V, C), float32, rows as given.
        """
        if len(indices) == 0:
            return features.new_zeros((0, self.config.feature_channels), dtype=torch.float32)
        cells = indices.clone()
        lowest = cells[:, 1:].amin(0)
        cells[:, 1:] -= torch.div(lowest, _STRIDE, rounding_mode="floor") * _STRIDE
        shape = [-(-(int(v) + 1) // _STRIDE) * _STRIDE for v in cells[:, 1:].amax(0)]
        batches = int(cells[:, 0].max()) + 1
        x = self._spconv.SparseConvTensor(features.to(self.dtype), cells, shape, batches)
        x = _relu(self.stem(x))
        skips = [x]
        for down, enc in zip(self.down, self.enc, strict=True):
            x = enc(_relu(down(x)))
            skips.append(x)
        skips.pop()
        for k in (3, 2, 1, 0):
            x = _relu(self.up[k](x))
            x = self.dec[k](x.replace_feature(torch.cat([x.features, skips[k].features], 1)))
        return cast(Tensor, x.features.float())

    def _stage(self, stage: nn.Module, key: str) -> nn.Sequential:
        return nn.Sequential(*(_Block(self, cast(ResidualBlock, block), key) for block in stage.children()))

    def _subm(self, conv: Conv, key: str) -> nn.Module:
        layer = self._spconv.SubMConv3d(conv.in_channels, conv.out_channels, 3, padding=1, bias=False, indice_key=key)
        return _fill(layer, conv)

    def _strided(self, conv: Conv, key: str) -> nn.Module:
        return _fill(
            self._spconv.SparseConv3d(conv.in_channels, conv.out_channels, 2, stride=2, bias=False, indice_key=key), conv
        )

    def _inverse(self, conv: Conv, key: str) -> nn.Module:
        return _fill(self._spconv.SparseInverseConv3d(conv.in_channels, conv.out_channels, 2, bias=False, indice_key=key), conv)


class _Block(nn.Module):
    """A residual block; its last layer may be linear."""

    def __init__(self, net: SpconvUNet, block: ResidualBlock, key: str) -> None:
        super().__init__()
        assert isinstance(block, BasicBlock | BottleneckBlock)
        self.proj = None if block.proj is None else _linear(cast(Conv, block.proj[0]))
        self.conv1, self.conv2 = net._subm(block.conv1, key), net._subm(block.conv2, key)
        self.conv3 = _linear(block.conv3) if isinstance(block, BottleneckBlock) else None

    def forward(self, x: Any) -> Any:
        """A tensor of spconv in and out."""
        shortcut = x.features if self.proj is None else self.proj(x.features)
        y = self.conv2(_relu(self.conv1(x)))
        if self.conv3 is not None:
            return y.replace_feature((self.conv3(y.features.relu()) + shortcut).relu())
        return y.replace_feature((y.features + shortcut).relu())


def _conv_norms(modules: nn.ModuleList) -> list[ConvNorm]:
    return [cast(ConvNorm, module) for module in modules]


def _relu(x: Any) -> Any:
    return x.replace_feature(x.features.relu())


class _Biased(nn.Module):
    """A layer of spconv with its bias added behind it: the CPU build has no bias of its own."""

    def __init__(self, layer: nn.Module, bias: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.bias = nn.Parameter(bias.detach().clone())

    def forward(self, x: Any) -> Any:
        """A tensor of spconv in and out."""
        y = self.layer(x)
        return y.replace_feature(y.features + self.bias)


def _fill(layer: Any, conv: Conv) -> nn.Module:
    if layer.weight.shape != conv.weight.shape:
        raise ValueError(
            f"this spconv build lays weights out as {tuple(layer.weight.shape)}, expected {tuple(conv.weight.shape)}"
        )
    layer.weight = nn.Parameter(conv.weight.detach().clone())
    assert conv.bias is not None  # made by folding
    return _Biased(layer, conv.bias)


def _linear(conv: Conv) -> nn.Linear:
    layer = nn.Linear(conv.in_channels, conv.out_channels)
    assert conv.bias is not None
    layer.weight, layer.bias = nn.Parameter(conv.weight.detach().flatten(1)), nn.Parameter(conv.bias.detach().clone())
    return layer
