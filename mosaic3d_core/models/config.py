"""Sizes of the SparseUNet family."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from mosaic3d_core.models.stored_config import config_of

_STAGES = 4


@dataclass(frozen=True)
class SparseUNetConfig:
    """Architecture of a SparseUNet: 4 stages down, 4 up.

    Attributes:
        name: Name of the variant, for messages and checkpoints.
        in_channels: Channels of the input features.
        out_channels: Width of the text space.
        base: Width of the stem.
        channels: Widths: encoder stages 0..3, then decoder stages 3..0 (deepest first).
        blocks: Residual blocks per stage, in the same order.
        momentum: Batch-norm momentum (the share of the newest batch). The published nets use 0.01; short
            trainings need more, such as 0.1, or the running statistics never arrive.
        block: "basic" or "bottleneck"; the latter gives four times the width of its stage.
        head_bias: Whether the head has a bias.
        conditions: Names of the datasets that a prompt-driven net knows, in the order of its embedding table; empty for
            plain nets. Bottleneck nets keep plain norms even then (as published).
        init: "trunc_normal" (std 0.02, as published) or "kaiming" (fan-in, for narrow nets trained for a
            short time).

    Raises:
        ValueError: If a width or count is not positive, the lists do not have 8 entries, or conditions repeat.
    """

    name: str = "narrow"
    in_channels: int = 3
    out_channels: int = 768
    base: int = 32
    channels: tuple[int, ...] = (32, 48, 64, 96, 96, 64, 48, 48)
    blocks: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 1, 1)
    momentum: float = 0.01
    block: str = "basic"
    head_bias: bool = False
    conditions: tuple[str, ...] = ()
    init: str = "trunc_normal"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(int(c) for c in self.channels))
        object.__setattr__(self, "blocks", tuple(int(b) for b in self.blocks))
        object.__setattr__(self, "conditions", tuple(str(name) for name in self.conditions))
        for field in ("channels", "blocks"):
            values = getattr(self, field)
            if len(values) != 2 * _STAGES or min(values) < 1:
                raise ValueError(f"{field} must be 8 positive numbers (4 encoder stages, 4 decoder stages), got {values}")
        for field in ("in_channels", "out_channels", "base"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if not 0.0 < self.momentum <= 1.0:
            raise ValueError(f"momentum must lie in (0, 1], got {self.momentum}")
        if self.block not in ("basic", "bottleneck"):
            raise ValueError(f'block must be "basic" or "bottleneck", got "{self.block}"')
        if len(set(self.conditions)) != len(self.conditions):
            raise ValueError(f"conditions must differ from each other, got {self.conditions}")
        if self.init not in ("trunc_normal", "kaiming"):
            raise ValueError(f'init must be "trunc_normal" or "kaiming", got "{self.init}"')

    @property
    def feature_channels(self) -> int:
        """Width of the features before the head."""
        return self.channels[-1] * (4 if self.block == "bottleneck" else 1)

    @property
    def prompt_driven_norms(self) -> bool:
        """Whether the norms depend on the condition."""
        return bool(self.conditions) and self.block == "basic"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SparseUNetConfig:
        """The reverse of :meth:`to_dict`.

        Raises:
            ValueError: If a key is unknown or a value impossible.
        """
        return config_of(cls, "architecture", values)


_SHALLOW = (32, 64, 128, 256, 128, 128, 96, 96)
_DEEP = (32, 64, 128, 256, 256, 128, 96, 96)

VARIANTS: dict[str, SparseUNetConfig] = {
    "spunet14a": SparseUNetConfig("spunet14a", channels=_SHALLOW),
    "spunet18a": SparseUNetConfig("spunet18a", channels=_SHALLOW, blocks=(2,) * 8),
    "spunet34c": SparseUNetConfig("spunet34c", channels=_DEEP, blocks=(2, 3, 4, 6, 2, 2, 2, 2)),
    "spunet50": SparseUNetConfig("spunet50", channels=_DEEP, blocks=(2, 3, 4, 6, 2, 2, 2, 2), block="bottleneck"),
    "spunet101": SparseUNetConfig("spunet101", channels=_DEEP, blocks=(2, 3, 4, 23, 2, 2, 2, 2), block="bottleneck"),
    "narrow": SparseUNetConfig("narrow", out_channels=384, momentum=0.1, init="kaiming"),
}
