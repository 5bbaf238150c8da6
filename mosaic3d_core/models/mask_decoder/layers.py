"""Layers of the mask decoder: attention with the norm behind it, and the encoding of positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mosaic3d_core.models.mask_decoder.masked_attention import masked_attention


class CrossAttention(nn.Module):
    """Queries attend to voxels; residual, then norm.

    Args:
        width: Width of queries and voxels.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def keys_and_values(self, memory: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """What the voxels offer, (heads, V, width / heads) each; the same for every application of the layer.

        Args:
            memory: Voxel features (V, C).
            positions: Their encoded positions (V, C), added to the keys.
        """
        attention = self.multihead_attn
        _, key, value = attention.in_proj_weight.chunk(3)
        _, key_bias, value_bias = attention.in_proj_bias.chunk(3)
        keys = F.linear(memory + positions, key.to(memory.dtype), key_bias.to(memory.dtype))
        values = F.linear(memory, value.to(memory.dtype), value_bias.to(memory.dtype))
        return _by_head(keys, attention.num_heads), _by_head(values, attention.num_heads)

    def forward(self, queries: Tensor, query_positions: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
        """Attend.

        Args:
            queries: (Q, C).
            query_positions: (Q, C), added to the queries for the attention only.
            keys: (heads, V, C / heads).
            values: (heads, V, C / heads).
            allowed: Which voxels a query may attend to, at least one each. Shape (Q, V), bool.
        """
        attention = self.multihead_attn
        weight, bias = attention.in_proj_weight.chunk(3)[0], attention.in_proj_bias.chunk(3)[0]
        asked = _by_head(F.linear(queries + query_positions, weight, bias), attention.num_heads).to(keys.dtype)
        if torch.is_grad_enabled():
            found = F.scaled_dot_product_attention(asked, keys, values, attn_mask=allowed)
        else:
            found = masked_attention(asked, keys, values, allowed)
        found = found.transpose(0, 1).flatten(1).to(queries.dtype)
        return self.norm(queries + attention.out_proj(found))


class SelfAttention(nn.Module):
    """Queries attend to each other; residual, then norm.

    Args:
        width: Width of the queries.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, positions: Tensor) -> Tensor:
        """Attend: queries and their positions (Q, C) each."""
        asked = queries + positions
        found, _ = self.self_attn(asked[None], asked[None], queries[None], need_weights=False)
        return self.norm(queries + found[0])


class FeedForward(nn.Module):
    """Two linear layers; residual, then norm.

    Args:
        width: Width of the queries.
        hidden: Width between the layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor) -> Tensor:
        """Queries (Q, C)."""
        return self.norm(queries + self.linear2(F.relu(self.linear1(queries))))


class QueryProjection(nn.Module):
    """The MLP that turns an encoded position into the position of a query.

    Args:
        width: Width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())

    def forward(self, positions: Tensor) -> Tensor:
        """Encoded positions (Q, C)."""
        return self.layers(positions)


class FourierPositions(nn.Module):
    """Random Fourier features of positions within the scene's box (Tancik et al. 2020).

    Args:
        width: Width of the encoding.
        scale: Standard deviation of the frequencies.
    """

    gauss_B: Tensor  # noqa: N815  (the published name)

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("gauss_B", torch.randn(3, width // 2) * scale)

    def forward(self, positions: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Encode.

        Args:
            positions: Metres. Shape (N, 3).
            low: Lowest corner of the scene (3,).
            high: Highest corner of the scene (3,).

        Returns:
            Sines, then cosines. Shape (N, width).
        """
        size = (high - low).clamp(min=1e-6)  # a flat scene has a side of no length
        angle = 2 * math.pi * ((positions - low) / size) @ self.gauss_B
        return torch.cat([angle.sin(), angle.cos()], 1)


class SpatialWindow(nn.Module):
    """Where each query looks: ``h - sum_k s_k (p_k - c_k)^2`` of a voxel at p: centre c, sharpness s along each axis, height h.

    Args:
        width: Width of the queries.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 7))
        last = self.layers[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        last.bias = nn.Parameter(torch.tensor([0.0] * 6 + [1.0]))  # positive within one metre of the query's own place

    def forward(self, queries: Tensor, start: Tensor) -> Tensor:
        """Coefficients of the window's terms (see ``window_terms``).

        Args:
            queries: (Q, C).
            start: Where the queries started, metres. Shape (Q, 3).

        Returns:
            Shape (Q, 7).
        """
        offset, log_sharpness, height = self.layers(queries).split([3, 3, 1], dim=1)
        center, sharpness = start + offset, log_sharpness.clamp(-6.0, 6.0).exp()
        constant = height - (sharpness * center.square()).sum(1, keepdim=True)
        return torch.cat([2 * sharpness * center, -sharpness, constant], 1)


def window_terms(positions: Tensor) -> Tensor:
    """What windows are linear in: positions (V, 3), metres -> p, p^2, 1: (V, 7)."""
    return torch.cat([positions, positions.square(), torch.ones_like(positions[:, :1])], 1)


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.reshape(len(x), heads, -1).transpose(0, 1)
