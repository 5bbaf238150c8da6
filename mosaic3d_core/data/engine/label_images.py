"""Segmenters that need no model: label images of a renderer or a data set, and the boxes around another segmenter's masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.engine.image_masks import ImageMasks, segment_frame
from mosaic3d_core.data.sequences.base import RGBDSequence, read_image
from mosaic3d_core.data.synthetic.sequence import SyntheticSequence
from mosaic3d_core.errors import Mosaic3DError


def masks_of_labels(labels: NDArray[np.integer], names: dict[int, str]) -> ImageMasks:
    """A mask for each id in a label image (H, W); 0 is nothing."""
    ids = [int(i) for i in np.unique(labels) if i > 0]
    if not ids:
        return ImageMasks(np.zeros((0, *labels.shape), bool))
    return ImageMasks(labels[None] == np.array(ids)[:, None, None], tuple(names.get(i, "") for i in ids))


class RenderedLabels:
    """The renderer's own label images of a generated room: a perfect segmenter."""

    def segment_frame(self, sequence: RGBDSequence, index: int, image: NDArray[np.uint8]) -> ImageMasks:
        """Instances of a frame as its colour camera sees them, labelled with their class.

        Raises:
            Mosaic3DError: If the sequence is no generated room.
        """
        if not isinstance(sequence, SyntheticSequence):
            raise Mosaic3DError(f"segmenter 'rendered' knows generated rooms (room:SEED) only, not {sequence.name}")
        names = {item.id: item.class_name for item in sequence.scene.instances}
        return masks_of_labels(sequence.color_view(index).instance, names)


class LabelFolder:
    """Label images that lie beside the frames: `FOLDER/SEQUENCE/INDEX.png` with an id per pixel, 0 = nothing.

    Args:
        folder: The folder; `names.json` in it gives words for ids, {"3": "chair"}.

    Raises:
        Mosaic3DError: If it, or its names, cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise Mosaic3DError(f"folder of label images {folder} does not exist")
        self.folder, self.names = folder, dict[int, str]()
        file = folder / "names.json"
        if file.exists():
            try:
                self.names = {int(key): str(value) for key, value in json.loads(file.read_text(encoding="utf-8")).items()}
            except (ValueError, AttributeError) as error:
                raise Mosaic3DError(f'{file} must map ids to words, such as {{"3": "chair"}}: {error}') from error

    def segment_frame(self, sequence: RGBDSequence, index: int, image: NDArray[np.uint8]) -> ImageMasks:
        """Masks of a frame.

        Raises:
            FrameError: If the image is missing or damaged.
            Mosaic3DError: If it is no label image.
        """
        path = self.folder / sequence.name / f"{index:06d}.png"
        labels = read_image(path)
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise Mosaic3DError(f"{path} has {labels.shape} {labels.dtype} pixels, expected one whole number per pixel")
        return masks_of_labels(labels, self.names)


class BoxMasks:
    """The bounding boxes of another segmenter's masks, filled: what a detector without a segmenter would give.

    Args:
        segmenter: The other segmenter.
    """

    def __init__(self, segmenter: Any) -> None:
        self.segmenter = segmenter

    def segment_frame(self, sequence: RGBDSequence, index: int, image: NDArray[np.uint8]) -> ImageMasks:
        """Boxes of a frame."""
        inner = segment_frame(self.segmenter, sequence, index, image)
        boxes = np.zeros_like(inner.masks)
        for box, mask in zip(boxes, inner.masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        return ImageMasks(boxes, inner.labels, inner.scores)
