"""What the parameters say about each camera."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.geometry.transforms import pose_to_matrix

_POSE_NUMBERS = 7
_NAME = re.compile(r"[A-Za-z]\w*(/[A-Za-z]\w*)*", re.ASCII)


@dataclass(frozen=True)
class CameraSettings:
    """One camera.

    Attributes:
        name: Its name; empty where there is only one without a name.
        T_color_depth: Fixed transform (4, 4) from depth to colour camera; None = from TF.
        static_pose: Fixed pose (4, 4) of the depth camera in the map; None = from the pose source.
    """

    name: str
    T_color_depth: NDArray[np.float64] | None = None
    static_pose: NDArray[np.float64] | None = None

    @property
    def prefix(self) -> str:
        """Start of the names of its topics."""
        return f"{self.name}/" if self.name else ""


def camera_settings(values: Mapping[str, Any]) -> list[CameraSettings]:
    """Settings of all cameras.

    Args:
        values: The node's parameters.

    Raises:
        ValueError: One sentence that names the parameter.
    """
    names = [name.strip("/") for name in values["cameras"] if name.strip("/")] or [""]
    for name in names:
        if name and not _NAME.fullmatch(name):
            raise ValueError(
                f"Parameter 'cameras' has the name '{name[:80]}', which cannot be part of a topic: use letters,"
                " digits and _, with / between parts."
            )
    if len(set(names)) != len(names):
        raise ValueError(f"Parameter 'cameras' names a camera twice: {', '.join(names)}.")
    source = values["pose_source"]
    if source == "pose" and len(names) > 1 and not values["pose_child_frame"]:
        raise ValueError(
            "Parameter 'pose_child_frame' must name the frame whose pose comes on topic 'pose' (base_link, for example), because"
            " several cameras cannot all be at that pose."
        )
    between = _poses(values["T_color_depth"], len(names), "T_color_depth")
    fixed = _poses(values["static_pose"], len(names), "static_pose")
    if source == "static" and fixed is None:
        raise ValueError("Parameter 'static_pose' must be given with pose_source = static: x y z qx qy qz qw, for each camera.")
    return [
        CameraSettings(name, between[k] if between else None, fixed[k] if fixed and source == "static" else None)
        for k, name in enumerate(names)
    ]


def _poses(numbers: Sequence[float], cameras: int, name: str) -> list[NDArray[np.float64]] | None:
    """One pose per camera; one for all may be given. None where not set."""
    values = list(numbers)
    if len(values) <= 1:  # [0.0]: a parameter cannot be an empty list
        return None
    if len(values) not in (_POSE_NUMBERS, _POSE_NUMBERS * cameras):
        raise ValueError(
            f"Parameter '{name}' has {len(values)} numbers; expected {_POSE_NUMBERS} (x y z qx qy qz qw), or as many for each of"
            f" the {cameras} cameras."
        )
    poses = []
    for start in range(0, len(values), _POSE_NUMBERS):
        pose = values[start : start + _POSE_NUMBERS]
        if not all(map(math.isfinite, pose)) or abs(math.hypot(*pose[3:]) - 1.0) > 1e-2:
            raise ValueError(f"Parameter '{name}': the last four of {pose} must be a quaternion of length 1, all must be finite.")
        poses.append(pose_to_matrix(pose[:3], pose[3:]))
    return poses * cameras if len(poses) == 1 else poses
