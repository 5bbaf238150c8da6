"""A labelled scene beside its ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.visualization.overlay import add_caption, add_legend
from mosaic3d_core.visualization.palette import NO_LABEL_COLOR, label_colors
from mosaic3d_core.visualization.render import render_cloud


def picture_of_segmentation(
    points: NDArray[np.floating],
    normals: NDArray[np.floating] | None,
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    names: Sequence[str],
    width: int = 720,
) -> NDArray[np.uint8]:
    """Truth on the left, prediction on the right, with a legend of the classes that occur.

    Args:
        points: Points, metres, z up. Shape (N, 3).
        normals: Unit normals, zeros where unknown. Shape (N, 3) or None.
        truth: True class per point; outside the list is none. Shape (N,).
        predicted: Predicted class per point. Shape (N,).
        names: Class names.
        width: Width of each half, pixels.

    Returns:
        The picture. Shape (H, W, 3), uint8.
    """
    colors = np.vstack([label_colors(names), [NO_LABEL_COLOR]])
    halves, seen = [], np.zeros(len(names), bool)
    for title, labels in (("ground truth", truth), ("prediction", predicted)):
        known = np.where((labels >= 0) & (labels < len(names)), labels, len(names)).astype(np.int64)
        seen[known[known < len(names)]] = True
        painted = colors[known].astype(np.float32)
        halves.append(add_caption(render_cloud(points, painted, normals=normals, width=width, height=width * 3 // 4), title))
    shown = np.flatnonzero(seen)
    return add_legend(np.concatenate(halves, 1), [names[int(i)] for i in shown], colors[shown])
