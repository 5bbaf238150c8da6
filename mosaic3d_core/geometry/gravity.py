"""Which way is up when nobody says: cameras are held roughly upright, and floors and table tops share one normal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def estimate_up(
    T_world_cameras: NDArray[np.float64], normals: NDArray[np.float32] | None = None, max_tilt_rad: float = 0.7
) -> NDArray[np.float64]:
    """Unit vector against gravity in the world frame.

    The mean of the cameras' upward axes is the prior; the strongest direction of surface normals near it is the answer.

    Args:
        T_world_cameras: Camera poses, (F, 4, 4), optical convention (y down).
        normals: Surface normals (N, 3), 0 where unknown; None uses the prior alone.
        max_tilt_rad: How far the answer may lie from the prior.

    Returns:
        (3,) unit vector; the prior itself where no direction stands out.
    """
    prior = -np.asarray(T_world_cameras)[:, :3, 1].mean(0)
    prior = prior / max(float(np.linalg.norm(prior)), 1e-9)
    if normals is None:
        return prior
    known = normals[np.linalg.norm(normals, axis=1) > 0.5].astype(np.float64)
    facing = known @ prior
    near = known[np.abs(facing) > np.cos(max_tilt_rad)]
    near = near * np.sign(near @ prior)[:, None]
    if len(near) < 50:
        return prior
    step = max(1, len(near) // 2000)
    seeds = near[::step]
    best = seeds[int(np.argmax(((seeds @ near[:: max(1, len(near) // 5000)].T) > np.cos(0.12)).sum(1)))]
    for _ in range(5):
        cluster = near[near @ best > np.cos(0.15)]
        best = cluster.mean(0)
        best /= np.linalg.norm(best)
    return best
