"""The sparse tensor: features on the cells of a coordinate set."""

from __future__ import annotations

import torch
from torch import Tensor

from mosaic3d_core.sparse.coordinates import CoordinateSet


class SparseTensor:
    """Features of occupied cells. Tensors made from one another share the coordinate set and its kernel maps.

    Args:
        features: One row per cell. Shape (N, C), a floating dtype; N may be 0.
        indices: Cells as (batch, x, y, z). Shape (N, 4), int32, or the coordinate set of another tensor.
        condition: Anything that layers need to know of the whole batch; tensors made from this one carry it along.

    Raises:
        TypeError: If a dtype is wrong.
        ValueError: If shapes or devices disagree.
    """

    def __init__(self, features: Tensor, indices: Tensor | CoordinateSet, condition: object = None) -> None:
        self.coordinates = indices if isinstance(indices, CoordinateSet) else CoordinateSet(indices)
        if not isinstance(features, Tensor) or not features.is_floating_point():
            found = features.dtype if isinstance(features, Tensor) else type(features).__name__
            raise TypeError(f"features must be a floating-point tensor (N, C), got {found}")
        if features.ndim != 2 or len(features) != len(self.coordinates):
            raise ValueError(f"features must have shape ({len(self.coordinates)}, C), got {tuple(features.shape)}")
        if features.device != self.coordinates.device:
            raise ValueError(f"features are on {features.device} but indices on {self.coordinates.device}")
        self.features = features
        self.condition = condition

    def __len__(self) -> int:
        return len(self.coordinates)

    @property
    def indices(self) -> Tensor:
        """Cells as (batch, x, y, z). Shape (N, 4), int32."""
        return self.coordinates.indices

    @property
    def device(self) -> torch.device:
        """Device of features and indices."""
        return self.features.device

    def replace(self, features: Tensor, coordinates: CoordinateSet | None = None) -> SparseTensor:
        """Other features (N, C') on the same cells, or on those of another level."""
        return SparseTensor(features, self.coordinates if coordinates is None else coordinates, self.condition)

    def to(self, device: torch.device | str) -> SparseTensor:
        """The tensor on another device; kernel maps are made anew there."""
        if torch.device(device) == self.device:
            return self
        return SparseTensor(self.features.to(device), self.indices.to(device), self.condition)
