"""Small map-like clouds and nets for the tests of the encoders."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mosaic3d_core.mapping.snapshot import MapSnapshot


def room_cells(side: int) -> torch.Tensor:
    """Floor, two walls and a box on the floor: cells (N, 4), int32, some negative."""
    span = np.arange(side)
    a, b = (grid.ravel() for grid in np.meshgrid(span, span, indexing="ij"))
    nothing = np.zeros_like(a)
    box = np.stack([a // 3 + side // 3, b // 3 + side // 3, nothing + side // 4], 1)
    cells = np.concatenate([np.stack(planes, 1) for planes in ((a, b, nothing), (a, nothing, b), (nothing, a, b))] + [box])
    cells = np.unique(cells, axis=0) - [side // 2, side // 4, 0]
    return torch.from_numpy(np.concatenate([np.zeros((len(cells), 1)), cells], 1)).int()


def room_snapshot(side: int = 40, voxel_size_m: float = 0.02, up=(0.0, 0.0, 1.0)) -> MapSnapshot:
    """The same cells as a map of ``voxel_size_m`` voxels with random colours; normals of the floor only."""
    cells = room_cells(side)[:, 1:].numpy()
    rng = np.random.default_rng(0)
    normals = np.zeros((len(cells), 3), np.float32)
    normals[cells[:, 2] == 0] = (0.0, 0.0, 1.0)
    return MapSnapshot(
        generation=7,
        stamp_ns=1,
        voxel_size_m=voxel_size_m,
        indices=cells,
        centroids=((cells + rng.uniform(0.1, 0.9, cells.shape)) * voxel_size_m).astype(np.float32),
        colors=rng.uniform(0.0, 255.0, cells.shape).astype(np.float32),
        normals=normals,
        weights=rng.uniform(1.0, 5.0, len(cells)).astype(np.float32),
        last_seen_ns=np.zeros(len(cells), np.int64),
        up=np.asarray(up, np.float64),
    )


def with_lively_norms(net: nn.Module) -> nn.Module:
    """The net in evaluation mode with batch norms that do something."""
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(0.0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0.0, 0.1, generator=generator)
    return net.eval()
