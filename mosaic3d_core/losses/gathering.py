"""Tensors of all processes of a distributed training, joined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function


def is_distributed() -> bool:
    """Whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _GatherRows(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        world, rank = distributed.get_world_size(), distributed.get_rank()
        mine = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.zeros_like(mine) for _ in range(world)]
        distributed.all_gather(counts, mine)
        sizes = [int(count) for count in counts]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        pieces = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(pieces, padded)
        ctx.start, ctx.count = sum(sizes[:rank]), len(rows)
        return torch.cat([piece[:size] for piece, size in zip(pieces, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # what every process lost or won by these rows
        grad = grad.contiguous()
        distributed.all_reduce(grad)
        return grad[ctx.start : ctx.start + ctx.count]


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all processes one after the other (N_0 + N_1 + ..., ...); the counts may differ. Gradients flow to every process.

    Alone it returns the rows.
    """
    return _GatherRows.apply(rows) if is_distributed() else rows
