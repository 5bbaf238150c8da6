"""The dense product that every sparse layer ends in, by the fastest routine that this torch and this CPU offer.

``torch.mm`` sends float32 to MKL, which runs its 256-bit kernels on processors that are not Intel's. oneDNN, which torch
carries as well, uses the full width there: 2.3 times as fast on AMD Zen 5, 0.8 (narrow) to 2.1 times on
Zen 4. It is taken on such processors, and for packed matrices on all of x86.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mosaic3d_core.sparse.processor import this_processor

#: Rows of a product that a packed matrix is made for; others work as well.
_PACK_ROWS = 256


def _onednn(left: Tensor, right_transposed: Tensor) -> Tensor:
    # the operator that torch.compile calls for linear layers; it has no public name
    return torch.ops.mkldnn._linear_pointwise(left, right_transposed, None, "none", [], "")


@functools.lru_cache(maxsize=1)
def has_onednn() -> bool:
    """Whether this torch carries oneDNN's linear layer and it multiplies right on this CPU."""
    left, right = torch.ones(512, 864), torch.ones(864, 64)
    try:
        with torch.no_grad():
            return torch.equal(_onednn(left, right.t()), left @ right)  # sums of ones are exact in any order
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def pack(right: Tensor) -> Tensor | None:
    """A matrix (K, D) in the layout that oneDNN multiplies by, for ``multiply(..., packed=...)``.

    Otherwise every product brings it into that layout again: 4 to 10 % of the time for the matrices of wide layers.

    Returns:
        An opaque tensor, or None where oneDNN is not at hand.
    """
    if right.device.type != "cpu" or right.dtype not in (torch.float32, torch.bfloat16) or not right.numel():
        return None
    if not this_processor().flags or not has_onednn():
        return None
    if right.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None  # oneDNN refuses bfloat16 on processors without 512-bit instructions; torch.mm emulates it
    with torch.no_grad():
        return torch.ops.mkldnn._reorder_linear_weight(right.t().contiguous(), _PACK_ROWS)


def multiply(left: Tensor, right: Tensor, out: Tensor | None = None, packed: Tensor | None = None) -> Tensor:
    """Left (N, K) @ right (K, D) without gradients, written to ``out`` where it is given; ``packed`` is pack(right)."""
    onednn = left.dtype == torch.float32 and left.device.type == "cpu" and this_processor().slow_with_mkl and has_onednn()
    if (onednn or packed is not None) and left.numel() and right.numel():
        with torch.no_grad():
            product = _onednn(left, right.t() if packed is None else packed)
        return product if out is None else out.copy_(product)
    return torch.mm(left, right, out=out) if out is not None else torch.mm(left, right)
