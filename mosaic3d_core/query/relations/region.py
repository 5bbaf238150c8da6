"""A box to look in that lies along the axes of any frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.geometry.transforms import invert_transform
from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.engine import Region, region_mask
from mosaic3d_core.query.grid import QueryGrid
from mosaic3d_core.query.instances import upright_box
from mosaic3d_core.query.results import DetectedObject


@dataclass(frozen=True, eq=False)
class RegionBox:
    """A box between two corners of a frame.

    Attributes:
        corners: Lowest and highest corner in the frame, metres.
        T_map_frame: Pose of the frame in the map (4, 4).

    Raises:
        QueryError: If the corners are malformed (see ``region_mask``).
    """

    corners: Region
    T_map_frame: NDArray[np.float64]

    def __post_init__(self) -> None:
        region_mask(np.zeros((0, 3)), self.corners)

    @property
    def is_straight(self) -> bool:
        """Whether the box lies along the map's axes too."""
        return bool((np.abs(self.T_map_frame[:3, :3]).max(axis=0) > 1.0 - 1e-12).all())

    def bounds(self) -> Region:
        """Lowest and highest corner in the map of the box, or around it where it is turned."""
        low, high = (np.asarray(corner, np.float64) for corner in self.corners)
        center, half = (low + high) / 2, (high - low) / 2
        middle = self.T_map_frame[:3, :3] @ center + self.T_map_frame[:3, 3]
        reach = np.abs(self.T_map_frame[:3, :3]) @ half
        return (middle - reach).tolist(), (middle + reach).tolist()

    def mask(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which map points (N, 3) lie in the box. Shape (N,), bool."""
        if self.is_straight:
            inside = region_mask(np.asarray(points), self.bounds())
        else:
            back = invert_transform(self.T_map_frame)
            inside = region_mask(np.asarray(points, np.float64) @ back[:3, :3].T + back[:3, 3], self.corners)
        assert inside is not None
        return inside

    def cut(self, found: list[DetectedObject], grid: QueryGrid, config: QueryConfig) -> list[DetectedObject]:
        """Objects with their voxels in the box only; what is too small then is left out.

        Args:
            found: Objects of the map, searched for within :meth:`bounds`.
            grid: The map.
            config: ``min_object_voxels`` is used.
        """
        if self.is_straight:
            return found
        kept = []
        for one in found:
            inside = self.mask(grid.snapshot.centroids[one.voxel_indices])
            rows = one.voxel_indices[inside]
            if len(rows) == len(inside):
                kept.append(one)
            elif len(rows) >= config.min_object_voxels:
                kept.append(replace(one, voxel_indices=rows, box=upright_box(grid, rows)))
        return kept
