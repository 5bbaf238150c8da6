"""Hand-held camera paths through a room."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from mosaic3d_core.data.synthetic.scene import RoomScene


def look_rotation(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """World-from-camera rotation (3, 3) of an optical frame: x right, y down, z forward, in a world with z up.

    It looks along `yaw` (from +x, counter-clockwise) and `pitch` (positive up), rolled about the view axis; radians.
    """
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * right + s * down, -s * right + c * down, forward], axis=1)


def handheld_trajectory(scene: RoomScene, frames: int, rng: np.random.Generator, turns: float = 2.0) -> NDArray[np.float64]:
    """Camera-to-world poses of a person who walks through the free floor and scans the room.

    Args:
        scene: The room.
        frames: Number of poses, >= 1.
        rng: Source of randomness.
        turns: How many times the view sweeps around: the first turns look down at the furniture, the last one up.

    Returns:
        Poses (frames, 4, 4) float64, optical convention.
    """
    cells = scene.free_cells
    if len(cells) == 0:
        cells = scene.bounds[:, :2].mean(0, keepdims=True)
    time = np.linspace(0, 1, frames)
    phase = rng.uniform(0, 2 * np.pi)
    sweep = phase + time * turns * 2 * np.pi
    path = _standpoints(scene, cells, sweep, 0.62 + 0.3 * np.sin(time * 11 + phase))
    yaw = sweep + 0.3 * np.sin(time * 17 + phase)
    pitch = (
        np.interp(time, [0, 0.5, 0.7, 1.0], [-0.48, -0.36, -0.12, 0.16])
        + 0.12 * np.sin(time * 23 + phase)
        + rng.normal(0, 0.01, frames)
    )
    roll = 0.04 * np.sin(time * 13 + phase) + rng.normal(0, 0.006, frames)
    height = rng.uniform(1.25, 1.6) + 0.12 * np.sin(time * 7 + phase)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    for i in range(frames):
        poses[i, :3, :3] = look_rotation(yaw[i], pitch[i], roll[i])
        poses[i, :2, 3] = path[i]
        poses[i, 2, 3] = height[i]
    return poses


def _standpoints(
    scene: RoomScene, cells: NDArray[np.float64], yaw: NDArray[np.float64], reach: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where to stand to look along `yaw` (F,) across the room: behind its middle, on free floor, smoothly connected; (F, 2)."""
    centre = scene.bounds[:, :2].mean(0)
    half = (scene.bounds[1, :2] - scene.bounds[0, :2]) / 2
    heading = np.stack([np.cos(yaw), np.sin(yaw)], 1)
    wanted = centre - heading * half * reach[:, None]
    tree = cKDTree(cells)
    snapped = cells[tree.query(wanted)[1]]
    smooth = gaussian_filter1d(snapped, max(1.0, len(yaw) / 40), axis=0, mode="nearest")
    distance, nearest = tree.query(smooth)
    # smoothing may cut through furniture: go round it instead
    return np.where((distance > 0.2)[:, None], cells[nearest], smooth)
