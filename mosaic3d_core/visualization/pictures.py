"""The pictures that users look at: the map, the map by label, and one heat map per query with its boxes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mosaic3d_core.query.results import NO_LABEL, DetectedObject, Labelling, QueryResult
from mosaic3d_core.visualization import palette
from mosaic3d_core.visualization.overlay import add_caption, add_legend, draw_boxes
from mosaic3d_core.visualization.render import Rendering, render_points
from mosaic3d_core.visualization.views import View, ViewKind, choose_view, smooth_normals, without_ceiling

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot

_BOX_COLOR = (0, 122, 255)
# Surfaces that enclose a room: their boxes would frame the whole picture.
_SHELL = frozenset({"wall", "floor", "ceiling"})


@dataclass(frozen=True, eq=False)
class Scene:
    """A map prepared for pictures: what to draw and from where.

    Attributes:
        snapshot: The map.
        keep: Voxels to draw. Shape (N,), bool.
        normals: Normals of all voxels, steadied for drawing. Shape (N, 3), float32.
        view: The virtual camera.
    """

    snapshot: MapSnapshot
    keep: np.ndarray
    normals: np.ndarray
    view: View

    @classmethod
    def of(cls, snapshot: MapSnapshot, kind: ViewKind = "perspective", width: int = 1280, height: int = 960) -> Scene:
        """Choose what to draw and from where; ValueError for an empty map or an unknown view."""
        if len(snapshot.centroids) == 0:
            raise ValueError("the map is empty, there is nothing to draw")
        normals = smooth_normals(snapshot.centroids, snapshot.normals, snapshot.weights, snapshot.voxel_size_m)
        keep = without_ceiling(snapshot.centroids, normals, snapshot.up) & _well_seen(snapshot.weights)
        keep = keep if keep.any() else np.ones(len(keep), bool)
        view = choose_view(snapshot.centroids[keep], normals[keep], snapshot.up, kind, width, height)
        return cls(snapshot, keep, normals, view)

    def render(self, colors: np.ndarray, shading: float = 1.0) -> Rendering:
        """Draw with the given colours per map voxel, (N, 3), 0 to 255."""
        s = self.snapshot
        return render_points(
            s.centroids[self.keep],
            colors[self.keep],
            self.view,
            s.voxel_size_m,
            self.normals[self.keep],
            shading=shading,
        )


def _well_seen(weights: np.ndarray) -> np.ndarray:
    """Voxels worth drawing (N,): a hardly measured fringe is noise in front of the true surface."""
    return weights >= 0.05 * float(np.median(weights))


def picture_of_map(scene: Scene, caption: str | None = None) -> np.ndarray:
    """The map in its own colours. Shape (H, W, 3), uint8."""
    image = scene.render(brightened(scene.snapshot.colors)).image
    return add_caption(image, caption) if caption else image


def picture_of_labels(scene: Scene, labelling: Labelling, *, boxes: bool = True) -> np.ndarray:
    """The map coloured by label, with boxes and a legend. Shape (H, W', 3), uint8."""
    words = labelling.vocabulary
    colors = np.vstack([palette.label_colors(words), [palette.NO_LABEL_COLOR]]).astype(np.float32)
    number = np.where(labelling.labels == NO_LABEL, len(words), labelling.labels).astype(np.int64)
    luminance = scene.snapshot.colors @ np.array([0.299, 0.587, 0.114], np.float32)
    # A little of the true brightness keeps texture and edges readable under the label colours.
    texture = 1.0 + 0.3 * (luminance / max(float(np.quantile(luminance, 0.95)), 1.0) - 0.5)
    painted = palette.instance_tint(colors[number], labelling.instances) * texture[:, None]
    rendering = scene.render(np.clip(painted, 0, 255))
    image = rendering.image
    things = [thing for thing in labelling.objects if thing.text and thing.text not in _SHELL]  # nameless ones have no colour
    if boxes and things:
        box_colors = [colors[words.index(thing.text)] * 0.62 for thing in things]
        image = draw_boxes(rendering, [thing.box for thing in things], box_colors)
    counts = np.bincount(number[scene.keep], minlength=len(words) + 1)
    shown = [k for k in np.argsort(-counts, kind="stable") if counts[k] > 0]
    names = ["(no label)" if k == len(words) else words[k] for k in shown]
    return add_legend(image, names, colors[shown])


def picture_of_query(scene: Scene, result: QueryResult, text: str) -> np.ndarray:
    """Heat map of one text over the greyed map, with the objects boxed. Shape (H', W, 3), uint8."""
    row = result.texts.index(text)
    scores = result.voxel_scores[row][result.voxel_of_point]
    rendering = scene.render(palette.heat_over_grey(brightened(scene.snapshot.colors), scores))
    objects = result.of(text)
    image = draw_boxes(
        rendering,
        [found.box for found in objects],
        [_BOX_COLOR] * len(objects),
        [f"{found.score:.2f}" for found in objects],
    )
    return add_caption(image, _describe(text, objects), score_bar=True)


def _describe(text: str, objects: Sequence[DetectedObject]) -> str:
    shown = text if len(text) <= 60 else text[:57] + "..."
    if not objects:
        return f'"{shown}": nothing like that here'
    count = f"{len(objects)} object" + ("s" if len(objects) > 1 else "")
    return f'"{shown}": {count}, best {max(found.score for found in objects):.2f}'


def brightened(colors: np.ndarray) -> np.ndarray:
    """Colours (N, 3) of a dimly lit room lifted towards full range; well exposed ones stay as they are."""
    colors = np.asarray(colors, np.float32)
    if len(colors) == 0:
        return colors
    bright = max(float(np.quantile(colors.max(axis=1), 0.95)), 1.0)
    return np.clip(colors * np.clip(235.0 / bright, 1.0, 1.6), 0, 255)


def save_picture(image: np.ndarray, path: str | os.PathLike[str]) -> Path:
    """Write a picture (H, W, 3) as PNG or JPEG by its suffix; a reader never sees half a file.

    Raises:
        OSError: If the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=path.suffix or ".png", delete=False) as file:
        temporary = Path(file.name)
    try:
        Image.fromarray(image).save(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
