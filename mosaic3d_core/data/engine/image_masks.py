"""Masks of one image, and what makes and describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.sequences.base import RGBDSequence
from mosaic3d_core.errors import Mosaic3DError


@dataclass(frozen=True)
class ImageMasks:
    """Masks of an image, which may overlap.

    Attributes:
        masks: (M, H, W) bool.
        labels: A word or phrase for each mask, "" where the segmenter gives none. Length M.
        scores: Confidence of each mask in [0, 1]. Shape (M,), float32.
    """

    masks: NDArray[np.bool_]
    labels: tuple[str, ...] = ()
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        if not self.labels and len(self.masks):
            object.__setattr__(self, "labels", ("",) * len(self.masks))
        if not len(self.scores) and len(self.masks):
            object.__setattr__(self, "scores", np.ones(len(self.masks), np.float32))

    def __len__(self) -> int:
        return len(self.masks)

    def take(self, keep: NDArray[np.integer] | NDArray[np.bool_]) -> ImageMasks:
        """Some of the masks."""
        chosen = np.arange(len(self))[keep]
        return ImageMasks(self.masks[chosen], tuple(self.labels[i] for i in chosen), self.scores[chosen])


class Segmenter(Protocol):
    """Cuts an image into masks.

    What reads its masks from somewhere instead of computing them has ``segment_frame(sequence, index, image)``, which is then
    called in the place of ``segment``.
    """

    def segment(self, image: NDArray[np.uint8]) -> ImageMasks | NDArray[np.bool_]:
        """Masks of an RGB image (H, W, 3) uint8: `ImageMasks`, or a plain (M, H, W) bool array."""
        ...


class Captioner(Protocol):
    """Describes the masks of an image in words."""

    def caption(self, image: NDArray[np.uint8], masks: ImageMasks) -> list[str]:
        """One text for each mask; "" where there is nothing to say."""
        ...


def segment_frame(segmenter: Any, sequence: RGBDSequence, index: int, image: NDArray[np.uint8]) -> ImageMasks:
    """The masks of a frame from a segmenter of either kind, checked.

    Args:
        segmenter: A `Segmenter`, or something with ``segment_frame(sequence, index, image)``.
        sequence: The sequence.
        index: Number of the frame.
        image: Its colour image.

    Raises:
        Mosaic3DError: If the segmenter returns something that are no masks of this image.
    """
    by_frame = getattr(segmenter, "segment_frame", None)
    found = by_frame(sequence, index, image) if by_frame is not None else segmenter.segment(image)
    masks = found if isinstance(found, ImageMasks) else ImageMasks(_plain(found, segmenter))
    if masks.masks.ndim != 3 or masks.masks.dtype != np.bool_ or masks.masks.shape[1:] != image.shape[:2]:
        raise Mosaic3DError(
            f"{type(segmenter).__name__} returned masks {masks.masks.shape} {masks.masks.dtype}, expected (M, "
            f"{image.shape[0]}, {image.shape[1]}) bool, the size of the image"
        )
    if len(masks.labels) != len(masks) or masks.scores.shape != (len(masks),):
        raise Mosaic3DError(
            f"{type(segmenter).__name__} returned {len(masks)} masks, {len(masks.labels)} labels and {len(masks.scores)} scores"
        )
    return masks


def _plain(found: Any, segmenter: Any) -> NDArray[np.bool_]:
    if not isinstance(found, np.ndarray):
        raise Mosaic3DError(
            f"{type(segmenter).__name__}.segment returned {type(found).__name__}, expected ImageMasks or an (M, H, W) bool array"
        )
    return found


def without_duplicates(masks: ImageMasks, max_iou: float) -> NDArray[np.int64]:
    """Masks that are no near copy of one with a higher score, in their order: greedy, by score.

    Args:
        masks: The masks.
        max_iou: Largest allowed overlap (intersection over union) of two kept masks.

    Returns:
        Indices of the kept masks, ascending.
    """
    flat = masks.masks.reshape(len(masks), -1).astype(np.float32)
    both = flat @ flat.T
    area = np.diag(both)
    iou = both / np.maximum(area[:, None] + area[None, :] - both, 1)
    kept: list[int] = []
    for i in np.argsort(-masks.scores, kind="stable"):
        if all(iou[i, k] <= max_iou for k in kept):
            kept.append(int(i))
    return np.sort(np.array(kept, np.int64))
