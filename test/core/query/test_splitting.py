"""Walls that meet: every voxel goes to the wall that is nearest."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from mosaic3d_core.query.splitting import split_touching

VOXEL_M = 0.04


def corner(seed: int, clutter: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two walls at a corner (points, normals) with clutter in front that faces nowhere; and which wall, -1 for clutter."""
    rng = np.random.default_rng(seed)
    along, height = np.meshgrid(np.arange(0.02, 2.5, VOXEL_M), np.arange(0.02, 2.3, VOXEL_M), indexing="ij")
    flat = np.zeros(along.size)
    one = np.stack([along.ravel(), flat, height.ravel()], 1)
    other = np.stack([flat, along.ravel() + VOXEL_M, height.ravel()], 1)
    rest = rng.uniform([0.1, 0.1, 0.0], [2.4, 2.4, 2.3], (clutter, 3))
    normals = np.zeros((2 * len(one) + clutter, 3))
    normals[: len(one), 1] = normals[len(one) : 2 * len(one), 0] = 1.0
    wall = np.repeat([0, 1, -1], [len(one), len(other), clutter])
    return np.concatenate([one, other, rest]), normals, wall


def test_what_belongs_to_no_wall_goes_to_the_nearer_one():
    for seed in range(5):
        points, normals, wall = corner(seed, 1500)
        parts = split_touching(
            np.floor(points / VOXEL_M).astype(np.int32),
            points,
            normals,
            np.full_like(points, 128),
            np.array([0, 0, 1.0]),
            VOXEL_M,
        )
        assert len(parts) == 2
        assert sorted(np.concatenate(parts)) == list(range(len(points)))
        side = np.full(len(points), -1)
        for number, rows in enumerate(parts):
            side[rows] = number
        assert len(set(side[wall == 0])) == len(set(side[wall == 1])) == 1
        to_each = np.stack([cdist(points[wall < 0], points[wall == k]).min(1) for k in (0, 1)], 1)
        nearer = np.array([side[wall == 0][0], side[wall == 1][0]])[to_each.argmin(1)]
        unclear = np.abs(to_each[:, 0] - to_each[:, 1]) < 0.24  # cells of 8 cm, and their diagonal
        assert (side[wall < 0] == nearer)[~unclear].all()
        assert (~unclear).sum() > 500
