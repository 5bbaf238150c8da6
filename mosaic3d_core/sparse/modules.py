"""Sparse layers with weights [out, kx, ky, kz, in], the layout of the released checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mosaic3d_core.sparse import functional
from mosaic3d_core.sparse.tensor import SparseTensor


class _Conv(nn.Module):
    """Common part: weight, optional bias (made by folding a batch norm) and the shape checks."""

    kernel = 1

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        k = self.kernel
        self.weight = nn.Parameter(torch.empty(out_channels, k, k, k, in_channels))
        self.register_parameter("bias", None)
        nn.init.trunc_normal_(self.weight, std=0.02)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"

    def _check(self, x: SparseTensor) -> Tensor:
        if x.features.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} expects {self.in_channels} channels per voxel, got {x.features.shape[1]}"
            )
        return x.features

    def _add_bias(self, features: Tensor) -> Tensor:
        return features if self.bias is None else features + self.bias.to(features.dtype)


class SubMConv3d(_Conv):
    """Submanifold convolution 3^3: the cells stay as they are. Equals ``conv3d`` with padding 1 at the occupied cells."""

    kernel = 3

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (N, out) on the same cells."""
        out = functional.submanifold_conv(self._check(x), self.weight, x.coordinates.neighbours())
        return x.replace(self._add_bias(out))


class SparseConv3d(_Conv):
    """Strided convolution, kernel 2 stride 2: to the next coarser level."""

    kernel = 2

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (P, out) on the coarser cells."""
        out = functional.down_conv(self._check(x), self.weight, x.coordinates.children())
        return SparseTensor(self._add_bias(out), x.coordinates.coarse())


class SparseInverseConv3d(_Conv):
    """Inverse of :class:`SparseConv3d`: back to the cells that the coarse level was made from."""

    kernel = 2

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (P, in) -> (N, out) on the finer cells.

        Raises:
            ValueError: If the tensor's level was not made by a strided convolution.
        """
        features = self._check(x)
        fine = x.coordinates.fine
        if fine is None:
            raise ValueError(
                "SparseInverseConv3d needs a tensor that a SparseConv3d made: this one has no finer level"
            )
        out = functional.inverse_conv(features, self.weight, fine.children(), len(fine))
        return SparseTensor(self._add_bias(out), fine)


class PointwiseLinear(_Conv):
    """Linear layer per voxel with a weight [out, 1, 1, 1, in].

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        bias: Whether to add a learnt bias.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels)
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (N, out) on the same cells."""
        weight = self.weight.flatten(1).to(x.features.dtype)
        bias = None if self.bias is None else self.bias.to(x.features.dtype)
        return x.replace(nn.functional.linear(self._check(x), weight, bias))
