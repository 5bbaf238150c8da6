"""What follows a product in inference, out = relu(product + bias + residual), in one pass over rows that are still in cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor


@dataclass(frozen=True)
class Finish:
    """Bias, residual and ReLU, each optional.

    Args:
        bias: Shape (D,).
        residual: Rows to add, in the dtype of the products. Shape (rows of the result, D).
        relu: Whether to apply ReLU at the end.
    """

    bias: Tensor | None = None
    residual: Tensor | None = None
    relu: bool = False

    def apply(self, out: Tensor) -> Tensor:
        """All rows of the result, in place."""
        if self.bias is not None:
            out.add_(self.bias.to(out.dtype))
        if self.residual is not None:
            out.add_(self.residual)
        return out.relu_() if self.relu else out


class RowFinisher:
    """Writes finished rows of products to their places in the result, on the CPU; may be called from several threads.

    Args:
        finish: What to do, or None to copy only.
        out: The result. Shape (N, D + S), bfloat16, float32 or float64.
        beside: Rows to copy into the last S columns of the rows written, where there is no residual. Shape (N, S).
    """

    def __init__(self, finish: Finish | None, out: Tensor, beside: Tensor | None = None) -> None:
        finish = finish or Finish()
        beside = out.new_empty(0, 0) if beside is None else beside
        width = out.shape[1] - beside.shape[1]
        self._exact = torch.float64 if out.dtype == torch.float64 else torch.float32
        bias = torch.zeros(width) if finish.bias is None else finish.bias.detach()
        self._bias = bias.to(self._exact).numpy()
        self._out = _numbers(out)
        none = out.new_empty(0, width)
        self._residual = _numbers(none if finish.residual is None else finish.residual.contiguous())
        self._beside = _numbers(beside.contiguous())
        self._least = -np.inf if not finish.relu else 0.0
        self._write = _finish_bfloat16 if out.dtype == torch.bfloat16 else _finish_float

    def write(self, products: Tensor, rows: np.ndarray) -> None:
        """Finish products (R, D) and write them to ``rows`` (R,) of the result; rows of -1 are left out."""
        least = self._bias.dtype.type(self._least)
        self._write(_numbers(products), rows, self._bias, self._residual, self._beside, least, self._out)


def _numbers(rows: Tensor) -> np.ndarray:
    """The tensor for numba, which lacks bfloat16: its bits."""
    return rows.view(torch.uint16).numpy() if rows.dtype == torch.bfloat16 else rows.numpy()


@njit(inline="always")
def _widen(bits: np.uint16) -> np.float32:
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@njit(inline="always")
def _round_to_bfloat16(value: np.float32) -> np.uint16:
    bits = np.float32(value).view(np.uint32)
    even = np.uint32((bits >> np.uint32(16)) & np.uint32(1))  # ties go to the even neighbour
    return np.uint16(np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + even) >> np.uint32(16))


@njit(cache=True, nogil=True, error_model="numpy")
def _finish_bfloat16(
    products: np.ndarray,
    rows: np.ndarray,
    bias: np.ndarray,
    residual: np.ndarray,
    beside: np.ndarray,
    least: np.floating,
    out: np.ndarray,
) -> None:
    width = products.shape[1]
    if len(residual) > 0:
        for r in range(products.shape[0]):
            row = np.int64(rows[r])
            if row >= 0:
                for c in range(width):
                    value = _widen(products[r, c]) + bias[c] + _widen(residual[row, c])
                    out[row, c] = _round_to_bfloat16(max(value, least))
    else:
        for r in range(products.shape[0]):
            row = np.int64(rows[r])
            if row >= 0:
                for c in range(width):
                    out[row, c] = _round_to_bfloat16(max(_widen(products[r, c]) + bias[c], least))
                for c in range(beside.shape[1]):
                    out[row, width + c] = beside[row, c]


@njit(cache=True, nogil=True, error_model="numpy")
def _finish_float(
    products: np.ndarray,
    rows: np.ndarray,
    bias: np.ndarray,
    residual: np.ndarray,
    beside: np.ndarray,
    least: np.floating,
    out: np.ndarray,
) -> None:
    width = products.shape[1]
    if len(residual) > 0:
        for r in range(products.shape[0]):
            row = np.int64(rows[r])
            if row >= 0:
                for c in range(width):
                    out[row, c] = max(products[r, c] + bias[c] + residual[row, c], least)
    else:
        for r in range(products.shape[0]):
            row = np.int64(rows[r])
            if row >= 0:
                for c in range(width):
                    out[row, c] = max(products[r, c] + bias[c], least)
                for c in range(beside.shape[1]):
                    out[row, width + c] = beside[row, c]
