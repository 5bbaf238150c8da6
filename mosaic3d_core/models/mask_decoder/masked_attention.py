"""Masked attention of few queries to very many voxels, for inference.

The usual way makes scores of every query, head and voxel: 120 million numbers for 150 queries and 100,000 voxels, most of which
the masks then forbid. On the CPU only allowed pairs are looked at here, part of the voxels at a time, and the softmax is put
together from those of the parts (Milakov and Gimelshein 2018, arXiv 1805.02867).
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mosaic3d_core.sparse.parallel import for_each_chunk

_PART = 8192  # voxels of one piece of work; the same for any number of threads, and with it the order of sums
_CACHED = 512  # voxels whose keys and values stay in the cache of a core


def masked_attention(queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
    """``softmax(queries keys^T / sqrt(d), over allowed voxels) values``.

    Args:
        queries: (heads, Q, d).
        keys: (heads, V, d).
        values: (heads, V, d).
        allowed: Which voxels a query sees, at least one each. Shape (Q, V), bool; quickest as the transpose of a contiguous one.

    Returns:
        Shape (heads, Q, d); on the CPU in float64 for float64, else in float32.
    """
    if queries.device.type != "cpu":
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
    exact = torch.float64 if queries.dtype == torch.float64 else torch.float32
    asked = (queries.to(exact) * queries.shape[2] ** -0.5).transpose(0, 1).contiguous().numpy()
    rows_of_keys, rows_of_values, seen = keys.transpose(0, 1), values.transpose(0, 1), allowed.T.contiguous().numpy()
    parts = -(-len(seen) // _PART)
    highest = np.full((parts, *asked.shape[:2]), -np.inf, asked.dtype)
    weight, mixed = np.zeros_like(highest), np.zeros((parts, *asked.shape), asked.dtype)

    def attend(start: int, stop: int) -> None:
        part = start // _PART
        for first in range(start, stop, _CACHED):
            some = slice(first, min(first + _CACHED, stop))
            key, value = (rows[some].to(exact).contiguous().numpy() for rows in (rows_of_keys, rows_of_values))
            _attend(asked, key, value, seen[some], highest[part], weight[part], mixed[part])

    for_each_chunk(len(seen), _PART, attend)
    scale = np.exp(highest - highest.max(0))
    found = (mixed * scale[..., None]).sum(0) / (weight * scale).sum(0)[..., None]
    return torch.from_numpy(found).transpose(0, 1)


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _attend(
    queries: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    allowed: np.ndarray,
    highest: np.ndarray,
    weight: np.ndarray,
    mixed: np.ndarray,
) -> None:  # pragma: no cover - compiled
    """Take some voxels into the softmax of every query and head.

    Args:
        queries: Scaled. Shape (Q, heads, d).
        keys: (V, heads, d).
        values: (V, heads, d).
        allowed: (V, Q), bool.
        highest: Highest score so far, -inf at first; changed. Shape (Q, heads).
        weight: Sum of ``exp(score - highest)``; changed. Shape (Q, heads).
        mixed: Sum of values with these weights; changed. Shape (Q, heads, d).
    """
    rows = np.empty(len(keys), np.int64)
    scores = np.empty((queries.shape[1], len(keys)), queries.dtype)
    for q in range(len(queries)):
        count = 0
        for v in range(len(keys)):
            rows[count] = v
            count += allowed[v, q]
        if count > 0:
            _score(queries[q], keys, rows[:count], scores)
            for h in range(queries.shape[1]):
                highest[q, h] = _weigh(scores[h, :count], highest[q, h], weight[q, h : h + 1], mixed[q, h])
            _mix(scores, values, rows[:count], mixed[q])


@njit(nogil=True, fastmath={"contract", "reassoc"})
def _score(query: np.ndarray, keys: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:  # pragma: no cover - compiled
    for i in range(len(rows)):
        v = rows[i]
        for h in range(query.shape[0]):
            score = query.dtype.type(0)
            for c in range(query.shape[1]):
                score += query[h, c] * keys[v, h, c]
            scores[h, i] = score


@njit(nogil=True, fastmath={"contract", "reassoc"})
def _weigh(
    scores: np.ndarray, highest: np.floating, weight: np.ndarray, mixed: np.ndarray
) -> np.floating:  # pragma: no cover - compiled
    """Make scores weights against the highest one so far, which is returned, and those before as well."""
    top = highest
    for i in range(len(scores)):
        top = max(top, scores[i])
    fade = np.exp(highest - top)
    total = weight[0] * fade
    for i in range(len(scores)):
        score = np.exp(scores[i] - top)
        scores[i] = score
        total += score
    weight[0] = total
    mixed *= fade
    return top


@njit(nogil=True, fastmath={"contract", "reassoc"})
def _mix(weights: np.ndarray, values: np.ndarray, rows: np.ndarray, mixed: np.ndarray) -> None:  # pragma: no cover - compiled
    for i in range(len(rows)):
        v = rows[i]
        for h in range(mixed.shape[0]):
            weight = weights[h, i]
            for c in range(mixed.shape[1]):
                mixed[h, c] += weight * values[v, h, c]
