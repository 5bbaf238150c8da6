"""Colours for labels and scores, mixed in OKLab, where equal steps look equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_OKLAB_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
# Large surfaces stay quiet so that the furniture stands out.
_QUIET = {"wall": (205, 208, 214), "floor": (190, 178, 160), "ceiling": (228, 230, 234)}
NO_LABEL_COLOR = (120, 122, 126)
_GOLDEN_ANGLE = 2.399963229728653


def oklch_to_rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Convert OKLCh (hue in radians) to sRGB 0..255, clipped to the gamut. Shape (N, 3), float32."""
    lab = np.stack(np.broadcast_arrays(lightness, chroma * np.cos(hue), chroma * np.sin(hue)), axis=-1)
    linear = np.clip((lab @ _OKLAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).astype(np.float32)


def label_colors(words: Sequence[str]) -> np.ndarray:
    """A colour per word, distinct for neighbours in the list and the same every time. Shape (W, 3), uint8."""
    position = np.arange(len(words))
    lightness = np.array([0.70, 0.58, 0.80])[position % 3]
    chroma = np.array([0.15, 0.17, 0.13])[position % 3]
    colors = oklch_to_rgb(lightness, chroma, position * _GOLDEN_ANGLE + 0.4).round().astype(np.uint8)
    for row, word in enumerate(words):
        if word in _QUIET:
            colors[row] = _QUIET[word]
    return colors.reshape(-1, 3)


def heat_colors(scores: np.ndarray) -> np.ndarray:
    """Colours of scores in [0, 1], violet over red to light yellow. Shape (..., 3), float32."""
    scores = np.clip(np.nan_to_num(np.asarray(scores, np.float32)), 0.0, 1.0)
    steps = np.linspace(0, 1, 256)
    hue = np.deg2rad(290 + steps * 175)  # violet 290, red 20, yellow 105 degrees
    ramp = oklch_to_rgb(0.30 + 0.65 * steps, 0.10 + 0.12 * np.sin(np.pi * np.clip(steps, 0, 0.92)), hue)
    return ramp[(scores * 255).round().astype(np.int64)]


def heat_over_grey(colors: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores painted over a washed-out version of the true colours, so that the room stays recognisable.

    Args:
        colors: True colours 0 to 255. Shape (N, 3).
        scores: Scores in [0, 1]. Shape (N,).

    Returns:
        Colours 0 to 255. Shape (N, 3), float32.
    """
    luminance = np.asarray(colors, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    grey = np.repeat((95 + 0.5 * luminance)[:, None], 3, axis=1)
    alpha = np.clip((np.asarray(scores, np.float32) - 0.08) / 0.3, 0, 1)[:, None]
    return grey * (1 - alpha) + heat_colors(scores) * alpha


def instance_tint(colors: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Vary the lightness of label colours (N, 3) by instance id (N,), to tell neighbours apart."""
    step = (np.asarray(instances, np.int64) * 2654435761 >> 7) % 5
    gain = np.where(np.asarray(instances) == 0, 1.0, 0.82 + 0.09 * step).astype(np.float32)
    return np.clip(np.asarray(colors, np.float32) * gain[:, None], 0, 255)
