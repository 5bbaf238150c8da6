"""Masked attention of few queries to very many voxels, for inference.

The usual way makes scores of every query, head and voxel: 120 million numbers for 150 queries and 100,000 voxels, most of which
the masks then forbid. Here voxels are taken in blocks that stay in the cache, each with the queries that may see any of it, and
the softmax is kept up as blocks come in (Milakov and Gimelshein 2018). Masks are compact, so most pairs of query and block fall
away when neighbouring voxels stand together.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 1024
_TINY = 1e-20  # sums of weights below this have lost digits


def blocked_attention(queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
    """``softmax(queries keys^T / sqrt(d), over allowed voxels) values``.

    Args:
        queries: (heads, Q, d).
        keys: (heads, V, d).
        values: (heads, V, d).
        allowed: Which voxels a query sees, at least one each. Shape (Q, V), bool.

    Returns:
        Shape (heads, Q, d), float32.
    """
    heads, count, width = queries.shape
    queries = queries * width**-0.5
    highest = torch.full((heads, count, 1), -torch.inf, device=queries.device)
    total = torch.zeros(heads, count, 1, device=queries.device)
    mixed = torch.zeros(heads, count, width, device=queries.device)
    starts = range(0, keys.shape[1], _BLOCK)
    seen = torch.stack([allowed[:, k : k + _BLOCK].any(1) for k in starts])  # (blocks, Q)
    for start, active in zip(starts, seen, strict=True):
        rows = active.nonzero().squeeze(1)
        if not len(rows):
            continue
        part = slice(start, start + _BLOCK)
        scores = torch.bmm(queries[:, rows], keys[:, part].transpose(1, 2)).float()
        before = highest[:, rows]
        # of all voxels of the block, as filling in -inf and its exp take three times as long as all the rest
        now = torch.maximum(before, scores.amax(2, keepdim=True))
        weights = scores.sub_(now).exp_().mul_(allowed[rows, part])
        fade = (before - now).exp_()
        total[:, rows] = total[:, rows] * fade + weights.sum(2, keepdim=True)
        mixed[:, rows] = mixed[:, rows] * fade + torch.bmm(weights.to(values.dtype), values[:, part]).float()
        highest[:, rows] = now
    lost = (total < _TINY).any(0).squeeze(1).nonzero().squeeze(1)
    found = mixed / total
    for row in lost.tolist():  # what a query may see is dwarfed by what it may not: once more, over the former alone
        cells = allowed[row].nonzero().squeeze(1)
        scores = torch.bmm(queries[:, row : row + 1].float(), keys[:, cells].float().transpose(1, 2))
        found[:, row] = torch.bmm(scores.softmax(2), values[:, cells].float())[:, 0]
    return found


def spatial_order(positions: Tensor, edge_m: float = 0.4) -> Tensor:
    """An order of voxels (V,) in which those of one cube stand together: positions (V, 3) in metres."""
    cubes = ((positions - positions.min(0).values) / edge_m).long()
    size = cubes.max(0).values + 1
    return torch.argsort((cubes[:, 0] * size[1] + cubes[:, 1]) * size[2] + cubes[:, 2])
