"""The dense product that every sparse layer ends in, by the fastest routine that this torch and this CPU offer.

``torch.mm`` sends float32 to MKL, which runs its 256-bit kernels on processors that are not Intel's. oneDNN, which torch
carries as well, uses the full width there: 2.3 times as fast on AMD Zen 5. It is taken where a measurement, once per
process, finds it faster.
"""

from __future__ import annotations

import functools
import time

import torch
from torch import Tensor

#: Rows of a product that a packed matrix is made for; others work as well.
_PACK_ROWS = 256


def _onednn(left: Tensor, right_transposed: Tensor) -> Tensor:
    # the operator that torch.compile calls for linear layers; it has no public name
    return torch.ops.mkldnn._linear_pointwise(left, right_transposed, None, "none", [], "")


@functools.lru_cache(maxsize=1)
def onednn_gain() -> float:
    """How many times faster oneDNN multiplies float32 on this CPU than ``torch.mm``; 0 where torch lacks it."""
    left, right = torch.ones(512, 864), torch.ones(864, 64)
    try:
        with torch.no_grad():
            same = torch.equal(_onednn(left, right.t()), left @ right)
    except (AttributeError, RuntimeError, NotImplementedError):
        return 0.0
    if not same:  # sums of ones are exact in any order
        return 0.0
    best = {}
    for name, product, other in (("mm", torch.mm, right), ("onednn", _onednn, right.t())):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            with torch.no_grad():
                product(left, other)
            times.append(time.perf_counter() - start)
        best[name] = min(times)
    return best["mm"] / best["onednn"]


def pack(right: Tensor) -> Tensor | None:
    """A matrix (K, D) in the layout that oneDNN multiplies by, for ``multiply(..., packed=...)``.

    Otherwise every product brings it into that layout again: 4 to 10 % of the time for the matrices of wide layers.

    Returns:
        An opaque tensor, or None where oneDNN is not at hand.
    """
    if right.device.type != "cpu" or right.dtype not in (torch.float32, torch.bfloat16) or not right.numel():
        return None
    if onednn_gain() < 0.9:
        return None
    if right.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None  # oneDNN refuses bfloat16 on processors without 512-bit instructions; torch.mm emulates it
    with torch.no_grad():
        return torch.ops.mkldnn._reorder_linear_weight(right.t().contiguous(), _PACK_ROWS)


def multiply(left: Tensor, right: Tensor, out: Tensor | None = None, packed: Tensor | None = None) -> Tensor:
    """Left (N, K) @ right (K, D) without gradients, written to ``out`` where it is given; ``packed`` is pack(right)."""
    onednn = left.dtype == torch.float32 and left.device.type == "cpu" and onednn_gain() > 1.1
    if (onednn or packed is not None) and left.numel() and right.numel():
        with torch.no_grad():
            product = _onednn(left, right.t() if packed is None else packed)
        return product if out is None else out.copy_(product)
    return torch.mm(left, right, out=out) if out is not None else torch.mm(left, right)
