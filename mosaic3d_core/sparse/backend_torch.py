"""Backend "torch": sparse convolution as gather (im2col in chunks) and dense products, on CPU and CUDA.

These products carry all layers, forward and backward:

- ``gather_product``: out[i] = sum_k source[table[i, k]] @ weight[k]
- ``scatter_product``: out[table[i, k]] = source[i] @ weight[k], where every row of out occurs once in the
  table
- ``gather_outer``: result[k] = sum_i source[table[i, k]]^T other[i]

A table holds row numbers, or -1 for "none". Everything is done in the dtype of the features; outer products
add up in float32 (float64 for float64).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mosaic3d_core.sparse import kernel_map_cpu, parallel
from mosaic3d_core.sparse.finish import Finish, RowFinisher
from mosaic3d_core.sparse.matrix_product import multiply
from mosaic3d_core.sparse.tap_order import TapOrder

_CPU_CHUNK_BYTES = 4 << 20  # measured best of 1..16 MB for 32 to 256 channels in bfloat16 and float32
_CPU_CHUNK_ROWS = (192, 4096)
_CUDA_CHUNK_BYTES = 512 << 20


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
    least, most = _CPU_CHUNK_ROWS
    return parallel.even_chunk(rows, max(least, min(most, _CPU_CHUNK_BYTES // max(1, width * tensor.element_size()))))


def _gather_cuda(padded: Tensor, table: Tensor) -> Tensor:
    rows = torch.where(table >= 0, table, len(padded) - 1)
    return padded.index_select(0, rows.reshape(-1)).view(len(table), -1)


def _pad(source: Tensor) -> Tensor:
    return torch.cat([source, source.new_zeros(1, source.shape[1])])


@dataclass(frozen=True)
class _Piece:
    """Gathered columns of some rows: neighbours side by side, those that none of the rows has left out.

    Args:
        columns: Shape (R, T * C).
        rows: Their rows of the table, as a range or, where an order was given, as numbers. Shape (R,), int32.
        taps: The T neighbours in the columns, or None for all of the table's.
    """

    columns: Tensor
    rows: slice | np.ndarray
    taps: Tensor | None

    def of(self, rows: Tensor) -> Tensor:
        """The piece's rows of something else."""
        return rows[self.rows] if isinstance(self.rows, slice) else rows.index_select(0, torch.from_numpy(self.rows))

    def numbers(self) -> np.ndarray:
        """Row numbers. Shape (R,)."""
        return np.arange(self.rows.start, self.rows.stop) if isinstance(self.rows, slice) else self.rows


def _for_each_piece(source: Tensor, table: Tensor, order: TapOrder | None, work: Callable[[_Piece], None]) -> None:
    """Gather the table's rows of ``source`` in pieces, from several threads on the CPU."""
    rows, taps = table.shape
    channels = source.shape[1]
    chunk = _chunk_rows(rows, taps * channels, source)
    if source.device.type != "cpu":
        padded = _pad(source)
        for start in range(0, rows, chunk):
            piece = slice(start, min(rows, start + chunk))
            work(_Piece(_gather_cuda(padded, table[piece]), piece, None))
        return
    words, numbers = _words(_aligned(source), channels), table.numpy()
    if order is not None:
        chunk = order.size

    def gather(start: int, stop: int) -> None:
        if order is None:
            columns = parallel.scratch("columns", stop - start, taps * channels, source.dtype)
            kernel_map_cpu.gather_rows(words, numbers, start, _words(columns, channels))
            work(_Piece(columns, slice(start, stop), None))
            return
        part = order.chunks[start // chunk]
        columns = parallel.scratch("columns", stop - start, len(part.taps) * channels, source.dtype)
        kernel_map_cpu.gather_rows(words, part.table, 0, _words(columns, channels))
        work(_Piece(columns, part.rows, None if len(part.taps) == taps else torch.from_numpy(part.taps)))

    parallel.for_each_chunk(rows, chunk, gather)


def gather_product(
    source: Tensor,
    table: Tensor,
    weight: Tensor,
    *,
    order: TapOrder | None = None,
    packed: Tensor | None = None,
    outer_with: Tensor | None = None,
    finish: Finish | None = None,
) -> tuple[Tensor, Tensor | None]:
    """out[i] = sum_k source[table[i, k]] @ weight[k], and optionally the outer product of the same gather.

    Args:
        source: Shape (M, C).
        table: Shape (N, K), int32.
        weight: Shape (K, C, D), dtype of ``source``.
        order: Order of the table's rows to work in; it changes the time, not the result.
        packed: ``pack`` of the whole weight (K * C, D), used where no order is given.
        outer_with: Shape (N, E), dtype of ``source``: also return sum_i source[table[i, k]]^T outer_with[i].
        finish: Changes out, each piece while it is still in cache.

    Returns:
        out (N, D) in the dtype of ``source``, and the outer product (K, C, E) in float32/64 or None.
    """
    rows, taps = table.shape
    channels, width = weight.shape[1], weight.shape[2]
    weight = weight.contiguous()
    out = source.new_empty(rows, width)
    outer = None if outer_with is None else _OuterSum((taps, channels, outer_with.shape[1]), outer_with)
    on_cpu = source.device.type == "cpu"
    finisher = RowFinisher(finish, out) if on_cpu and (finish or order) else None

    def work(piece: _Piece) -> None:
        used = weight if piece.taps is None else weight.index_select(0, piece.taps)
        flat = used.view(-1, width)
        whole = packed if order is None else None
        if finisher is None:
            multiply(piece.columns, flat, out[piece.rows], whole)
        else:
            products = multiply(piece.columns, flat, parallel.scratch("products", len(piece.columns), width, source.dtype), whole)
            finisher.write(products, piece.numbers())
        if outer is not None:
            outer.add(piece)

    _for_each_piece(source, table, order, work)
    if finish is not None and not on_cpu:
        finish.apply(out)
    return out, None if outer is None else outer.total()


def product(source: Tensor, weight: Tensor, finish: Finish) -> Tensor:
    """Source (N, C) @ weight (C, D), finished."""
    if source.device.type != "cpu":
        return finish.apply(torch.mm(source, weight))
    rows, width = len(source), weight.shape[1]
    out = source.new_empty(rows, width)
    finisher = RowFinisher(finish, out)

    def work(start: int, stop: int) -> None:
        products = multiply(source[start:stop], weight, parallel.scratch("products", stop - start, width, source.dtype))
        finisher.write(products, np.arange(start, stop))

    parallel.for_each_chunk(rows, _chunk_rows(rows, max(source.shape[1], width), source), work)
    return out


def gather_outer(source: Tensor, table: Tensor, other: Tensor, order: TapOrder | None = None) -> Tensor:
    """sum_i source[table[i, k]]^T other[i]: (M, C), (N, K), (N, E) -> (K, C, E) in float32/64."""
    outer = _OuterSum((table.shape[1], source.shape[1], other.shape[1]), other)
    _for_each_piece(source, table, order, outer.add)
    return outer.total()


def scatter_product(
    source: Tensor, table: Tensor, weight: Tensor, out_rows: int, finish: Finish | None = None, beside: Tensor | None = None
) -> Tensor:
    """out[table[i, k]] = source[i] @ weight[k]; every row of out must occur exactly once in the table.

    Args:
        source: Shape (N, C).
        table: Shape (N, K), int32.
        weight: Shape (K, C, D), dtype of ``source``.
        out_rows: Number of rows of out.
        finish: Changes out, each piece while it is still in cache; a residual cannot be added here.
        beside: More columns of the result, copied to the right of the products. Shape (out_rows, S).

    Returns:
        Shape (out_rows, D + S), dtype of ``source``.
    """
    rows, taps = table.shape
    channels, width = weight.shape[1], weight.shape[2]
    flat = weight.permute(1, 0, 2).reshape(channels, taps * width).contiguous()
    out = source.new_empty(out_rows, width + (0 if beside is None else beside.shape[1]))
    chunk = _chunk_rows(rows, taps * width, source)
    if source.device.type != "cpu":
        for start in range(0, rows, chunk):
            targets = table[start : start + chunk].reshape(-1)
            blocks = torch.mm(source[start : start + chunk], flat).view(-1, width)
            kept = torch.nonzero(targets >= 0).squeeze(1)
            out[targets[kept].long(), :width] = blocks[kept]
        if finish is not None:
            finish.apply(out[:, :width])
        if beside is not None:
            out[:, width:] = beside
        return out
    numbers, finisher = table.numpy(), RowFinisher(finish, out, beside)

    def work(start: int, stop: int) -> None:
        blocks = parallel.scratch("columns", stop - start, taps * width, source.dtype)
        multiply(source[start:stop], flat, blocks)
        finisher.write(blocks.view(-1, width), numbers[start:stop].reshape(-1))

    parallel.for_each_chunk(rows, chunk, work)
    return out


class _OuterSum:
    """Sum over pieces of columns^T other, kept per thread in float32/64 and joined at the end."""

    def __init__(self, shape: tuple[int, int, int], other: Tensor) -> None:
        self._shape = shape
        self._other = other
        self._dtype = torch.float64 if other.dtype == torch.float64 else torch.float32
        self._sums: dict[int, Tensor] = {}

    def add(self, piece: _Piece) -> None:
        """Add a piece."""
        part = multiply(piece.columns.t(), piece.of(self._other)).view(-1, *self._shape[1:]).to(self._dtype)
        thread = threading.get_ident()
        if thread not in self._sums:
            self._sums[thread] = torch.zeros(self._shape, dtype=self._dtype, device=part.device)
        if piece.taps is None:
            self._sums[thread] += part
        else:
            self._sums[thread].index_add_(0, piece.taps, part)

    def total(self) -> Tensor:
        """The sum, shape (taps, channels, width)."""
        total = torch.zeros(self._shape, dtype=self._dtype, device=self._other.device)
        for part in self._sums.values():
            total += part
        return total
