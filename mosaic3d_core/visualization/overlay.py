"""Boxes, tags, legends and captions on top of a rendering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mosaic3d_core.query.boxes import OrientedBox
from mosaic3d_core.visualization.palette import heat_colors
from mosaic3d_core.visualization.render import Rendering

# Corner numbers of the twelve edges, in the order of OrientedBox.corners().
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
# A box edge this far behind the surface still counts as lying on it.
_HIDDEN_BEHIND_M = 0.06
_INK = (34, 38, 46)
_LINES_AT = 3  # boxes are drawn at three times the size and averaged down, for smooth lines


def draw_boxes(
    rendering: Rendering,
    boxes: Sequence[OrientedBox],
    colors: np.ndarray | Sequence[Sequence[int]],
    tags: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw boxes as wire frames, with the hidden parts of their edges faint, and a tag above each.

    Args:
        rendering: The picture with its depth and view.
        boxes: Boxes in the map frame.
        colors: RGB per box, 0 to 255.
        tags: Text per box, or None for no tags.

    Returns:
        The picture with boxes. Shape (H, W, 3), uint8.
    """
    height, width = rendering.depth.shape
    layer = Image.new("RGBA", (width * _LINES_AT, height * _LINES_AT), (255, 255, 255, 0))
    draw = ImageDraw.Draw(layer)
    paints = [tuple(int(c) for c in color) for color in colors]
    for box, color in zip(boxes, paints, strict=True):
        _draw_wires(draw, rendering, box, color)
    picture = Image.fromarray(rendering.image).convert("RGBA")
    picture.alpha_composite(layer.resize((width, height), Image.Resampling.BOX))
    picture = picture.convert("RGB")
    if tags is not None:
        _draw_tags(picture, rendering, boxes, paints, tags)
    return np.asarray(picture)


def _draw_wires(draw: ImageDraw.ImageDraw, rendering: Rendering, box: OrientedBox, color: tuple[int, ...]) -> None:
    corners = box.corners()
    height, width = rendering.depth.shape
    stretches: list[tuple[bool, list[tuple[float, float]]]] = []
    for a, b in EDGES:
        ends, _ = rendering.view.project(corners[[a, b]])
        length = np.linalg.norm(ends[1] - ends[0])
        steps = int(np.clip(np.nan_to_num(length / 4, nan=1), 1, 600))
        line = corners[a] + np.linspace(0, 1, steps + 1)[:, None] * (corners[b] - corners[a])
        pixels, depth = rendering.view.project(line)
        at = np.clip(np.nan_to_num(pixels).round().astype(int), 0, [width - 1, height - 1])
        surface = rendering.depth[at[:, 1], at[:, 0]]
        hidden = (surface > 0) & (depth > surface + _HIDDEN_BEHIND_M)
        for k in range(steps):
            if np.isfinite(pixels[k : k + 2]).all():
                ends_of_piece = [tuple((p + 0.5) * _LINES_AT) for p in pixels[k : k + 2]]
                stretches.append((bool(hidden[k] and hidden[k + 1]), ends_of_piece))  # type: ignore[arg-type]
    for hidden_now, piece in stretches:
        if hidden_now:
            draw.line(piece, fill=(*color, 95), width=4)
    for hidden_now, piece in stretches:  # a light rim sets the line off from a surface of the same colour
        if not hidden_now:
            draw.line(piece, fill=(255, 255, 255, 210), width=12, joint="curve")
    for hidden_now, piece in stretches:
        if not hidden_now:
            draw.line(piece, fill=(*color, 255), width=7, joint="curve")


def _draw_tags(
    picture: Image.Image,
    rendering: Rendering,
    boxes: Sequence[OrientedBox],
    colors: Sequence[tuple[int, ...]],
    tags: Sequence[str],
) -> None:
    draw = ImageDraw.Draw(picture)
    face = font(max(12, picture.width // 75))
    taken: list[tuple[float, float, float, float]] = []
    for box, color, tag in zip(boxes, colors, tags, strict=True):
        pixels, _ = rendering.view.project(np.vstack([box.corners(), box.center]))
        if not np.isfinite(pixels).all():
            continue
        x, y = float(pixels[8, 0]), float(pixels[:8, 1].min())
        left, top, right, bottom = draw.textbbox((0, 0), tag, font=face)
        w, h = right - left + 12, bottom - top + 9
        x0 = float(np.clip(x - w / 2, 2, max(picture.width - w - 2, 2)))
        y0 = float(np.clip(y - h - 6, 2, max(picture.height - h - 2, 2)))
        for _ in range(60):  # move up, at the top edge down, until nothing is covered
            clash = [t for t in taken if x0 < t[2] and x0 + w > t[0] and y0 < t[3] and y0 + h > t[1]]
            if not clash:
                break
            above = min(t[1] for t in clash) - h - 2
            y0 = above if above >= 2 else max(t[3] for t in clash) + 2
        taken.append((x0, y0, x0 + w, y0 + h))
        draw.rounded_rectangle((x0, y0, x0 + w, y0 + h), 4, fill=color, outline=(255, 255, 255))
        draw.text((x0 + 6 - left, y0 + 4 - top), tag, font=face, fill=readable_on(color))


def readable_on(color: Sequence[int]) -> tuple[int, int, int]:
    """Dark or white ink, whichever stands out from ``color``."""
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return _INK if luminance > 140 else (255, 255, 255)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in face in the given size, pixels."""
    return ImageFont.load_default(size)


def add_legend(image: np.ndarray, names: Sequence[str], colors: np.ndarray) -> np.ndarray:
    """Put names with their colours to the right of a picture (H, W, 3); returns the wider one."""
    if not len(names):
        return image
    height, width = image.shape[:2]
    size = max(12, min(height // 45, int(0.92 * height / len(names) / 1.5)))
    face = font(size)
    column = int(max(face.getlength(name) for name in names)) + 3 * size
    picture = Image.new("RGB", (width + column, height), (250, 251, 253))
    picture.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(picture)
    step = int(size * 1.5)
    top = (height - step * len(names)) // 2
    for row, (name, color) in enumerate(zip(names, colors, strict=True)):
        y = top + row * step
        swatch = (width + size // 2, y, width + size // 2 + size, y + size)
        draw.rounded_rectangle(swatch, 3, fill=tuple(int(c) for c in color))
        draw.text((width + 2 * size, y + size / 2), name, font=face, fill=_INK, anchor="lm")
    return np.asarray(picture)


def add_caption(image: np.ndarray, text: str, *, score_bar: bool = False) -> np.ndarray:
    """Write a line, and if asked a colour bar, above a picture (H, W, 3); returns the higher one."""
    height, width = image.shape[:2]
    band = max(28, width // 28)
    picture = Image.new("RGB", (width, height + band), (250, 251, 253))
    picture.paste(Image.fromarray(image), (0, band))
    draw = ImageDraw.Draw(picture)
    face = font(int(band * 0.5))
    draw.text((band * 0.4, band / 2), text, font=face, fill=_INK, anchor="lm")
    if score_bar:
        length, thick = width // 6, band // 3
        bar = np.tile(heat_colors(np.linspace(0, 1, length))[None], (thick, 1, 1)).round().astype(np.uint8)
        left = width - length - int(band * 1.1)
        picture.paste(Image.fromarray(bar), (left, (band - thick) // 2))
        small = font(int(band * 0.4))
        draw.text((left - band * 0.2, band / 2), "0", font=small, fill=_INK, anchor="rm")
        draw.text((left + length + band * 0.2, band / 2), "1", font=small, fill=_INK, anchor="lm")
    return np.asarray(picture)
