"""Curves over steps as a picture, one panel each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT, _MARGIN = 460, 280, 56
_LINE, _GRID = (30, 90, 200), (225, 225, 225)


def picture_of_curves(curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> NDArray[np.uint8]:
    """Panels side by side, two in a row.

    Args:
        curves: Steps (N,) and values (N,) by name; values that are no numbers are left out.

    Returns:
        The picture. Shape (H, W, 3), uint8.

    Raises:
        ValueError: If there is nothing to show.
    """
    if not curves:
        raise ValueError("there are no curves to show")
    rows = -(-len(curves) // 2)
    image = Image.new("RGB", (_WIDTH * min(2, len(curves)), _HEIGHT * rows), "white")
    draw = ImageDraw.Draw(image)
    for number, (name, (steps, values)) in enumerate(curves.items()):
        _panel(draw, (number % 2 * _WIDTH, number // 2 * _HEIGHT), name, np.asarray(steps, float), np.asarray(values, float))
    return np.asarray(image)


def _panel(draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, steps: np.ndarray, values: np.ndarray) -> None:
    font = ImageFont.load_default(13)
    left, top = corner[0] + _MARGIN, corner[1] + 34
    width, height = _WIDTH - _MARGIN - 20, _HEIGHT - 34 - 36
    draw.text((left, corner[1] + 8), name, "black", font)
    draw.rectangle((left, top, left + width, top + height), outline=(150, 150, 150))
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if not len(values):
        draw.text((left + 10, top + 10), "no values", "black", font)
        return
    low, high = float(values.min()), float(values.max())
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    last = max(float(steps.max()), 1.0)
    for share in (0.0, 0.5, 1.0):
        y = top + height * (1 - share)
        draw.line((left, y, left + width, y), _GRID)
        draw.text((corner[0] + 4, y - 8), f"{low + share * (high - low):.3g}", "black", font)
        draw.text((left + share * width - 12, top + height + 6), f"{share * last:.0f}", "black", font)
    points = [
        (left + width * s / last, top + height * (1 - (v - low) / (high - low))) for s, v in zip(steps, values, strict=True)
    ]
    if len(points) > 1:
        draw.line(points, _LINE, 2)
    for x, y in points if len(points) < 40 else ():
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_LINE)
