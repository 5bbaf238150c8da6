"""Differentiable sparse convolutions on top of a backend's products.

Weights have the layout [out, kx, ky, kz, in]. Features decide the dtype of the computation: the weights are
cast to it, and the gradient of the weights comes back in the dtype of the weights, added up in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mosaic3d_core.sparse.backend_torch import gather_outer, gather_product, scatter_product
from mosaic3d_core.sparse.tap_order import TapOrder


def per_tap(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """[out, kx, ky, kz, in] -> (K, in, out) in ``dtype``."""
    return weight.detach().to(dtype).flatten(1, 3).permute(1, 2, 0)


def _as_weight(taps: Tensor, like: Tensor) -> Tensor:
    """(K, in, out) -> [out, kx, ky, kz, in] in the dtype of the weight."""
    return taps.permute(2, 0, 1).reshape(like.shape).to(like.dtype)


class _SubmanifoldConv(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, table: Tensor, order: TapOrder | None) -> Tensor:
        ctx.save_for_backward(features, weight, table)
        ctx.order = order
        return gather_product(features.contiguous(), table, per_tap(weight, features.dtype), order=order)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight, table = ctx.saved_tensors
        features, grad = features.contiguous(), grad.contiguous()
        if not ctx.needs_input_grad[0]:
            return None, _as_weight(gather_outer(features, table, grad, ctx.order), weight), None, None
        # The table is symmetric: j is neighbour k of i exactly when i is neighbour 26 - k of j. So one gather
        # of the output gradients serves both the gradient of the input and that of the weight.
        mirrored = weight.detach().to(grad.dtype).flatten(1, 3).flip(1).permute(1, 0, 2)
        other = features if ctx.needs_input_grad[1] else None
        grad_features, outer = gather_product(grad, table, mirrored, order=ctx.order, outer_with=other)
        grad_weight = None if outer is None else _as_weight(outer.flip(0).transpose(1, 2), weight)
        return grad_features, grad_weight, None, None


class _DownConv(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight, table)
        return gather_product(features.contiguous(), table, per_tap(weight, features.dtype))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight, table = ctx.saved_tensors
        features, grad = features.contiguous(), grad.contiguous()
        grad_features = grad_weight = None
        if ctx.needs_input_grad[0]:
            backward_weight = weight.detach().to(grad.dtype).flatten(1, 3).permute(1, 0, 2)
            grad_features = scatter_product(grad, table, backward_weight, len(features))
        if ctx.needs_input_grad[1]:
            grad_weight = _as_weight(gather_outer(features, table, grad), weight)
        return grad_features, grad_weight, None


class _InverseConv(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, table: Tensor, out_rows: int) -> Tensor:
        ctx.save_for_backward(features, weight, table)
        return scatter_product(features.contiguous(), table, per_tap(weight, features.dtype), out_rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight, table = ctx.saved_tensors
        backward_weight = weight.detach().to(grad.dtype).flatten(1, 3).permute(1, 0, 2)
        other = features.contiguous() if ctx.needs_input_grad[1] else None
        grad_features, outer = gather_product(grad.contiguous(), table, backward_weight, outer_with=other)
        grad_weight = None if outer is None else _as_weight(outer.transpose(1, 2), weight)
        return grad_features, grad_weight, None, None


def submanifold_conv(features: Tensor, weight: Tensor, neighbours: Tensor, order: TapOrder | None = None) -> Tensor:
    """Submanifold 3^3 convolution: out[p] = sum_k W[k] in[p + k - 1] over the occupied cells.

    Args:
        features: Shape (N, C).
        weight: Shape (D, 3, 3, 3, C).
        neighbours: ``CoordinateSet.neighbours()``. Shape (N, 27), int32.
        order: ``CoordinateSet.tap_order()``: faster, to the same result.

    Returns:
        Shape (N, D), dtype of ``features``.
    """
    return _SubmanifoldConv.apply(features, weight, neighbours, order)


def down_conv(features: Tensor, weight: Tensor, children: Tensor) -> Tensor:
    """Strided convolution, kernel 2 stride 2: out[p] = sum_k W[k] in[2p + k].

    Args:
        features: Fine features. Shape (N, C).
        weight: Shape (D, 2, 2, 2, C).
        children: ``CoordinateSet.children()`` of the fine level. Shape (P, 8), int32.

    Returns:
        Coarse features (P, D), dtype of ``features``.
    """
    return _DownConv.apply(features, weight, children)


def inverse_conv(features: Tensor, weight: Tensor, children: Tensor, fine_rows: int) -> Tensor:
    """Inverse of the strided convolution's cell map: out[2p + k] = W[k] in[p].

    Args:
        features: Coarse features. Shape (P, C).
        weight: Shape (D, 2, 2, 2, C).
        children: ``CoordinateSet.children()`` of the fine level. Shape (P, 8), int32.
        fine_rows: Number of fine cells.

    Returns:
        Fine features (fine_rows, D), dtype of ``features``.
    """
    return _InverseConv.apply(features, weight, children, fine_rows)
