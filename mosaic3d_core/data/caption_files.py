"""Masks with captions beside a point cloud, in both forms of the Mosaic3D layout.

`point_indices.<source>.npz` holds `packed` indices into the points and how to cut them; `captions.<source>.npz` holds `packed`
strings and `lengths`.

- per frame: `outer_lengths` masks of each frame, `inner_lengths` points of each mask; one caption per mask, `lengths` per frame;
- gathered: `lengths` points of each mask; any number of captions per mask, `lengths` per mask.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.ragged import pack_nested, pack_ragged, unpack_nested, unpack_ragged
from mosaic3d_core.errors import Mosaic3DError


class SceneFolderError(Mosaic3DError):
    """A scene folder that cannot be read: which file, what was expected."""


@dataclass(frozen=True)
class MaskCaptions:
    """Masks of a scene with their captions.

    Attributes:
        masks: Point indices of each mask.
        captions: Captions of each mask.
        frame: Frame of each mask in the per-frame form, else None. Shape (M,).
    """

    masks: list[NDArray[np.int64]]
    captions: list[tuple[str, ...]]
    frame: NDArray[np.int64] | None


def caption_sources(folder: Path) -> tuple[str, ...]:
    """Sources that a scene has captions of, sorted."""
    return tuple(sorted(p.name[len("captions.") : -len(".npz")] for p in folder.glob("captions.*.npz")))


def write_captions(folder: Path, source: str, masks: Sequence[NDArray[np.integer]], captions: Sequence[tuple[str, ...]]) -> None:
    """Write masks and their captions in the gathered form; the captions last, so a folder with them has both."""
    packed, lengths = pack_ragged([np.asarray(mask, np.int64) for mask in masks])
    texts = np.array([c for group in captions for c in group], dtype=np.str_)
    counts = np.array([len(group) for group in captions], np.int64)
    indices, texts_file = _files(folder, source)
    write_atomically(indices, lambda p: np.savez_compressed(p, packed=packed.astype(np.int32), lengths=lengths))
    write_atomically(texts_file, lambda p: np.savez_compressed(p, packed=texts, lengths=counts))


def write_frame_captions(
    folder: Path, source: str, masks: Sequence[Sequence[NDArray[np.integer]]], captions: Sequence[Sequence[str]]
) -> None:
    """Write masks and one caption each, per frame; the captions last.

    Args:
        folder: Scene folder.
        source: Name of the source.
        masks: Point indices of the masks of each frame.
        captions: Their captions.

    Raises:
        ValueError: If a frame has not one caption per mask.
    """
    if [len(frame) for frame in masks] != [len(frame) for frame in captions]:
        raise ValueError("every mask of every frame needs one caption")
    packed, outer, inner = pack_nested([[np.asarray(m, np.int64) for m in frame] for frame in masks])
    texts = np.array([text for frame in captions for text in frame], dtype=np.str_)
    indices, texts_file = _files(folder, source)
    values = packed.astype(np.int32)
    write_atomically(indices, lambda p: np.savez_compressed(p, packed=values, outer_lengths=outer, inner_lengths=inner))
    write_atomically(texts_file, lambda p: np.savez_compressed(p, packed=texts, lengths=outer))


def read_captions(folder: Path, source: str, points: int) -> MaskCaptions:
    """Read masks and captions of a source, in either form.

    Args:
        folder: Scene folder.
        source: Name of the source.
        points: Points of the scene.

    Raises:
        SceneFolderError: Naming the file, what it holds and what was expected.
    """
    indices_file, captions_file = _files(folder, source)
    captions = _npz(captions_file, ("packed", "lengths"))
    indices = _npz(indices_file, ("packed",))
    nested = "outer_lengths" in indices or "inner_lengths" in indices
    for key in ("outer_lengths", "inner_lengths") if nested else ("lengths",):
        if key not in indices:
            raise SceneFolderError(f"{indices_file} has no array '{key}', only {sorted(indices)}")
    packed = indices["packed"]
    if len(packed) and not (int(packed.min()) >= 0 and int(packed.max()) < points):
        raise SceneFolderError(f"{indices_file} points outside the {points} points of coord.npy")
    try:
        groups = unpack_ragged(captions["packed"], captions["lengths"])
    except ValueError as error:
        raise SceneFolderError(f"{captions_file}: {error}") from error
    try:
        if nested:
            frames = unpack_nested(packed.astype(np.int64), indices["outer_lengths"], indices["inner_lengths"])
            masks = [mask for frame in frames for mask in frame]
            counts = np.array([len(frame) for frame in frames], np.int64)
        else:
            masks, counts = unpack_ragged(packed.astype(np.int64), indices["lengths"]), None
    except ValueError as error:
        raise SceneFolderError(f"{indices_file}: {error}") from error
    if counts is None:
        if len(masks) != len(groups):
            raise SceneFolderError(f"{folder}: {len(masks)} masks in {indices_file.name} but {len(groups)} caption groups")
        return MaskCaptions(masks, [tuple(str(t) for t in group) for group in groups], None)
    of_frame = [len(group) for group in groups]
    if of_frame != counts.tolist():
        raise SceneFolderError(
            f"{folder}: {indices_file.name} has {counts.sum()} masks in {len(counts)} frames, but {captions_file.name} has "
            f"{sum(of_frame)} captions in {len(of_frame)}: every mask of every frame needs one caption"
        )
    texts: list[tuple[str, ...]] = [(str(t),) for group in groups for t in group]
    return MaskCaptions(masks, texts, np.repeat(np.arange(len(counts)), counts))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary file in the same folder, which then takes the place of ``path``."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)  # mkstemp makes files private
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _files(folder: Path, source: str) -> tuple[Path, Path]:
    return folder / f"point_indices.{source}.npz", folder / f"captions.{source}.npz"


def _npz(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray]:
    try:
        with np.load(path, allow_pickle=False) as data:
            found = {key: data[key] for key in data.files}
    except FileNotFoundError as error:
        known = ", ".join(caption_sources(path.parent)) or "none"
        raise SceneFolderError(f"{path} is missing: check the caption source name (the scene has {known})") from error
    except Exception as error:  # zipfile and numpy raise many kinds for a damaged archive
        raise SceneFolderError(f"{path} is damaged or not an .npz archive ({error}): write it again") from error
    for key in keys:
        if key not in found:
            raise SceneFolderError(f"{path} has no array '{key}', only {sorted(found)}")
    return found
