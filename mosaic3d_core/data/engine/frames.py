"""One frame through the data engine: segment, describe, filter, lift to the points of the scene."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.caption_filter import CaptionFilter
from mosaic3d_core.data.engine.image_masks import Captioner, ImageMasks, Segmenter, segment_frame, without_duplicates
from mosaic3d_core.data.lifting import DepthTest, lift_masks
from mosaic3d_core.data.sequences.base import RGBDSequence
from mosaic3d_core.errors import FrameError, Mosaic3DError


@dataclass(frozen=True)
class EngineSettings:
    """What is kept.

    Attributes:
        min_score: Masks below this confidence are dropped.
        min_area: Smaller masks are dropped, as a share of the image.
        max_area: Larger masks are dropped, as a share of the image.
        max_overlap: Of two masks that overlap more (intersection over union) the one of lower score is dropped.
        min_points: Masks that lift to fewer points are dropped.
        depth_test: When a point is what the depth image shows.
        caption_filter: Captions to keep.

    Raises:
        ValueError: If a value is out of its range.
    """

    min_score: float = 0.0
    min_area: float = 0.0003
    max_area: float = 0.95
    max_overlap: float = 0.9
    min_points: int = 20
    depth_test: DepthTest = field(default_factory=DepthTest)
    caption_filter: CaptionFilter = field(default_factory=CaptionFilter)

    def __post_init__(self) -> None:
        for name in ("min_score", "min_area", "max_area", "max_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.min_area >= self.max_area:
            raise ValueError(f"min_area {self.min_area} must be below max_area {self.max_area}")
        if self.min_points < 1:
            raise ValueError(f"min_points must be >= 1, got {self.min_points}")


@dataclass
class FramePairs:
    """What a frame gave.

    Attributes:
        masks: Ascending point indices of each mask.
        captions: Their captions.
        counts: Masks seen, kept and dropped by reason; or why the frame could not be read.
    """

    masks: list[NDArray[np.int64]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class FrameEngine:
    """Makes mask-text pairs of frames.

    Args:
        segmenter: Cuts images into masks.
        captioner: Describes masks.
        settings: What is kept.
    """

    def __init__(self, segmenter: Segmenter, captioner: Captioner, settings: EngineSettings | None = None) -> None:
        self.segmenter, self.captioner, self.settings = segmenter, captioner, settings or EngineSettings()

    def process(self, sequence: RGBDSequence, index: int, points: NDArray[np.floating]) -> FramePairs:
        """The pairs of a frame; a damaged frame gives none and is counted.

        Args:
            sequence: Posed RGB-D frames.
            index: Number of the frame.
            points: Points of the scene, in the world of the poses, metres. Shape (N, 3).

        Raises:
            Mosaic3DError: If the segmenter or the captioner breaks its contract.
        """
        pairs = FramePairs()
        try:
            frame = sequence[index]
            masks = segment_frame(self.segmenter, sequence, index, frame.color)
        except FrameError as error:
            pairs.counts[f"frame: {error.reason}"] += 1
            return pairs
        pairs.counts["frames"] += 1
        pairs.counts["masks"] += len(masks)
        masks = self._select(masks, pairs.counts)
        lifted = lift_masks(points, masks.masks, frame, self.settings.depth_test) if len(masks) else []
        enough = np.array([len(mask) >= self.settings.min_points for mask in lifted], bool)
        _count(pairs.counts, "few points", ~enough)
        masks, lifted = masks.take(enough), [mask for mask, keep in zip(lifted, enough, strict=True) if keep]
        # what sees no points is not described: captions are what takes time
        texts = self.captioner.caption(frame.color, masks) if len(masks) else []
        if len(texts) != len(masks):
            raise Mosaic3DError(f"{type(self.captioner).__name__} returned {len(texts)} captions for {len(masks)} masks")
        for mask, text in zip(lifted, texts, strict=True):
            reason = self.settings.caption_filter.reason(text)
            if reason is None:
                pairs.masks.append(mask)
                pairs.captions.append(" ".join(text.split()))
                pairs.counts["pairs"] += 1
            else:
                pairs.counts[f"dropped: caption {reason}"] += 1
        return pairs

    def _select(self, masks: ImageMasks, counts: Counter[str]) -> ImageMasks:
        settings = self.settings
        sure = masks.scores >= settings.min_score
        _count(counts, "low score", ~sure)
        masks = masks.take(sure)
        area = masks.masks.reshape(len(masks), -1).mean(1) if len(masks) else np.zeros(0)
        fits = (area >= settings.min_area) & (area <= settings.max_area)
        _count(counts, "area", ~fits)
        masks = masks.take(fits)
        kept = without_duplicates(masks, settings.max_overlap) if len(masks) else np.zeros(0, np.int64)
        if len(kept) < len(masks):
            counts["dropped: duplicate"] += len(masks) - len(kept)
        return masks.take(kept)


def _count(counts: Counter[str], reason: str, dropped: NDArray[np.bool_]) -> None:
    if dropped.any():
        counts[f"dropped: {reason}"] += int(dropped.sum())
