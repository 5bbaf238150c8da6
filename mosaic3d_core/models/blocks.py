"""Residual blocks of the SparseUNet family, under the names of the published checkpoints.

Two naming styles exist: nets with plain batch norms call a convolution and its norm "0" and "1" and a projection "proj"; nets
with prompt-driven norms call them "conv" and "bn", "proj_conv" and "proj_norm".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from mosaic3d_core.models.prompt_norm import normalise
from mosaic3d_core.sparse import PointwiseLinear, SparseTensor, SubMConv3d
from mosaic3d_core.sparse.modules import Conv

#: How many times wider a bottleneck block is outside than inside.
EXPANSION = 4

MakeNorm = Callable[[int], nn.Module]


class ConvNorm(nn.Module):
    """A sparse convolution and its norm, with an optional ReLU behind; ``[0]`` and ``[1]`` give the two.

    Args:
        conv: The convolution.
        norm: Its norm.
        relu: Whether a ReLU follows.
        names: Names of the two in the state dict.
    """

    def __init__(self, conv: nn.Module, norm: nn.Module, relu: bool = True, names: tuple[str, str] = ("0", "1")) -> None:
        super().__init__()
        self.names = names
        self.add_module(names[0], conv)
        self.add_module(names[1], norm)
        self.relu = relu

    def __getitem__(self, position: int) -> nn.Module:
        return cast(nn.Module, self._modules[self.names[position]])

    def __setitem__(self, position: int, module: nn.Module) -> None:
        self._modules[self.names[position]] = module

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Sparse tensor in, sparse tensor on the convolution's cells out."""
        conv, norm = self[0], self[1]
        if isinstance(norm, nn.Identity):
            return cast(Conv, conv).infer(x, relu=self.relu)
        y = conv(x)
        features = normalise(norm, y)
        return y.replace(features.relu() if self.relu else features)


class ResidualBlock(nn.Module):
    """Common part: the shortcut, identity or linear + norm where widths differ."""

    proj: ConvNorm | None

    def _make_shortcut(self, in_channels: int, out_channels: int, norm: MakeNorm, prompt: bool) -> None:
        self.prompt = prompt
        if not prompt:
            self.proj = None
        if in_channels == out_channels:
            return
        linear = PointwiseLinear(in_channels, out_channels)
        if prompt:
            self.proj_conv, self.proj_norm = linear, norm(out_channels)
        else:
            self.proj = ConvNorm(linear, norm(out_channels), relu=False)

    def _shortcut(self, x: SparseTensor) -> Tensor:
        if self.prompt:
            return normalise(self.proj_norm, self.proj_conv(x)) if hasattr(self, "proj_conv") else x.features
        return x.features if self.proj is None else self.proj(x).features


class BasicBlock(ResidualBlock):
    """Two submanifold convolutions.

    Args:
        in_channels: Width of the input.
        channels: Width of the output.
        norm: Makes the norm of a width.
        prompt: Naming style of nets with prompt-driven norms.
    """

    def __init__(self, in_channels: int, channels: int, norm: MakeNorm, prompt: bool = False) -> None:
        super().__init__()
        self._make_shortcut(in_channels, channels, norm, prompt)
        self.conv1 = SubMConv3d(in_channels, channels)
        self.bn1: nn.Module = norm(channels)
        self.conv2 = SubMConv3d(channels, channels)
        self.bn2: nn.Module = norm(channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (N, out) on the same cells."""
        shortcut = self._shortcut(x)
        if isinstance(self.bn1, nn.Identity):
            return self.conv2.infer(self.conv1.infer(x, relu=True), relu=True, residual=shortcut)
        y = self.conv1(x)
        y = self.conv2(y.replace(normalise(self.bn1, y).relu()))
        return y.replace((normalise(self.bn2, y) + shortcut).relu())


class BottleneckBlock(ResidualBlock):
    """Two submanifold convolutions of the inner width and a linear layer to four times that width.

    Both of the first two convolutions are 3^3, not 1-3-1 as in images.

    Args:
        in_channels: Width of the input.
        channels: Inner width; the output is four times as wide.
        norm: Makes the norm of a width.
    """

    def __init__(self, in_channels: int, channels: int, norm: MakeNorm) -> None:
        super().__init__()
        wide = EXPANSION * channels
        self._make_shortcut(in_channels, wide, norm, prompt=False)
        self.conv1 = SubMConv3d(in_channels, channels)
        self.bn1: nn.Module = norm(channels)
        self.conv2 = SubMConv3d(channels, channels)
        self.bn2: nn.Module = norm(channels)
        self.conv3 = PointwiseLinear(channels, wide)
        self.bn3: nn.Module = norm(wide)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (N, 4 C) on the same cells."""
        shortcut = self._shortcut(x)
        if isinstance(self.bn1, nn.Identity):
            y = self.conv2.infer(self.conv1.infer(x, relu=True), relu=True)
            return self.conv3.infer(y, relu=True, residual=shortcut)
        y = self.conv1(x)
        y = self.conv2(y.replace(normalise(self.bn1, y).relu()))
        y = self.conv3(y.replace(normalise(self.bn2, y).relu()))
        return y.replace((normalise(self.bn3, y) + shortcut).relu())
