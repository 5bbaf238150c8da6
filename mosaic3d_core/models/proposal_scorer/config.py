"""Sizes of the proposal scorer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from mosaic3d_core.models.stored_config import config_of


@dataclass(frozen=True)
class ScorerConfig:
    """Architecture of a proposal scorer, and what it looks at.

    Attributes:
        features: Width of the encoder's features before its head.
        widths: Widths of the layers that every voxel passes.
        hidden: Widths of the layers after pooling.
        inside: Most voxels of a proposal that are looked at.
        around: Most voxels around it that are looked at.
        margin_m: How far around it they are looked for, metres, along each axis.

    Raises:
        ValueError: If a value is not positive.
    """

    features: int = 48
    widths: tuple[int, ...] = (96, 128, 192)
    hidden: tuple[int, ...] = (128, 64)
    inside: int = 256
    around: int = 128
    margin_m: float = 0.15

    def __post_init__(self) -> None:
        for name in ("widths", "hidden"):
            value = tuple(getattr(self, name))
            object.__setattr__(self, name, value)
            if not value or min(value) <= 0:
                raise ValueError(f"{name} of the proposal scorer must be positive, got {value}")
        for name in ("features", "inside", "around", "margin_m"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} of the proposal scorer must be positive, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ScorerConfig:
        """The reverse of :meth:`to_dict`; ValueError names unknown keys."""
        return config_of(cls, "proposal scorer", values)
