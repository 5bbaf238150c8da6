"""The three folder styles: 7-Scenes, Open3D/ICL (trajectory.log) and TUM RGB-D."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.sequences.base import FolderSequence, FrameFiles
from mosaic3d_core.data.sequences.calibration import Calibration, load_calibration
from mosaic3d_core.errors import FrameError, SequenceError
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.geometry.transforms import check_transform, interpolate_pose, pose_to_matrix

_log = logging.getLogger(__name__)
_IMAGES = (".jpg", ".jpeg", ".png")
#: PrimeSense defaults, used where a folder brings no calibration.
_PRIMESENSE = PinholeCamera(525.0, 525.0, 319.5, 239.5, 640, 480)


class PoseChecks:
    """Collects valid poses and counts the others."""

    def __init__(self) -> None:
        self.skipped: dict[str, int] = {}

    def check(self, matrix: NDArray[np.float64], name: str) -> NDArray[np.float64] | None:
        """The pose, or None if it is none, which is counted."""
        try:
            return check_transform(matrix, name)
        except FrameError as error:
            self.skip(error.reason, f"{name}: {error}")
            return None

    def skip(self, reason: str, text: str) -> None:
        """Count a frame that cannot be used."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        _log.warning("frame skipped: %s", text)


def finish(
    name: str, kind: str, files: list[FrameFiles], calibration: Calibration, poses: PoseChecks, align: bool
) -> FolderSequence:
    """The sequence of some frames; SequenceError with what was skipped if there are none."""
    if not files:
        reasons = ", ".join(f"{n} {r}" for r, n in poses.skipped.items()) or "no poses"
        raise SequenceError(f"{name} ({kind}) has no frame with colour, depth and a usable pose ({reasons})")
    sequence = FolderSequence(name, files, calibration, align)
    sequence.skipped.update(poses.skipped)
    return sequence


def read_matrix(path: Path) -> NDArray[np.float64]:
    """A 4x4 matrix from a text file; NaN throughout where it is none."""
    try:
        values = np.array(path.read_text(encoding="utf-8").split(), np.float64)
    except ValueError:
        values = np.zeros(0)
    return values.reshape(4, 4) if values.size == 16 else np.full((4, 4), np.nan)


def open_sevenscenes(folder: Path, rate_hz: float = 30.0, align_gravity: bool = True) -> FolderSequence:
    """Folder with `frame-NNNNNN.{color.png|jpg, depth.png, pose.txt}` and optionally `camera-intrinsics.txt` (depth K)."""
    depth_camera = PinholeCamera(585.0, 585.0, 320.0, 240.0, 640, 480)
    intrinsics = folder / "camera-intrinsics.txt"
    if intrinsics.exists():
        k = np.array(intrinsics.read_text(encoding="utf-8").split(), np.float64)
        depth_camera = PinholeCamera.from_matrix(k, 640, 480)
    calibration = load_calibration(folder, Calibration(depth_camera, invalid=[0, 65535]))
    files, poses = [], PoseChecks()
    for depth in sorted(folder.glob("frame-*.depth.png")):
        stem = depth.name.removesuffix(".depth.png")
        color = next((p for p in (folder / f"{stem}.color{s}" for s in _IMAGES) if p.exists()), None)
        pose_file = folder / f"{stem}.pose.txt"
        if color is None or not pose_file.exists():
            poses.skip(
                "missing_color" if color is None else "no_pose", f"{stem} lacks its {'colour image' if color is None else 'pose'}"
            )
            continue
        pose = poses.check(read_matrix(pose_file), pose_file.name)
        if pose is not None:
            number = int("".join(c for c in stem if c.isdigit()) or 0)
            files.append(FrameFiles(color, depth, pose, int(number / rate_hz * 1e9)))
    return finish(folder.name, "7-Scenes style", files, calibration, poses, align_gravity)


def numbered_images(folder: Path) -> dict[int, Path]:
    """Images called by their number."""
    return {int(p.stem): p for p in sorted(folder.iterdir()) if p.suffix.lower() in _IMAGES and p.stem.isdigit()}


def open_open3d_log(folder: Path, rate_hz: float = 30.0, align_gravity: bool = True) -> FolderSequence:
    """Folder with `color/` (or `image/`), `depth/` and `trajectory.log`; block k of the log belongs to frame k."""
    log = next(p for p in (folder / "trajectory.log", folder / "test_scene" / "trajectory.log") if p.exists())
    try:
        values = np.array(log.read_text(encoding="utf-8").split(), np.float64)
    except ValueError as error:
        raise SequenceError(f"{log} holds something that is not a number ({error})") from error
    if values.size == 0 or values.size % 19:
        raise SequenceError(f"{log} is truncated: expected blocks of 3 + 16 numbers, found {values.size} numbers")
    matrices = values.reshape(-1, 19)[:, 3:].reshape(-1, 4, 4)
    colors = numbered_images(folder / "color" if (folder / "color").is_dir() else folder / "image")
    depths = numbered_images(folder / "depth")
    files, poses = [], PoseChecks()
    for number in sorted(set(colors) & set(depths)):
        if number >= len(matrices):
            poses.skip("no_pose", f"frame {number} has no block in {log.name}")
            continue
        pose = poses.check(matrices[number], f"{log.name} block {number}")
        if pose is not None:
            files.append(FrameFiles(colors[number], depths[number], pose, int(number / rate_hz * 1e9)))
    return finish(folder.name, "Open3D style", files, load_calibration(folder, Calibration(_PRIMESENSE)), poses, align_gravity)


def _tum_table(path: Path, columns: int) -> list[tuple[float, list[str]]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            try:
                rows.append((float(words[0]), words[1 : 1 + columns]))
            except ValueError as error:
                raise SequenceError(f"{path}: line '{line[:60]}' does not start with a time stamp") from error
            if len(rows[-1][1]) < columns:
                raise SequenceError(f"{path} is truncated: line '{line[:60]}' should have {columns + 1} values")
    return sorted(rows)


def open_tum(
    folder: Path, max_difference_s: float = 0.03, max_pose_gap_s: float = 0.2, align_gravity: bool = True
) -> FolderSequence:
    """Folder with `rgb.txt`, `depth.txt`, `groundtruth.txt`: depth paired with the nearest colour, pose interpolated.

    Args:
        folder: The sequence.
        max_difference_s: Largest time between a depth and a colour image.
        max_pose_gap_s: Largest time between the poses around a depth image.
        align_gravity: Turn the world so that z points up, when gravity is known.
    """
    colors, depths = _tum_table(folder / "rgb.txt", 1), _tum_table(folder / "depth.txt", 1)
    truth = _tum_table(folder / "groundtruth.txt", 7)
    poses = PoseChecks()
    times, matrices = [], []
    for time, words in truth:
        try:
            numbers = [float(w) for w in words]
            matrices.append(pose_to_matrix(numbers[:3], numbers[3:]))
            times.append(time)
        except (ValueError, FrameError) as error:
            poses.skip(getattr(error, "reason", "nan_pose"), f"groundtruth.txt at {time}: {error}")
    color_times, pose_times = np.array([t for t, _ in colors]), np.array(times)
    files = []
    for time, (name,) in depths:
        nearest = int(np.argmin(np.abs(color_times - time))) if len(color_times) else -1
        if nearest < 0 or abs(color_times[nearest] - time) > max_difference_s:
            poses.skip("missing_color", f"{name} has no colour image within {max_difference_s} s")
            continue
        after = int(np.searchsorted(pose_times, time))
        if after == 0 and len(pose_times) and abs(pose_times[0] - time) < 1e-6:
            after = 1
        if after == 0 or after >= len(pose_times) or pose_times[after] - pose_times[after - 1] > max_pose_gap_s:
            poses.skip("no_pose", f"{name} lies outside the poses of groundtruth.txt")
            continue
        t0, t1 = pose_times[after - 1], pose_times[after]
        pose = interpolate_pose(matrices[after - 1], matrices[after], float((time - t0) / max(t1 - t0, 1e-9)))
        files.append(FrameFiles(folder / colors[nearest][1][0], folder / name, pose, int(time * 1e9)))
    default = Calibration(_PRIMESENSE, depth_unit_m=1 / 5000)
    return finish(folder.name, "TUM style", files, load_calibration(folder, default), poses, align_gravity)
