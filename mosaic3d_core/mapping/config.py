"""Settings of the voxel map."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

FIXED_SETTINGS = frozenset({"voxel_size_m", "block_size", "max_voxels"})
"""Settings that hold for the life of a map."""


@dataclass(frozen=True)
class VoxelMapConfig:
    """Settings of fusion. Lengths in metres, angles in degrees.

    Attributes:
        voxel_size_m: Edge of a voxel.
        min_depth_m: Nearer depth is ignored.
        max_depth_m: Farther depth is ignored.
        max_grazing_angle_deg: Surfaces seen at a larger angle from their normal are ignored.
        edge_threshold: A pixel whose depth differs from a neighbour's by more than this share of its depth mixes two surfaces
            and is ignored.
        pixel_stride: Use every n-th pixel in both directions.
        max_weight: Cap of a voxel's weight in pixels: the mean keeps following changes and never loses precision.
        min_views: Frames that must have seen a voxel before it appears in a snapshot (the first frames are exempt).
        carve_margin_m: A voxel must lie this much in front of the measured depth, plus 2 % of the depth squared per metre, to
            count as seen through.
        carve_misses: Times a voxel must be seen through, without being hit in between, before it is removed; 0 = never.
        carve_every: Each voxel is checked for being seen through in one of this many frames (round robin).
        max_voxels: Hard budget. When it is reached, the blocks unseen for the longest time go first; a block in view never does.
        block_size: Edge of a block in voxels, for `MapDelta.dirty_blocks` and eviction.

    Raises:
        ValueError: For a value out of range, naming it.
    """

    voxel_size_m: float = 0.02
    min_depth_m: float = 0.25
    max_depth_m: float = 5.0
    max_grazing_angle_deg: float = 80.0
    edge_threshold: float = 0.04
    pixel_stride: int = 2
    max_weight: float = 2000.0
    min_views: int = 2
    carve_margin_m: float = 0.06
    carve_misses: int = 3
    carve_every: int = 4
    max_voxels: int = 2_000_000
    block_size: int = 16

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not math.isfinite(value):
                raise ValueError(f"map setting {f.name} must be finite, got {value}")
        for name in ("voxel_size_m", "min_depth_m", "edge_threshold", "max_weight", "carve_margin_m"):
            if getattr(self, name) <= 0:
                raise ValueError(f"map setting {name} must be > 0, got {getattr(self, name)}")
        for name in ("pixel_stride", "min_views", "carve_every", "max_voxels", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"map setting {name} must be >= 1, got {getattr(self, name)}")
        if self.carve_misses < 0:
            raise ValueError(f"map setting carve_misses must be >= 0 (0 turns carving off), got {self.carve_misses}")
        if self.max_depth_m <= self.min_depth_m:
            raise ValueError(f"map setting max_depth_m ({self.max_depth_m}) must be above min_depth_m ({self.min_depth_m})")
        if not 0 < self.max_grazing_angle_deg <= 90:
            raise ValueError(f"map setting max_grazing_angle_deg must be in (0, 90], got {self.max_grazing_angle_deg}")
