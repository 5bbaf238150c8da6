"""Captions from labels, for segmenters that name what they cut out: no language model needed."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.engine.image_masks import ImageMasks

_TEMPLATES = ("{name}", "a {name}", "the {name}", "a photo of a {name}", "this is a {name}", "there is a {name} in the scene")
_WITH_COLOR = ("a {color} {name}", "{color} {name}", "a {name} that is {color}")
#: Names of hues by their upper end on the colour circle.
_HUES = (
    (0.04, "red"),
    (0.10, "orange"),
    (0.19, "yellow"),
    (0.44, "green"),
    (0.53, "turquoise"),
    (0.70, "blue"),
    (0.80, "purple"),
    (0.93, "pink"),
    (1.01, "red"),
)


class TemplateCaptioner:
    """One phrase for each mask from its label, a synonym of it, and at times the colour of the pixels.

    Args:
        words: Other words for a label, {"sofa": ("couch", "a place to sit")}; one is drawn, the label counting twice.
        color_share: Share of captions with a colour.
        seed: Together with the image it fixes every draw.
    """

    def __init__(self, words: Mapping[str, Sequence[str]] | None = None, color_share: float = 0.3, seed: int = 0) -> None:
        self.words, self.color_share, self.seed = dict(words or {}), color_share, seed

    def caption(self, image: NDArray[np.uint8], masks: ImageMasks) -> list[str]:
        """A phrase for each mask; "" where it has no label."""
        rng = np.random.default_rng([self.seed, zlib.crc32(image[::4, ::4].tobytes())])
        return [self._one(label, image, mask, rng) for label, mask in zip(masks.labels, masks.masks, strict=True)]

    def _one(self, label: str, image: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator) -> str:
        if not label or not mask.any():
            return ""
        names = (label, label, *self.words.get(label, ()))
        name = names[int(rng.integers(len(names)))]
        if rng.random() < self.color_share:
            template = _WITH_COLOR[int(rng.integers(len(_WITH_COLOR)))]
            return template.format(name=name, color=color_name(np.median(image[mask], 0)))
        if name.split()[0] in ("a", "an", "something", "somewhere"):  # a use, a phrase by itself
            return name
        return _TEMPLATES[int(rng.integers(len(_TEMPLATES)))].format(name=name)


def color_name(rgb: NDArray[np.floating]) -> str:
    """The everyday name of a colour (3,), 0 to 255."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(float(c) / 255 for c in rgb))
    if lightness < 0.13:
        return "black"
    if saturation < 0.15 or lightness > 0.93:
        return "white" if lightness > 0.75 else "grey"
    name = next(name for end, name in _HUES if hue < end)
    if name == "orange" and lightness < 0.42:
        return "brown"
    return "beige" if name in ("orange", "yellow") and lightness > 0.55 and saturation < 0.5 else name
