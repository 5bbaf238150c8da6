"""Class-agnostic objects of an encoded map, with what is needed to ask them anything later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mosaic3d_core.query.components import connected_components
from mosaic3d_core.query.linkage import linked_parts

if TYPE_CHECKING:
    from mosaic3d_core.models.mask_decoder import MaskDecoder
    from mosaic3d_core.models.mask_decoder.decoder import Prediction
    from mosaic3d_core.models.scene_encoder import FeatureMap


_LONGEST_REACH = 4  # voxels; gaps up to this are counted along the axes, which is quicker, longer ones are distances


@dataclass(frozen=True, eq=False)
class Proposal:
    """Something that may be an object.

    Attributes:
        cells: Rows of the encoder voxels that belong to it, ascending. Shape (M,), int64.
        quality: How sure the source is that this is one whole object, in [0, 1].
        feature: Mean feature before the head. Shape (C,), float32.
        embedding: Its place in text space as the decoder sees it, unit length (D,); None where the source has none.
    """

    cells: NDArray[np.int64]
    quality: float
    feature: NDArray[np.float32]
    embedding: NDArray[np.float32] | None = None


class ProposalSource(Protocol):
    """Finds the objects of an encoded map."""

    def propose(self, feature_map: FeatureMap) -> list[Proposal]:
        """Objects, best first."""
        ...


@dataclass(frozen=True)
class ProposalConfig:
    """What becomes of predicted masks.

    Attributes:
        min_quality: Less sure objects are dropped.
        min_cells: Smaller objects are dropped, encoder voxels.
        max_gap_m: Parts of a mask farther apart than this become objects of their own; 0 leaves masks whole. Published: 0.95.
        max_overlap: Of two objects that overlap more (intersection over union) the less sure one is dropped; 1 keeps all, as
            published.

    Raises:
        ValueError: If a value is out of its range.
    """

    min_quality: float = 0.1
    min_cells: int = 8
    max_gap_m: float = 0.25
    max_overlap: float = 0.5

    def __post_init__(self) -> None:
        for name in ("min_quality", "max_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} of proposals must be in [0, 1], got {getattr(self, name)}")
        if self.min_cells < 1 or self.max_gap_m < 0:
            raise ValueError(f"min_cells >= 1 and max_gap_m >= 0, got {self.min_cells} and {self.max_gap_m}")


class DecoderProposals:
    """Proposals of a mask decoder.

    Args:
        decoder: The decoder, in evaluation mode.
        config: What becomes of its masks.
        queries: Queries per map; None for the decoder's own number.
        dtype: Dtype of what is done per voxel; None for float32.
    """

    def __init__(
        self,
        decoder: MaskDecoder,
        config: ProposalConfig | None = None,
        queries: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.decoder, self.config, self.queries, self.dtype = decoder, config or ProposalConfig(), queries, dtype

    def propose(self, feature_map: FeatureMap) -> list[Proposal]:
        """Objects of a map, best first; an empty map has none."""
        positions = mean_positions(feature_map)
        device = next(self.decoder.parameters()).device
        head = feature_map.head
        with torch.inference_mode():
            output = self.decoder(
                torch.from_numpy(feature_map.features).to(device),
                torch.from_numpy(head.weight).to(device),
                None if head.bias is None else torch.from_numpy(head.bias).to(device),
                torch.from_numpy(positions).to(device),
                queries=self.queries,
                dtype=self.dtype,
                least=self.config.min_quality,
            )
        return proposals_of(output.final, feature_map, self.config)


def mean_positions(feature_map: FeatureMap) -> NDArray[np.float32]:
    """Mean position of each encoder voxel's map voxels, metres. Shape (V, 3)."""
    owner, count = feature_map.voxel_of_point, len(feature_map.cells)
    points = feature_map.snapshot.centroids
    sums = np.stack([np.bincount(owner, points[:, k], count) for k in range(3)], 1)
    return (sums / np.maximum(np.bincount(owner, minlength=count), 1)[:, None]).astype(np.float32)


def proposals_of(prediction: Prediction, feature_map: FeatureMap, config: ProposalConfig) -> list[Proposal]:
    """Objects from predicted masks: split where they fall apart, weeded of what is small, unsure or there twice.

    The quality of an object is the probability that its query is one, times the mean probability of the mask within it.
    """
    certain = prediction.object_logits.float().softmax(1)[:, 0].cpu().numpy()
    logits = prediction.mask_logits.float().cpu().numpy()
    embeddings = torch.nn.functional.normalize(prediction.embeddings.float(), dim=1).cpu().numpy()
    found = []
    for query in range(len(certain)):
        if not certain[query] >= config.min_quality:
            continue
        for cells in _parts(np.flatnonzero(logits[query] > 0), feature_map, config):
            if len(cells) < config.min_cells:
                continue
            quality = float(certain[query] * (1 / (1 + np.exp(-logits[query, cells]))).mean())
            if quality >= config.min_quality:
                found.append(Proposal(cells, quality, feature_map.features[cells].mean(0), embeddings[query]))
    found.sort(key=lambda one: -one.quality)
    return distinct(found, config.max_overlap, len(feature_map.cells))


def _parts(cells: NDArray[np.int64], feature_map: FeatureMap, config: ProposalConfig) -> list[NDArray[np.int64]]:
    if config.max_gap_m == 0:
        return [cells]
    gap = config.max_gap_m / feature_map.cell_size_m
    if round(gap) <= _LONGEST_REACH:
        number, count = connected_components(feature_map.cells[cells], reach=max(round(gap), 1))
    else:
        number, count = linked_parts(feature_map.cells[cells], gap)
    return [cells[number == k] for k in range(count)]


def distinct(found: Sequence[Proposal], max_overlap: float, voxels: int, max_inside: float = 1.0) -> list[Proposal]:
    """Proposals without those that overlap an earlier one too much.

    Args:
        found: Proposals, best first.
        max_overlap: Largest intersection over union of two that are kept; 1 keeps all.
        voxels: Encoder voxels of the map.
        max_inside: Largest share of the smaller one of two that both have, if both are kept; 1 for no such limit.
    """
    if max_overlap >= 1 and max_inside >= 1:
        return list(found)
    kept: list[Proposal] = []
    inside = np.zeros(voxels, bool)
    for one in found:
        inside[one.cells] = True
        shared = np.array([inside[other.cells].sum() for other in kept], np.int64)
        sizes = np.array([len(other.cells) for other in kept], np.int64)
        inside[one.cells] = False
        overlap = shared / (len(one.cells) + sizes - shared)
        if (overlap <= max_overlap).all() and (shared <= max_inside * np.minimum(sizes, len(one.cells))).all():
            kept.append(one)
    return kept
