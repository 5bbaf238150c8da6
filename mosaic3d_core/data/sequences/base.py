"""What a sequence is, and the part that all image folders share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mosaic3d_core.data.sequences.calibration import Calibration
from mosaic3d_core.errors import FrameError, SequenceError
from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.transforms import check_transform, rotation_aligning

_log = logging.getLogger(__name__)


class RGBDSequence(Protocol):
    """Posed RGB-D frames in order.

    Attributes:
        name: For messages and file names.
        gravity_up: Direction against gravity in the world of the delivered poses, (3,), or None when unknown.
        skipped: Frames left out so far, by reason.
    """

    name: str
    gravity_up: NDArray[np.float64] | None
    skipped: dict[str, int]

    def __len__(self) -> int:
        """Number of frames listed; damaged ones are found when they are read."""
        ...

    def __iter__(self) -> Iterator[RGBDFrame]:
        """The readable frames in order; the others are counted in `skipped`."""
        ...

    def __getitem__(self, index: int) -> RGBDFrame:
        """One frame; raises `FrameError` when it is damaged."""
        ...


@dataclass(frozen=True, eq=False)
class FrameFiles:
    """Where one frame lies: colour and depth image, camera-to-world pose (4, 4), stamp."""

    color: Path
    depth: Path
    T_world_camera: NDArray[np.float64]
    stamp_ns: int


def read_image(path: Path) -> NDArray:
    """Decode an image completely.

    Raises:
        FrameError: Naming the file, when it is missing, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return np.array(image)
    except FileNotFoundError as error:
        raise FrameError(f"{path} is missing", "missing_image") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(f"{path} is truncated or not an image ({error}): copy it again", "bad_image") from error


def as_color(pixels: NDArray, path: Path) -> NDArray[np.uint8]:
    """An 8-bit RGB image (H, W, 3) from grey, RGB or RGBA pixels."""
    if pixels.ndim == 2 and pixels.dtype == np.uint8:
        return np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim == 3 and pixels.dtype == np.uint8 and pixels.shape[2] >= 3:
        return np.ascontiguousarray(pixels[..., :3])
    raise FrameError(f"{path} has {pixels.shape} {pixels.dtype} pixels, expected 8-bit RGB", "bad_encoding")


def as_depth(pixels: NDArray, calibration: Calibration, path: Path) -> NDArray[np.float32]:
    """Depth in metres (H, W) float32 from 16- or 32-bit integer pixels (0 where invalid)."""
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu":
        raise FrameError(f"{path} has {pixels.shape} {pixels.dtype} pixels, expected a 16-bit depth image", "bad_encoding")
    invalid = np.isin(pixels, calibration.invalid)
    return np.where(invalid, 0, pixels * calibration.depth_unit_m).astype(np.float32)


class FolderSequence:
    """Frames listed by a reader, decoded when asked for.

    Args:
        name: Name of the sequence.
        files: The frames in order.
        calibration: Cameras, depth unit and gravity.
        align_gravity: Turn the world so that z points up, when gravity is known.

    Raises:
        SequenceError: When there is no frame.
    """

    def __init__(self, name: str, files: list[FrameFiles], calibration: Calibration, align_gravity: bool = True) -> None:
        if not files:
            raise SequenceError(f"{name} has no frame with colour, depth and pose")
        self.name, self.files, self.calibration = name, files, calibration
        self.skipped: dict[str, int] = {}
        self._turn = np.eye(4)
        self.gravity_up = calibration.gravity_up
        if calibration.gravity_up is not None and align_gravity:
            self._turn[:3, :3] = rotation_aligning(calibration.gravity_up, (0.0, 0.0, 1.0))
            self.gravity_up = np.array([0.0, 0.0, 1.0])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> RGBDFrame:
        if not 0 <= index < len(self.files):
            raise IndexError(f"frame {index} of a sequence of {len(self.files)}")
        item, c = self.files[index], self.calibration
        color = as_color(read_image(item.color), item.color)
        depth = as_depth(read_image(item.depth), c, item.depth)
        pose = self._turn @ check_transform(item.T_world_camera, f"pose of {item.depth.name}")
        try:
            return RGBDFrame(item.stamp_ns, color, depth, c.depth_camera, pose, c.color_camera, c.T_color_depth)
        except FrameError as error:
            raise FrameError(f"{item.depth}: {error}", error.reason) from error

    def __iter__(self) -> Iterator[RGBDFrame]:
        used = 0
        last: FrameError | None = None
        for index in range(len(self.files)):
            try:
                frame = self[index]
            except FrameError as error:
                self.skipped[error.reason] = self.skipped.get(error.reason, 0) + 1
                _log.warning("frame %d of %s is skipped: %s", index, self.name, error)
                last = error
                continue
            used += 1
            yield frame
        if not used:
            raise SequenceError(f"none of the {len(self.files)} frames of {self.name} can be used; the last one: {last}")
