"""Opening a sequence by path: which style is it?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mosaic3d_core.data.sequences.base import RGBDSequence
from mosaic3d_core.data.sequences.folders import open_open3d_log, open_sevenscenes, open_tum
from mosaic3d_core.data.sequences.scannet_export import is_scannet_export, open_scannet_export
from mosaic3d_core.errors import SequenceError

_STYLES = (
    "a 7-Scenes folder (frame-*.depth.png with pose.txt), an Open3D folder (color/, depth/, trajectory.log), "
    "a TUM folder (rgb.txt, depth.txt, groundtruth.txt), a ScanNet export (color/, depth/, pose/, intrinsic/), "
    "a ROS 2 bag (.mcap, .db3 or its folder), or room:SEED"
)


def open_sequence(path: str | Path, **options: Any) -> RGBDSequence:
    """Open a posed RGB-D sequence.

    Args:
        path: A folder in one of four styles, a ROS 2 bag, or "room:SEED" / "room:SEED:SPLIT" for a generated room.
        **options: Passed to the reader (`align_gravity`, topic names of a bag, frames of a room, ...).

    Raises:
        SequenceError: When there is nothing, or nothing readable, at the path.
    """
    text = str(path)
    if text.startswith("room:"):
        return _open_room(text, options)
    source = Path(text)
    if not source.exists():
        raise SequenceError(f"sequence {source} does not exist: expected {_STYLES}")
    if source.suffix in (".mcap", ".db3") or (source / "metadata.yaml").exists() or _holds_bag(source):
        from mosaic3d_core.data.sequences.rosbag import open_bag

        return open_bag(source, **options)
    if not source.is_dir():
        raise SequenceError(f"{source} is a file of an unknown kind: expected {_STYLES}")
    return _open_folder(source, options)


def reader_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments of `open_sequence` from texts ``NAME=VALUE``; numbers and true/false become such, empty texts nothing.

    Raises:
        ValueError: For a text of another form.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        if not pair:
            continue
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"Sequence option '{pair}' is not of the form NAME=VALUE, for example frames=60.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _open_folder(source: Path, options: dict[str, Any]) -> RGBDSequence:
    if next(source.glob("frame-*.depth.png"), None) is not None:
        return open_sevenscenes(source, **options)
    if (source / "depth").is_dir() and any(
        p.exists() for p in (source / "trajectory.log", source / "test_scene" / "trajectory.log")
    ):
        return open_open3d_log(source, **options)
    if is_scannet_export(source):
        return open_scannet_export(source, **options)
    if (source / "depth.txt").exists() and (source / "rgb.txt").exists():
        if not (source / "groundtruth.txt").exists():
            raise SequenceError(f"{source} is a TUM sequence without poses: groundtruth.txt is missing")
        return open_tum(source, **options)
    if next(source.iterdir(), None) is None:
        raise SequenceError(f"{source} is empty: expected {_STYLES}")
    if (source / "depth").is_dir():
        raise SequenceError(
            f"{source} has depth images but no poses: trajectory.log (Open3D) or groundtruth.txt (TUM) is missing"
        )
    raise SequenceError(f"{source} is not a known kind of sequence: expected {_STYLES}")


def _holds_bag(source: Path) -> bool:
    return source.is_dir() and any(next(source.glob(f"*{s}"), None) is not None for s in (".mcap", ".db3"))


def _open_room(text: str, options: dict[str, Any]) -> RGBDSequence:
    from mosaic3d_core.data.synthetic import open_room

    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[1].isdigit():
        raise SequenceError(
            f"'{text}' is not a generated room: write room:SEED or room:SEED:SPLIT, for example room:7 or room:7:test"
        )
    options.pop("align_gravity", None)
    try:
        return open_room(int(parts[1]), parts[2] if len(parts) == 3 else "test", **options)
    except (ValueError, TypeError) as error:
        raise SequenceError(f"{text}: {error}") from error
