"""ScanNet's recordings as its own reader exports them: one folder each for colour, depth, poses and intrinsics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mosaic3d_core.data.sequences.base import FolderSequence, FrameFiles
from mosaic3d_core.data.sequences.calibration import Calibration, load_calibration
from mosaic3d_core.data.sequences.folders import PoseChecks, finish, numbered_images, read_matrix
from mosaic3d_core.errors import FrameError, SequenceError
from mosaic3d_core.geometry.camera import PinholeCamera


def is_scannet_export(folder: Path) -> bool:
    """Whether a folder looks like one."""
    return all((folder / name).is_dir() for name in ("color", "depth", "pose", "intrinsic"))


def open_scannet_export(folder: Path, rate_hz: float = 30.0, align_gravity: bool = True) -> FolderSequence:
    """Folder with `color/N.jpg`, `depth/N.png` (mm), `pose/N.txt` and `intrinsic/intrinsic_{color,depth}.txt`.

    Poses that ScanNet could not estimate hold infinities; they are skipped and counted. Its world has z up, so nothing is turned.

    Raises:
        SequenceError: If intrinsics are missing or damaged, or no frame can be used.
    """
    colors, depths = numbered_images(folder / "color"), numbered_images(folder / "depth")
    files, poses = [], PoseChecks()
    for number in sorted(depths):
        pose_file = folder / "pose" / f"{number}.txt"
        if number not in colors or not pose_file.exists():
            lacks = "pose" if number in colors else "colour image"
            poses.skip("no_pose" if number in colors else "missing_color", f"frame {number} lacks its {lacks}")
            continue
        pose = poses.check(read_matrix(pose_file), f"pose/{pose_file.name}")
        if pose is not None:
            files.append(FrameFiles(colors[number], depths[number], pose, int(number / rate_hz * 1e9)))
    default = None
    if files and not (folder / "calibration.json").exists():
        depth_camera = _camera(folder, "depth", files[0].depth)
        color_camera = _camera(folder, "color", files[0].color)
        default = Calibration(depth_camera, color_camera, invalid=[0, 65535], gravity_up=np.array([0.0, 0.0, 1.0]))
    calibration = load_calibration(folder, default or Calibration(PinholeCamera(1, 1, 0, 0, 1, 1)))
    return finish(folder.name, "ScanNet style", files, calibration, poses, align_gravity)


def _camera(folder: Path, what: str, image: Path) -> PinholeCamera:
    path = folder / "intrinsic" / f"intrinsic_{what}.txt"
    if not path.is_file():
        raise SequenceError(f"{path} is missing: a ScanNet export has intrinsic_color.txt and intrinsic_depth.txt there")
    try:
        with Image.open(image) as opened:
            width, height = opened.size
        return PinholeCamera.from_matrix(read_matrix(path)[:3, :3], width, height)
    except (OSError, SyntaxError) as error:
        raise SequenceError(f"{image} is no image ({error}): copy it again") from error
    except FrameError as error:
        raise SequenceError(f"{path} must be a 4x4 matrix: {error}") from error
