"""Scenes on the published voxels, in the form in which the encoder hands out its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.models.official_input import VOXEL_SIZE_M, centre, official_batch
from mosaic3d_core.models.scene_encoder import FeatureMap, SceneEncoder


def check_voxelization(voxelization: str, encoder: SceneEncoder) -> None:
    """Refuse an unknown voxelisation, and the published one for an encoder that takes more than colour (Mosaic3DError)."""
    if voxelization not in ("anchored", "official"):
        raise Mosaic3DError(f'voxelization must be "anchored" or "official", got "{voxelization}"')
    if voxelization == "official" and encoder.input_channels != ("color",):
        raise Mosaic3DError(
            f"the published voxelisation feeds colour only, but this checkpoint takes {', '.join(encoder.input_channels)}: "
            "use voxelization=anchored"
        )


def encode_published(
    encoder: SceneEncoder, coords: Sequence[NDArray[np.floating]], colors: Sequence[NDArray[np.integer]]
) -> list[FeatureMap]:
    """Encode the scenes of one batch as the published evaluation does.

    Args:
        encoder: An encoder of colours.
        coords: Points of each scene, metres. Each (N, 3).
        colors: Their colours, 0 to 255. Each (N, 3).

    Returns:
        One map per scene, of which every point is a row.
    """
    centred = [centre(c) for c in coords]
    batch = official_batch(centred, colors)
    features = encoder.encode_cells(batch.indices, batch.features)
    found = []
    for coord, color, start, end in zip(centred, colors, batch.offsets[:-1], batch.offsets[1:], strict=True):
        owner = batch.voxel_of_point[start:end]
        first, last = int(owner.min()), int(owner.max()) + 1  # cells of a batch are sorted by scene
        found.append(
            FeatureMap(
                _points_as_map(coord, color),
                features[first:last],
                encoder.head.norms(features[first:last]),
                owner - first,
                batch.indices[first:last, 1:],
                VOXEL_SIZE_M,
                encoder.head,
                encoder.text_encoder_name,
                encoder.logit_scale,
                0.0,
            )
        )
    return found


def _points_as_map(coord: NDArray[np.float32], color: NDArray[np.integer]) -> MapSnapshot:
    """Points as the rows of a map, none merged."""
    n = len(coord)
    cells = np.floor(coord / VOXEL_SIZE_M).astype(np.int32)
    normals, weights = np.zeros((n, 3), np.float32), np.ones(n, np.float32)
    return MapSnapshot(1, 0, VOXEL_SIZE_M, cells, coord, color.astype(np.float32), normals, weights, np.zeros(n, np.int64))
