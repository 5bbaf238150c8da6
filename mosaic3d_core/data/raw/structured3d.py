"""Structured3D's rendered rooms as scene folders, one per room.

A room is `scene_XXXXX/2D_rendering/ROOM/` with `perspective/full/VIEW/` (`rgb_rawlight.png`, `depth.png`, `semantic.png`,
`instance.png`, `camera_pose.txt`) and `panorama/` (`full/` with the same images except `instance.png`, and `camera_xyz.txt`);
either may be absent. Depth is in millimetres, 0 none. `camera_pose.txt` holds the position in millimetres, the viewing direction,
the up direction and half the angles of view in radians. z is up. `semantic.png` holds NYU40 ids as 8-bit pixels (the colours that
viewers show are its palette), `instance.png` 16-bit ids with 65535 for the background.

The pixels of all views become points. The renderer blends the depths of object and background along edges, so a pixel whose depth
is more than 5 % off one of its four neighbours is dropped. Of the points in a cell of 2 cm the one nearest to its centre is kept,
one of a perspective view if there is one, as only those know their instance.

Some things are uncertain. The authors do not say how depth is measured; here it lies along the viewing direction in perspective
views and along the ray in panoramas, as other tools read it. The middle of a panorama looks along +y, as in the authors' drawing
code, while their text says the negative y axis. Rays go through the middle of pixels. A depth of 65535 is taken for none. Rooms
are named scene_XXXXX_room_ROOM, as in the authors' list of errata; it is an assumption that published split files do so too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.caption_files import SceneFolderError
from mosaic3d_core.data.raw.common import numbers, read_text, write_scene
from mosaic3d_core.data.sequences.base import as_color, read_image
from mosaic3d_core.visualization.ply import PointCloud

#: Edge of the cells of which one point each is kept.
CELL_M = 0.02
_MM = 0.001
_MAX_JUMP = 0.05  # of the depth
_FARTHEST_M = 10_000.0
_BACKGROUND = _TOO_FAR = 65535
_NYU40 = 40


@dataclass(frozen=True, eq=False)
class _Points:
    """Points of one or more views.

    Attributes:
        coord: World points, metres. Shape (N, 3), float64.
        color: (N, 3) uint8.
        segment: NYU40 id - 1, -1 none. Shape (N,), int16.
        instance: -1 none. Shape (N,), int32.
        panorama: Whether a point comes from a panorama. Shape (N,), bool.
    """

    coord: NDArray[np.float64]
    color: NDArray[np.uint8]
    segment: NDArray[np.int16]
    instance: NDArray[np.int32]
    panorama: NDArray[np.bool_]

    def __getitem__(self, index: NDArray[np.int64]) -> _Points:
        return _Points(*(getattr(self, name)[index] for name in _FIELDS))


_FIELDS = ("coord", "color", "segment", "instance", "panorama")


def find_rooms(raw: Path) -> dict[str, Path]:
    """Folders of the rooms of scenes below `raw` or `raw/Structured3D`, by scene name; sorted."""
    rooms = (p for place in (raw, raw / "Structured3D") for p in place.glob("scene_*/2D_rendering/*") if p.is_dir())
    return dict(sorted((f"{p.parent.parent.name}_room_{p.name}", p) for p in rooms))


def convert_room(room: Path, out: Path) -> Counter[str]:
    """Write one room as a scene folder.

    Args:
        room: Folder of the room.
        out: Scene folder to write: points, colours, `segment` (NYU40 id - 1, -1 none) and `instance` (the id in `instance.png`,
            -1 for the background and for points that only a panorama saw).

    Returns:
        Nothing: every label is a class.

    Raises:
        Mosaic3DError: If a file is missing or damaged or images differ in size, or no view has a point.
        OSError: If it cannot be written.
    """
    views = sorted(p for p in (room / "perspective" / "full").glob("*") if p.is_dir())
    parts = [_thinned(_perspective(view)) for view in views]
    if (room / "panorama" / "full").is_dir():
        parts.append(_thinned(_panorama(room / "panorama")))
    if not parts:
        raise SceneFolderError(f"{room} has no views: expected perspective/full/VIEW or panorama/full")
    points = _thinned(_Points(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS)))
    if len(points.coord) == 0:
        raise SceneFolderError(f"{room}: no depth.png of its {len(parts)} views has a reading")
    cloud = PointCloud(points.coord.astype(np.float32), points.color.astype(np.float32))
    write_scene(out, cloud, {"segment": points.segment, "instance": points.instance})
    return Counter()


def _perspective(view: Path) -> _Points:
    pose = view / "camera_pose.txt"
    values = _numbers(pose, 11, "position, viewing direction, up direction and two half angles of view")
    position, forward, up, half = values[:3] * _MM, values[3:6], values[6:9], values[9:11]
    right = np.cross(forward, up)
    if not (np.linalg.norm(right) > 1e-6 and (half > 0).all() and (half < np.pi / 2).all()):
        raise SceneFolderError(f"{pose} has parallel viewing and up directions or half angles that are not between 0 and pi/2")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    depth = _depth(view)
    rows, columns = _valid(depth, wraps=False)
    height, width = depth.shape
    # Share of the half image from its middle to the middle of the pixel, times the tangent of the half angle.
    x = ((columns + 0.5) / width * 2 - 1) * np.tan(half[0])
    y = ((rows + 0.5) / height * 2 - 1) * np.tan(half[1])
    rays = forward + x[:, None] * right + y[:, None] * np.cross(forward, right)
    ids = _labels(view / "instance.png", depth.shape)[rows, columns].astype(np.int32)
    instance = np.where(ids == _BACKGROUND, -1, ids).astype(np.int32)
    return _points(view, position + rays * depth[rows, columns, None], rows, columns, depth.shape, instance)


def _panorama(folder: Path) -> _Points:
    position = _numbers(folder / "camera_xyz.txt", 3, "the position") * _MM
    view = folder / "full"
    depth = _depth(view)
    rows, columns = _valid(depth, wraps=True)
    height, width = depth.shape
    azimuth = ((columns + 0.5) / width * 2 - 1) * np.pi  # from +y to +x
    elevation = (0.5 - (rows + 0.5) / height) * np.pi
    level = np.cos(elevation)
    rays = np.stack([level * np.sin(azimuth), level * np.cos(azimuth), np.sin(elevation)], axis=1)
    return _points(view, position + rays * depth[rows, columns, None], rows, columns, depth.shape, None)


def _points(
    view: Path,
    coord: NDArray[np.float64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    size: tuple[int, ...],
    instance: NDArray[np.int32] | None,
) -> _Points:
    """Adds colours and classes of the pixels; no instances means that the view is a panorama."""
    if np.abs(coord).max(initial=0) > _FARTHEST_M:
        raise SceneFolderError(f"{view} has points more than {_FARTHEST_M / 1000:.0f} km from the origin: check its camera")
    path = view / "rgb_rawlight.png"
    color = as_color(read_image(path), path)
    _check_size(path, color.shape[:2], size)
    semantic = _labels(view / "semantic.png", size)
    if semantic.max(initial=0) > _NYU40:
        raise SceneFolderError(f"{view / 'semantic.png'} has the value {semantic.max()}, expected NYU40 ids of 0 to {_NYU40}")
    segment = (semantic[rows, columns].astype(np.int16) - 1).astype(np.int16)
    panorama = np.full(len(coord), instance is None)
    none = np.full(len(coord), -1, np.int32)
    return _Points(coord, color[rows, columns], segment, none if instance is None else instance, panorama)


def _depth(view: Path) -> NDArray[np.float64]:
    """Depth in metres, 0 where unknown. Shape (H, W)."""
    pixels = read_image(view / "depth.png")
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu" or pixels.dtype.itemsize < 2:
        raise SceneFolderError(f"{view / 'depth.png'} has {pixels.shape} {pixels.dtype} pixels, expected a 16-bit image")
    return np.where(pixels == _TOO_FAR, 0, pixels) * _MM


def _labels(path: Path, size: tuple[int, ...]) -> NDArray[np.integer]:
    """Ids of the pixels of a grey or palette image. Shape (H, W)."""
    pixels = read_image(path)
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu":
        raise SceneFolderError(f"{path} has {pixels.shape} {pixels.dtype} pixels, expected one id per pixel (grey or palette)")
    _check_size(path, pixels.shape, size)
    return pixels


def _check_size(path: Path, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise SceneFolderError(
            f"{path} is {found[1]}x{found[0]} pixels, expected {expected[1]}x{expected[0]} as in depth.png beside it"
        )


def _numbers(path: Path, count: int, meaning: str) -> NDArray[np.float64]:
    """The first `count` numbers of a text file."""
    words = read_text(path).split()
    if len(words) < count:
        raise SceneFolderError(f"{path} has {len(words)} numbers, expected {count}: {meaning}")
    return numbers(words[:count], f"{path}: {meaning}", (count,))


def _valid(depth: NDArray[np.float64], wraps: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of pixels with a depth that lie on no depth edge.

    Args:
        depth: Metres. Shape (H, W).
        wraps: Whether the first and the last column are neighbours.
    """
    edge = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        following = np.roll(depth, -1, axis)
        jump = np.abs(following - depth) > _MAX_JUMP * np.minimum(following, depth)
        jump &= (following > 0) & (depth > 0)  # a neighbour without a reading says nothing
        if axis == 0 or not wraps:
            jump[(slice(None),) * axis + (-1,)] = False
        edge |= jump | np.roll(jump, 1, axis)
    rows, columns = np.nonzero((depth > 0) & ~edge)
    return rows, columns


def _thinned(points: _Points) -> _Points:
    """One point per cell; thinning parts and then all of them gives what thinning all at once gives."""
    scaled = points.coord / CELL_M
    cells = np.floor(scaled).astype(np.int64)
    distance = ((scaled - cells - 0.5) ** 2).sum(axis=1)  # at most 0.75, so that a panorama's points come after the others
    key = ((cells + (1 << 20)) << np.array([42, 21, 0])).sum(axis=1)  # 2^20 cells to each side
    order = np.lexsort((distance + points.panorama, key))
    first = np.ones(len(order), bool)
    first[1:] = np.diff(key[order]) != 0
    return points[np.sort(order[first])]
