"""The mask decoder: queries become objects by attending to the voxels of their own masks.

Mosaic3D's "OpenSegment3D" (arXiv 2502.02548, section on instance segmentation; after Mask3D, arXiv 2210.03105): queries start at
points far from each other, without content; each step masks the attention by the mask that a query has so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from mosaic3d_core.models.mask_decoder.config import MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.layers import (
    CrossAttention,
    FeedForward,
    FourierPositions,
    QueryProjection,
    SelfAttention,
    SpatialWindow,
    window_terms,
)
from mosaic3d_core.models.mask_decoder.sampling import farthest_points
from mosaic3d_core.sparse.parallel import for_each_chunk

_PIECE = 1024  # voxels whose logits for a hundred queries stay in the cache of a core


@dataclass(frozen=True)
class Prediction:
    """Objects after one step.

    Attributes:
        object_logits: Object (0) against nothing (1). Shape (Q, 2).
        mask_logits: Above 0 in the mask. Shape (Q, V).
        embeddings: Place in text space, not normalised. Shape (Q, D).
    """

    object_logits: Tensor
    mask_logits: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class DecoderOutput:
    """What the decoder says of a scene.

    Attributes:
        final: After the last step.
        steps: Before each step, where they were asked for.
        start: Voxel at which each query of the final prediction started. Shape (Q,), int64.
    """

    final: Prediction
    steps: list[Prediction]
    start: np.ndarray


@dataclass(frozen=True)
class _Windows:
    """What the windows of a scene's queries are made of: terms of all voxels (V, 7), starts of the queries (Q, 3)."""

    terms: Tensor
    start: Tensor

    @classmethod
    def of(cls, positions: Tensor, start: Tensor) -> _Windows:
        centered = positions.float() - positions.float().mean(0)
        return cls(window_terms(centered), centered[start])

    def of_queries(self, rows: Tensor) -> _Windows:
        """Those of some queries."""
        return _Windows(self.terms, self.start[rows])


class MaskDecoder(nn.Module):
    """The decoder, under the published names and shapes.

    Its features are those in text space, of which there are hundreds per voxel; they are never made. Both layers that read them
    are linear, so the head of the encoder is folded into them (`decoder_proj` and `linear.0`).

    Args:
        config: Sizes.
    """

    def __init__(self, config: MaskDecoderConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.hidden, config.heads
        self.decoder_proj = nn.Linear(config.text_width, width)
        self.query_proj = QueryProjection(width)
        self.pos_enc = FourierPositions(width, config.fourier_scale)
        self.decoder_norm = nn.LayerNorm(width)
        self.linear = nn.ModuleList([nn.Linear(config.text_width, width)])
        self.cross_attention = nn.ModuleList([CrossAttention(width, heads)])
        self.self_attention = nn.ModuleList([SelfAttention(width, heads)])
        self.ffn = nn.ModuleList([FeedForward(width, config.feedforward)])
        self.class_head = nn.Linear(width, 2)
        self.mask_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.clip_head = nn.Linear(width, config.text_width)
        if config.window:
            self.window = SpatialWindow(width)

    def forward(
        self,
        features: Tensor,
        head_weight: Tensor,
        head_bias: Tensor | None,
        positions: Tensor,
        queries: int | None = None,
        steps: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        least: float = 0.0,
    ) -> DecoderOutput:
        """Find the objects of one scene.

        Args:
            features: Voxel features before the encoder's head. Shape (V, C).
            head_weight: The head. Shape (D, C).
            head_bias: Its bias (D,), or None.
            positions: Mean position of each voxel's points, metres. Shape (V, 3).
            queries: Queries; None for the configured number. Never more than voxels.
            steps: Whether predictions after the earlier steps are wanted (auxiliary losses).
            generator: Draws the first query and, in training, the attended voxels.
            dtype: Dtype of what is done per voxel; None for that of the features. Queries stay in float32.
            least: Queries that are objects with a lower probability in the end are left out of the final prediction.

        Returns:
            The objects; none for a scene without voxels.

        Raises:
            ValueError: If the head does not fit the decoder.
        """
        if head_weight.shape[0] != self.config.text_width:
            raise ValueError(
                f"the mask decoder reads a text space of {self.config.text_width}, but the encoder's has {head_weight.shape[0]}: "
                "use the decoder that was trained with this encoder"
            )
        wanted = queries or (self.config.queries if self.training else self.config.test_queries)
        first = int(torch.randint(max(len(positions), 1), (1,), generator=generator)) if self.training else 0
        start = farthest_points(positions.detach().cpu().numpy(), wanted, first)
        rows = torch.from_numpy(start).to(features.device)
        found, kept = self._decode(
            features, head_weight, head_bias, positions, rows, generator, dtype or features.dtype, least, steps
        )
        return DecoderOutput(found[-1], found[:-1], start[kept.cpu().numpy()])

    def _decode(
        self,
        features: Tensor,
        head_weight: Tensor,
        head_bias: Tensor | None,
        positions: Tensor,
        start: Tensor,
        generator: torch.Generator | None,
        dtype: torch.dtype,
        least: float,
        steps: bool,
    ) -> tuple[list[Prediction], Tensor]:
        """Predictions of queries that start at some voxels (Q,), before each step if wanted; who is in the last one."""
        mask_features = _folded(self.decoder_proj, head_weight, head_bias, features).to(dtype)
        if not len(start):
            return [self._predict(features.new_zeros(0, self.config.hidden), mask_features, None)], start
        memory = _folded(cast(nn.Linear, self.linear[0]), head_weight, head_bias, features).to(dtype)
        encoded = self.pos_enc(positions, positions.min(0).values, positions.max(0).values)
        place = self.query_proj(encoded[start])
        cross = cast(CrossAttention, self.cross_attention[0])
        keys, values = cross.keys_and_values(memory, encoded.to(dtype))  # the same in every step
        windows = _Windows.of(positions, start) if self.config.window else None
        content = torch.zeros_like(place)
        found: list[Prediction] = []
        kept = torch.arange(len(start), device=start.device)
        for step in range(self.config.iterations):
            if steps:
                found.append(self._predict(content, mask_features, windows))
                allowed = found[-1].mask_logits.detach() >= 0
            else:
                allowed = self._allowed(content, mask_features, windows)
            content = self._step(content, place, allowed, keys, values, generator)
            if least > 0 and step == self.config.iterations - 1:  # most masks of a usual scene need not be made
                kept = kept[self.class_head(self.decoder_norm(content)).softmax(1)[:, 0] >= least]
                content, windows = content[kept], None if windows is None else windows.of_queries(kept)
        found.append(self._predict(content, mask_features, windows))
        return found, kept

    def _step(
        self, content: Tensor, place: Tensor, allowed: Tensor, keys: Tensor, values: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """One pass through the layers; each query attends where it is allowed to (Q, V)."""
        if self.training and keys.shape[1] > self.config.max_keys:
            drawn = torch.randperm(keys.shape[1], generator=generator)[: self.config.max_keys].to(keys.device)
            allowed, keys, values = allowed[:, drawn], keys[:, drawn], values[:, drawn]
        blind = ~allowed.any(1)
        if blind.any():  # who may see nothing may see everything
            allowed[blind] = True
        content = self.cross_attention[0](content, place, keys, values, allowed)
        content = self.self_attention[0](content, place)
        return self.ffn[0](content)

    @torch.no_grad()
    def _allowed(self, content: Tensor, mask_features: Tensor, windows: _Windows | None) -> Tensor:
        """Where the masks are positive, (Q, V), without whole masks; in memory one voxel's queries stand side by side."""
        content = self.decoder_norm(content)
        asked = self.mask_head(content).to(mask_features.dtype).T
        coefficients = None if windows is None else self.window(content, windows.start).T
        allowed = torch.empty(len(mask_features), asked.shape[1], dtype=torch.bool, device=content.device)

        def mark(start: int, stop: int) -> None:
            masks = (mask_features[start:stop] @ asked).float()
            if windows is not None and coefficients is not None:
                masks = torch.addmm(masks, windows.terms[start:stop], coefficients)
            torch.ge(masks, 0, out=allowed[start:stop])

        if allowed.device.type == "cpu":
            for_each_chunk(len(allowed), _PIECE, mark)
        else:
            mark(0, len(allowed))
        return allowed.T

    def _predict(self, content: Tensor, mask_features: Tensor, windows: _Windows | None) -> Prediction:
        content = self.decoder_norm(content)
        masks = self.mask_head(content).to(mask_features.dtype) @ mask_features.T
        masks = masks.float() if windows is None else self._windowed(masks, content, windows)
        return Prediction(self.class_head(content), masks, self.clip_head(content))

    def _windowed(self, masks: Tensor, content: Tensor, windows: _Windows) -> Tensor:
        """Masks (Q, V) and windows added up in float32: far from the centre the terms are large and nearly cancel."""
        return (self.window(content, windows.start) @ windows.terms.T).add_(masks)


def _folded(layer: nn.Linear, head_weight: Tensor, head_bias: Tensor | None, features: Tensor) -> Tensor:
    """``layer(head(features))`` without the features in text space between them."""
    weight = layer.weight @ head_weight.to(layer.weight.dtype)
    bias = layer.bias if head_bias is None else layer.bias + layer.weight @ head_bias.to(layer.weight.dtype)
    return nn.functional.linear(features.to(weight.dtype), weight, bias)
