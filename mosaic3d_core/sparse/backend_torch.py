"""Backend "torch": sparse convolution as gather (im2col in chunks) and dense products, on CPU and CUDA.

Three products carry all layers, forward and backward:

- ``gather_product``: out[i] = sum_k source[table[i, k]] @ weight[k]
- ``scatter_product``: out[table[i, k]] = source[i] @ weight[k], where every row of out occurs once in the
  table
- ``gather_outer``: result[k] = sum_i source[table[i, k]]^T other[i]

A table holds row numbers, or -1 for "none". Everything is done in the dtype of the features; outer products
add up in float32 (float64 for float64).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mosaic3d_core.sparse import kernel_map_cpu, parallel

_CPU_CHUNK = 1024  # rows; measured best of 128..4096 for 32 to 96 channels in bfloat16 and float32
_CPU_CHUNK_BYTES = 8 << 20
_CUDA_CHUNK_BYTES = 512 << 20


@dataclass(frozen=True)
class Finish:
    """What follows a product in inference: out = relu(out + bias + residual), each part optional."""

    bias: Tensor | None = None
    residual: Tensor | None = None
    relu: bool = False

    def apply(self, out: Tensor, start: int) -> None:
        """Finish the rows ``start``.. of the result in place."""
        if self.bias is not None:
            out.add_(self.bias)
        if self.residual is not None:
            out.add_(self.residual[start : start + len(out)])
        if self.relu:
            out.relu_()


def _words(rows: Tensor, block: int) -> np.ndarray:
    """Rows (N, K * block) as the widest integers that divide a block: numba lacks bfloat16.

    The arrays of one copy must be seen in the same words, so ``block`` is the width copied at a time.
    """
    size = block * rows.element_size()
    width = next(width for width in (8, 4, 2) if size % width == 0)
    return rows.view({8: torch.int64, 4: torch.int32, 2: torch.int16}[width]).numpy()


def _aligned(rows: Tensor) -> Tensor:
    """The rows, copied where they cannot be seen as words: at an odd place of a larger tensor, or empty (stride 0)."""
    odd = rows.numel() == 0 or rows.storage_offset() * rows.element_size() % 8 != 0
    return rows.clone(memory_format=torch.contiguous_format) if odd else rows


def _chunk_rows(rows: int, width: int, tensor: Tensor) -> int:
    """Rows per chunk: a buffer of ``width`` columns stays in cache (CPU) or within a bounded size (CUDA)."""
    if tensor.device.type != "cpu":
        return max(1024, _CUDA_CHUNK_BYTES // max(1, width * tensor.element_size()))
    chunk = max(128, min(_CPU_CHUNK, _CPU_CHUNK_BYTES // max(1, width * tensor.element_size())))
    return max(128, min(chunk, -(-rows // torch.get_num_threads())))


def _gather_cuda(padded: Tensor, table: Tensor) -> Tensor:
    rows = torch.where(table >= 0, table, len(padded) - 1)
    return padded.index_select(0, rows.reshape(-1)).view(len(table), -1)


def _product(columns: Tensor, flat: Tensor, out: Tensor, start: int, finish: Finish | None) -> None:
    torch.mm(columns, flat, out=out)
    if finish is not None:
        finish.apply(out, start)


def _pad(source: Tensor) -> Tensor:
    return torch.cat([source, source.new_zeros(1, source.shape[1])])


def gather_product(
    source: Tensor,
    table: Tensor,
    weight: Tensor,
    *,
    outer_with: Tensor | None = None,
    finish: Finish | None = None,
) -> tuple[Tensor, Tensor | None]:
    """out[i] = sum_k source[table[i, k]] @ weight[k], and optionally the outer product of the same gather.

    Args:
        source: Shape (M, C).
        table: Shape (N, K), int32.
        weight: Shape (K, C, D), dtype of ``source``.
        outer_with: Shape (N, E), dtype of ``source``: also return sum_i source[table[i, k]]^T outer_with[i].
        finish: Changes each piece of out in place while it is still in cache.

    Returns:
        out (N, D) in the dtype of ``source``, and the outer product (K, C, E) in float32/64 or None.
    """
    rows, taps = table.shape
    channels, width = weight.shape[1], weight.shape[2]
    flat = weight.reshape(taps * channels, width).contiguous()
    out = source.new_empty(rows, width)
    outer = _OuterSum(taps * channels, outer_with, source)
    chunk = _chunk_rows(rows, taps * channels, source)
    if source.device.type != "cpu":
        padded = _pad(source)
        for start in range(0, rows, chunk):
            columns = _gather_cuda(padded, table[start : start + chunk])
            _product(columns, flat, out[start : start + chunk], start, finish)
            outer.add(columns, start)
        return out, outer.total(taps)
    words, numbers = _words(_aligned(source), channels), table.numpy()

    def work(start: int, stop: int) -> None:
        columns = parallel.scratch("columns", stop - start, taps * channels, source.dtype)
        kernel_map_cpu.gather_rows(words, numbers, start, _words(columns, channels))
        _product(columns, flat, out[start:stop], start, finish)
        outer.add(columns, start)

    parallel.for_each_chunk(rows, chunk, work)
    return out, outer.total(taps)


def gather_outer(source: Tensor, table: Tensor, other: Tensor) -> Tensor:
    """sum_i source[table[i, k]]^T other[i]: (M, C), (N, K), (N, E) -> (K, C, E) in float32/64."""
    rows, taps = table.shape
    channels = source.shape[1]
    outer = _OuterSum(taps * channels, other, source)
    chunk = _chunk_rows(rows, taps * channels, source)
    if source.device.type != "cpu":
        padded = _pad(source)
        for start in range(0, rows, chunk):
            outer.add(_gather_cuda(padded, table[start : start + chunk]), start)
    else:
        words, numbers = _words(_aligned(source), channels), table.numpy()

        def work(start: int, stop: int) -> None:
            columns = parallel.scratch("columns", stop - start, taps * channels, source.dtype)
            kernel_map_cpu.gather_rows(words, numbers, start, _words(columns, channels))
            outer.add(columns, start)

        parallel.for_each_chunk(rows, chunk, work)
    total = outer.total(taps)
    assert total is not None  # for the type checker: other is a tensor
    return total


def scatter_product(source: Tensor, table: Tensor, weight: Tensor, out_rows: int, finish: Finish | None = None) -> Tensor:
    """out[table[i, k]] = source[i] @ weight[k]; every row of out must occur exactly once in the table.

    Args:
        source: Shape (N, C).
        table: Shape (N, K), int32.
        weight: Shape (K, C, D), dtype of ``source``.
        out_rows: Number of rows of out.
        finish: Changes the products in place; a residual cannot be added here.

    Returns:
        Shape (out_rows, D), dtype of ``source``.
    """
    rows, taps = table.shape
    channels, width = weight.shape[1], weight.shape[2]
    flat = weight.permute(1, 0, 2).reshape(channels, taps * width).contiguous()
    out = source.new_empty(out_rows, width)
    chunk = _chunk_rows(rows, taps * width, source)
    if source.device.type != "cpu":
        for start in range(0, rows, chunk):
            targets = table[start : start + chunk].reshape(-1)
            blocks = torch.mm(source[start : start + chunk], flat).view(-1, width)
            if finish is not None:
                finish.apply(blocks, 0)
            kept = torch.nonzero(targets >= 0).squeeze(1)
            out[targets[kept].long()] = blocks[kept]
        return out
    numbers, destination = table.numpy(), _words(out, width)

    def work(start: int, stop: int) -> None:
        blocks = parallel.scratch("columns", stop - start, taps * width, source.dtype)
        torch.mm(source[start:stop], flat, out=blocks)
        if finish is not None:
            finish.apply(blocks.view(-1, width), 0)
        kernel_map_cpu.scatter_rows(_words(blocks, width), numbers, start, destination)

    parallel.for_each_chunk(rows, chunk, work)
    return out


class _OuterSum:
    """Sum over chunks of columns^T other, kept per thread in float32/64 and joined at the end."""

    def __init__(self, height: int, other: Tensor | None, like: Tensor) -> None:
        self._other = other
        self._height = height
        self._dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        self._sums: dict[int, Tensor] = {}

    def add(self, columns: Tensor, start: int) -> None:
        if self._other is None:
            return
        part = torch.mm(columns.t(), self._other[start : start + len(columns)])
        thread = threading.get_ident()
        if thread in self._sums:
            self._sums[thread] += part
        else:
            self._sums[thread] = part.to(self._dtype)

    def total(self, taps: int) -> Tensor | None:
        if self._other is None:
            return None
        width = self._other.shape[1]
        total = torch.zeros(self._height, width, dtype=self._dtype, device=self._other.device)
        for part in self._sums.values():
            total += part
        return total.view(taps, -1, width)
