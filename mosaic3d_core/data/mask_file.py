"""Files of binary instance masks, the form in which proposals of Mask3D and Segment3D are handed on.

One .npz per scene with `masks_binary` (M, N).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import Mosaic3DError

KEY = "masks_binary"


def read_masks(path: Path, points: int) -> NDArray[np.bool_]:
    """Masks of a scene.

    Args:
        path: The .npz file.
        points: Points of the scene.

    Returns:
        Shape (M, N), M may be 0.

    Raises:
        Mosaic3DError: Naming the file, what it holds and what was expected.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            if KEY not in data.files:
                raise Mosaic3DError(f"{path} has no array '{KEY}', only {sorted(data.files)}")
            masks = data[KEY]
    except FileNotFoundError as error:
        raise Mosaic3DError(f"{path} is missing: a folder of masks needs one SCENE.npz for every scene") from error
    except Mosaic3DError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds for a damaged archive
        raise Mosaic3DError(f"{path} is damaged or not an .npz archive ({error}): write it again") from error
    if masks.ndim != 2 or masks.shape[1] != points:
        raise Mosaic3DError(f"{path}: {KEY} has shape {masks.shape}, expected (masks, {points}): one column per point")
    if masks.dtype != bool and not np.isin(masks, (0, 1)).all():
        raise Mosaic3DError(f"{path}: {KEY} holds other values than 0 and 1")
    return masks.astype(bool)


def write_masks(path: Path, masks: NDArray[np.bool_]) -> None:
    """Write masks (M, N), atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, masks_binary=np.asarray(masks, bool))
    temporary.replace(path)
