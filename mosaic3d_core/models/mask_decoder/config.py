"""Sizes of the mask decoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from mosaic3d_core.models.stored_config import config_of


@dataclass(frozen=True)
class MaskDecoderConfig:
    """Architecture of a mask decoder; the defaults are the published ones.

    Attributes:
        text_width: Width of the text space, which is also that of the voxel features.
        hidden: Width inside.
        feedforward: Width of the feed-forward layers.
        heads: Attention heads.
        iterations: Times that the layers are applied, with the same weights each time.
        queries: Queries per scene in training.
        test_queries: Queries per scene otherwise.
        fourier_scale: Standard deviation of the frequencies of the position encoding.
        max_keys: Most voxels that a query attends to in training, drawn at random; all of them otherwise.
        window: Whether each query also says where its object lies: a Gaussian window around a centre near its start is added to
            the mask's logits. Not published: masks there are products of features, and two equal chairs have equal ones.

    Raises:
        ValueError: If a value is not positive, or the widths do not fit the heads.
    """

    text_width: int = 768
    hidden: int = 128
    feedforward: int = 1024
    heads: int = 8
    iterations: int = 3
    queries: int = 100
    test_queries: int = 150
    fourier_scale: float = 1.0
    max_keys: int = 51_200
    window: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name != "window" and getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} of the mask decoder must be positive, got {getattr(self, field.name)}")
        if self.hidden % self.heads or self.hidden % 2:
            raise ValueError(f"hidden width {self.hidden} must be even and a multiple of the {self.heads} heads")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MaskDecoderConfig:
        """The reverse of :meth:`to_dict`; ValueError names unknown keys."""
        return config_of(cls, "mask decoder", values)
