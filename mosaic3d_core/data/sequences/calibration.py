"""Cameras of a sequence folder, from its `calibration.json` or a format's defaults.

Either one camera for both images::

    {"camera": {"fx", "fy", "cx", "cy", "width", "height", "depth_unit", "invalid"}, "color_registered_to_depth": true}

or two, for colour that is not registered to depth::

    {"depth": {..., "unit", "invalid"}, "color": {..., "translation_of_depth_origin_in_color_frame_m": [x, y, z]}}

("T_color_depth", a 4x4 matrix, may stand in place of the translation.) `gravity_direction_in_world` points down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError, SequenceError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.transforms import check_transform

_UNITS_M = {"millimetre": 0.001, "millimeter": 0.001, "mm": 0.001, "metre": 1.0, "meter": 1.0, "m": 1.0}


@dataclass(frozen=True, eq=False)
class Calibration:
    """Cameras and depth coding of a sequence.

    Attributes:
        depth_camera: Intrinsics of the depth images.
        color_camera: Intrinsics of the colour images; None when registered to depth.
        T_color_depth: (4, 4) from the depth to the colour camera, or None.
        depth_unit_m: Metres per depth step.
        invalid: Depth values that mean "none".
        gravity_up: Direction against gravity in the world of the stored poses, (3,), or None.
    """

    depth_camera: PinholeCamera
    color_camera: PinholeCamera | None = None
    T_color_depth: NDArray[np.float64] | None = None
    depth_unit_m: float = 0.001
    invalid: list[int] = field(default_factory=lambda: [0])
    gravity_up: NDArray[np.float64] | None = None


def load_calibration(folder: Path, default: Calibration) -> Calibration:
    """The folder's `calibration.json`, or `default` when there is none.

    Raises:
        SequenceError: When the file is not what the module describes; says which key.
    """
    path = folder / "calibration.json"
    if not path.exists():
        return default
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return _parse(values)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SequenceError(f"{path} is not valid JSON ({error})") from error
    except KeyError as error:
        raise SequenceError(
            f"{path} lacks {error}: expected 'camera' or 'depth' and 'color' with fx, fy, cx, cy, width, height"
        ) from error
    except (TypeError, ValueError, FrameError) as error:
        raise SequenceError(f"{path}: {error}") from error


def _camera(values: dict[str, Any]) -> PinholeCamera:
    fx, fy, cx, cy = (float(values[k]) for k in ("fx", "fy", "cx", "cy"))
    return PinholeCamera(fx, fy, cx, cy, int(values["width"]), int(values["height"]))


def _parse(values: dict[str, Any]) -> Calibration:
    depth = values["camera"] if "camera" in values else values["depth"]
    unit = depth.get("unit", depth.get("depth_unit", "millimetre"))
    unit_m = float(unit) if isinstance(unit, int | float) else _UNITS_M.get(str(unit))
    if unit_m is None or not unit_m > 0:
        raise ValueError(f"depth unit {unit!r} is unknown: expected one of {', '.join(_UNITS_M)} or metres per step")
    color_camera, transform = None, None
    if "color" in values and not values.get("color_registered_to_depth", False):
        color_camera, transform = _camera(values["color"]), _extrinsic(values["color"])
    up = None
    if "gravity_direction_in_world" in values:
        down = np.asarray(values["gravity_direction_in_world"], np.float64)
        if down.shape != (3,) or not 0.5 < float(np.linalg.norm(down)) < 2:
            raise ValueError(f"gravity_direction_in_world must be a direction of 3 numbers, got {down.tolist()}")
        up = -down / np.linalg.norm(down)
    return Calibration(_camera(depth), color_camera, transform, unit_m, [int(v) for v in depth.get("invalid", [0])], up)


def _extrinsic(color: dict[str, Any]) -> NDArray[np.float64]:
    if "T_color_depth" in color:
        return check_transform(color["T_color_depth"], "color.T_color_depth")
    out = np.eye(4)
    out[:3, 3] = np.asarray(color.get("translation_of_depth_origin_in_color_frame_m", [0, 0, 0]), np.float64)
    return check_transform(out, "color.translation_of_depth_origin_in_color_frame_m")
