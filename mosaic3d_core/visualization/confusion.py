"""A confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_CELL = 22
_MARGIN = 190
_TITLE = 34


def picture_of_confusion(confusion: NDArray[np.int64], names: Sequence[str], title: str, most: int = 40) -> NDArray[np.uint8]:
    """Rows are true classes, columns predicted ones, colours the share of the true class; the largest classes only.

    Args:
        confusion: Counts [true, predicted]. Shape (K, K).
        names: Class names.
        title: Text above.
        most: Most classes shown.

    Returns:
        The picture. Shape (H, W, 3), uint8.
    """
    size = confusion.sum(1)
    shown = [int(i) for i in np.argsort(-size, kind="stable") if size[i] > 0][:most]
    share = confusion[np.ix_(shown, shown)] / np.maximum(size[shown], 1)[:, None] if shown else np.zeros((0, 0))
    n = len(shown)
    image = Image.new("RGB", (_MARGIN + max(n, 8) * _CELL + 20, _TITLE + _MARGIN + n * _CELL + 20), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(13)
    draw.text((12, 10), title, (30, 30, 30), font)
    top = _TITLE + _MARGIN - 40
    for r, i in enumerate(shown):
        y = top + r * _CELL
        draw.text((_MARGIN - 8, y + _CELL // 2), names[i], (30, 30, 30), font, anchor="rm")
        label = Image.new("RGB", (_MARGIN - 44, 18), (255, 255, 255))
        ImageDraw.Draw(label).text((2, 2), names[i], (30, 30, 30), font)
        image.paste(label.rotate(90, expand=True), (_MARGIN + r * _CELL + 2, top - (_MARGIN - 44) - 4))
        for c in range(n):
            value = float(share[r, c])
            base = np.array((34, 94, 168) if r == c else (200, 60, 40))
            shade = 255 - (255 - base) * min(value, 1.0) ** 0.6
            box = (_MARGIN + c * _CELL, y, _MARGIN + (c + 1) * _CELL - 2, y + _CELL - 2)
            draw.rectangle(box, tuple(int(v) for v in shade))
            if value >= 0.05:
                ink = (255, 255, 255) if value > 0.45 else (40, 40, 40)
                draw.text(
                    (box[0] + _CELL // 2 - 1, y + _CELL // 2 - 1),
                    f"{100 * value:.0f}",
                    ink,
                    ImageFont.load_default(10),
                    anchor="mm",
                )
    return np.asarray(image)
