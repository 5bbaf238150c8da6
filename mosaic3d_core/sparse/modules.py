"""Sparse layers with weights [out, kx, ky, kz, in], the layout of the released checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mosaic3d_core.sparse import functional
from mosaic3d_core.sparse.backend_torch import gather_product, product, scatter_product
from mosaic3d_core.sparse.coordinates import CoordinateSet
from mosaic3d_core.sparse.finish import Finish
from mosaic3d_core.sparse.matrix_product import pack
from mosaic3d_core.sparse.tensor import SparseTensor


class Conv(nn.Module):
    """Common part: weight, optional bias (made by folding a batch norm) and the shape checks."""

    kernel = 1
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        k = self.kernel
        self.weight = nn.Parameter(torch.empty(out_channels, k, k, k, in_channels))
        self.register_parameter("bias", None)
        nn.init.trunc_normal_(self.weight, std=0.02)
        self._cache: tuple[tuple[Any, ...], Tensor, Tensor | None] | None = None
        self._packed: Tensor | None = None

    def extra_repr(self) -> str:
        """Widths, for the printed form of a net."""
        return f"{self.in_channels}, {self.out_channels}"

    def _check(self, x: SparseTensor) -> Tensor:
        if x.features.shape[1] != self.in_channels:
            raise ValueError(f"{type(self).__name__} expects {self.in_channels} channels, got {x.features.shape[1]}")
        return x.features

    def _add_bias(self, features: Tensor) -> Tensor:
        return features if self.bias is None else features + self.bias.to(features.dtype)

    def _prepared(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Weight (K, in, out) in ``dtype`` and bias, kept until the weight changes: for inference only."""
        version = 0 if self.weight.is_inference() else self.weight._version
        key = (dtype, self.weight.device, self.weight.data_ptr(), version)
        if self._cache is None or self._cache[0] != key:
            per_tap = functional.per_tap(self.weight, dtype).contiguous()
            self._cache = (key, per_tap, None if self.bias is None else self.bias.detach())
            self._packed = None
        return self._cache[1], self._cache[2]

    def forget_prepared(self) -> None:
        """Drop the copies made for inference; needed only where a weight is replaced as a whole."""
        self._cache = self._packed = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None, "_packed": None}  # copies make their own: oneDNN's layout cannot be copied

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Conv:
        self.forget_prepared()  # another device or dtype
        return super()._apply(fn, recurse)

    def infer(self, x: SparseTensor, relu: bool = False, residual: Tensor | None = None) -> SparseTensor:
        """The layer without gradients, then ``relu(out + bias + residual)`` while the result is in cache.

        Args:
            x: Input.
            relu: Whether to apply ReLU at the end.
            residual: Features of the shape of the result to add before it.

        Returns:
            What ``forward`` returns, finished.
        """
        weight, bias = self._prepared(x.features.dtype)
        with torch.no_grad():
            return self._infer(x, self._check(x).contiguous(), weight, Finish(bias, residual, relu))

    def _infer(self, x: SparseTensor, features: Tensor, weight: Tensor, finish: Finish) -> SparseTensor:
        raise NotImplementedError


class SubMConv3d(Conv):
    """Submanifold convolution 3^3: the cells stay. Equals ``conv3d`` with padding 1 at the occupied cells."""

    kernel = 3

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (N, out) on the same cells."""
        cells = x.coordinates
        out = functional.submanifold_conv(self._check(x), self.weight, cells.neighbours(), cells.tap_order())
        return x.replace(self._add_bias(out))

    def _infer(self, x: SparseTensor, features: Tensor, weight: Tensor, finish: Finish) -> SparseTensor:
        cells = x.coordinates
        order = cells.tap_order()
        if order is None and self._packed is None:
            self._packed = pack(weight.flatten(0, 1))
        return x.replace(gather_product(features, cells.neighbours(), weight, order=order, packed=self._packed, finish=finish)[0])


class SparseConv3d(Conv):
    """Strided convolution, kernel 2 stride 2: to the next coarser level."""

    kernel = 2

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (P, out) on the coarser cells."""
        out = functional.down_conv(self._check(x), self.weight, x.coordinates.children())
        return x.replace(self._add_bias(out), x.coordinates.coarse())

    def _infer(self, x: SparseTensor, features: Tensor, weight: Tensor, finish: Finish) -> SparseTensor:
        out, _ = gather_product(features, x.coordinates.children(), weight, finish=finish)
        return x.replace(out, x.coordinates.coarse())


class SparseInverseConv3d(Conv):
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
            raise ValueError("SparseInverseConv3d needs a tensor that a SparseConv3d made: this one has no finer level")
        out = functional.inverse_conv(features, self.weight, fine.children(), len(fine))
        return x.replace(self._add_bias(out), fine)

    def _infer(self, x: SparseTensor, features: Tensor, weight: Tensor, finish: Finish) -> SparseTensor:
        fine = self._fine(x)
        return x.replace(scatter_product(features, fine.children(), weight, len(fine), finish), fine)

    def infer_beside(self, x: SparseTensor, skip: SparseTensor, relu: bool = False) -> SparseTensor:
        """``infer`` with the features of ``skip`` (N, S), on the finer cells, as further columns: (N, out + S)."""
        fine, features = self._fine(x), self._check(x).contiguous()
        weight, bias = self._prepared(features.dtype)
        with torch.no_grad():
            finish = Finish(bias, None, relu)
            return x.replace(scatter_product(features, fine.children(), weight, len(fine), finish, skip.features), fine)

    @staticmethod
    def _fine(x: SparseTensor) -> CoordinateSet:
        if x.coordinates.fine is None:
            raise ValueError("SparseInverseConv3d needs a tensor that a SparseConv3d made: this one has no finer level")
        return x.coordinates.fine


class PointwiseLinear(Conv):
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

    def _infer(self, x: SparseTensor, features: Tensor, weight: Tensor, finish: Finish) -> SparseTensor:
        return x.replace(product(features, weight[0], finish))
