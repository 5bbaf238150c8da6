"""Rigid transforms as 4x4 matrices; `T_a_b` maps points of frame b into frame a. Quaternions are (x, y, z, w)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation, Slerp

from mosaic3d_core.errors import FrameError

#: Largest deviation of R R^T from the identity that is taken for rounding; recorded poses reach 1e-3.
_RIGID_TOLERANCE = 5e-3


def check_transform(T: ArrayLike, name: str) -> NDArray[np.float64]:
    """The transform as (4, 4) float64 with an exactly orthonormal rotation.

    Raises:
        FrameError: For another shape, NaN or Inf, or a matrix that is not rigid; names `name`.
    """
    matrix = np.asarray(T, np.float64)
    if matrix.shape != (4, 4):
        raise FrameError(f"{name} must be a 4x4 matrix, got shape {matrix.shape}", "bad_pose")
    if not np.isfinite(matrix).all():
        raise FrameError(f"{name} has NaN or infinite values", "nan_pose")
    rotation = matrix[:3, :3]
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if error > _RIGID_TOLERANCE or np.linalg.det(rotation) < 0 or not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6):
        raise FrameError(
            f"{name} is not a rigid transform (R R^T differs from the identity by {error:.3g}, "
            f"det {np.linalg.det(rotation):.3g}): expected a rotation and a translation with last row 0 0 0 1",
            "non_rigid_pose",
        )
    u, _, vt = np.linalg.svd(rotation)
    out = matrix.copy()
    out[:3, :3] = u @ vt
    return out


def invert_transform(T: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a rigid transform."""
    out = np.eye(4)
    out[:3, :3] = T[:3, :3].T
    out[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return out


def transform_points(T: NDArray[np.float64], points: NDArray) -> NDArray:
    """Points (..., 3) mapped by T, in the dtype of `points`."""
    return (points @ T[:3, :3].T + T[:3, 3]).astype(points.dtype)


def quaternion_xyzw_to_matrix(quaternion: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) of a quaternion (4,), normalised first.

    Raises:
        FrameError: For a quaternion that is zero or not finite.
    """
    q = np.asarray(quaternion, np.float64)
    length = float(np.linalg.norm(q))
    if q.shape != (4,) or not np.isfinite(length):
        raise FrameError(f"quaternion must be 4 finite numbers x y z w, got {q.tolist()}", "nan_pose")
    if length < 1e-6:
        raise FrameError("quaternion is all zero: the pose was never set", "non_rigid_pose")
    return Rotation.from_quat(q / length).as_matrix()


def matrix_to_quaternion_xyzw(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit quaternion (4,) with w >= 0 of a rotation matrix (3, 3)."""
    q = Rotation.from_matrix(rotation[:3, :3]).as_quat()
    return -q if q[3] < 0 else q


def pose_to_matrix(position: ArrayLike, quaternion_xyzw: ArrayLike) -> NDArray[np.float64]:
    """Transform (4, 4) of a position (3,) in metres and an orientation."""
    out = np.eye(4)
    out[:3, :3] = quaternion_xyzw_to_matrix(quaternion_xyzw)
    out[:3, 3] = np.asarray(position, np.float64)
    return check_transform(out, "pose")


def interpolate_pose(T0: NDArray[np.float64], T1: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Pose between T0 (alpha 0) and T1 (alpha 1): straight line for the position, slerp for the rotation."""
    out = np.eye(4)
    rotations = Rotation.from_matrix(np.stack([T0[:3, :3], T1[:3, :3]]))
    out[:3, :3] = Slerp([0.0, 1.0], rotations)(float(np.clip(alpha, 0, 1))).as_matrix()
    out[:3, 3] = (1 - alpha) * T0[:3, 3] + alpha * T1[:3, 3]
    return out


def rotation_aligning(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The smallest rotation (3, 3) that turns direction `source` (3,) into direction `target` (3,)."""
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis, cosine = np.cross(a, b), float(a @ b)
    if np.linalg.norm(axis) < 1e-12:
        if cosine > 0:
            return np.eye(3)
        side = np.cross(a, [1.0, 0, 0] if abs(a[0]) < 0.9 else [0, 1.0, 0])
        return Rotation.from_rotvec(np.pi * side / np.linalg.norm(side)).as_matrix()
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.arctan2(np.linalg.norm(axis), cosine)).as_matrix()
