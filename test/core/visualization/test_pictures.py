"""Pictures: the scene fills them, colours mean what they should, and boxes are drawn where the objects
are."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.query.boxes import OrientedBox, fit_upright_box
from mosaic3d_core.query.results import NO_LABEL, DetectedObject, Labelling, QueryResult
from mosaic3d_core.visualization import palette
from mosaic3d_core.visualization.overlay import add_caption, add_legend, draw_boxes
from mosaic3d_core.visualization.pictures import (
    Scene,
    brightened,
    picture_of_labels,
    picture_of_map,
    picture_of_query,
    save_picture,
)
from mosaic3d_core.visualization.render import render_cloud
from mosaic3d_core.visualization.views import choose_view, without_ceiling

UP = np.array([0, 0, 1.0])


def surface(axis, at, low, high, toward, color, spacing=0.03):
    others = [k for k in range(3) if k != axis]
    a, b = np.meshgrid(*[np.arange(low[k], high[k], spacing) for k in others], indexing="ij")
    points = np.zeros((a.size, 3))
    points[:, others[0]], points[:, others[1]], points[:, axis] = a.ravel(), b.ravel(), at
    normals = np.zeros_like(points)
    normals[:, axis] = toward
    return points, normals, np.tile(np.array(color, float), (len(points), 1))


@pytest.fixture(scope="module")
def snapshot():
    """A 4 x 3 x 2.5 m room with a ceiling and a red cube of 60 cm on its floor."""
    low, high = (0, 0, 0), (4, 3, 2.5)
    parts = [
        surface(2, 0.0, low, high, 1, (170, 170, 160)),
        surface(2, 2.5, low, high, -1, (250, 250, 250)),
        surface(0, 0.0, low, high, 1, (200, 200, 220)),
        surface(0, 4.0, low, high, -1, (200, 200, 220)),
        surface(1, 0.0, low, high, 1, (210, 210, 200)),
        surface(1, 3.0, low, high, -1, (210, 210, 200)),
    ]
    cube_low, cube_high = (1.5, 1.2, 0), (2.1, 1.8, 0.6)
    for axis in range(3):
        parts.append(surface(axis, cube_high[axis], cube_low, cube_high, 1, (220, 20, 20)))
        if axis < 2:
            parts.append(surface(axis, cube_low[axis], cube_low, cube_high, -1, (220, 20, 20)))
    points, normals, colors = (np.vstack(column) for column in zip(*parts, strict=True))
    return MapSnapshot.from_points(points, colors, 0.03, normals)


def red(image):
    image = image.astype(int)
    return (image[..., 0] > 100) & (image[..., 0] > 2 * image[..., 1]) & (image[..., 0] > 2 * image[..., 2])


@pytest.mark.parametrize("kind", ["perspective", "top"])
def test_one_sees_into_the_room_and_the_room_fills_the_picture(snapshot, kind):
    image = render_cloud(
        snapshot.centroids,
        snapshot.colors,
        normals=snapshot.normals,
        voxel_size_m=0.03,
        view=kind,
        width=320,
        height=240,
    )
    assert image.shape == (240, 320, 3)
    assert image.dtype == np.uint8
    assert red(image).sum() > 200  # neither the ceiling nor the near walls hide the cube
    background = np.abs(image.astype(int) - image[:, :1].astype(int)).max(axis=2) < 6
    columns, rows = np.flatnonzero(~background.all(axis=0)), np.flatnonzero(~background.all(axis=1))
    assert max(np.ptp(columns) / 320, np.ptp(rows) / 240) > 0.85
    assert columns.min() > 0
    assert rows.min() > 0


def test_the_ceiling_goes_and_high_furniture_stays(snapshot):
    keep = without_ceiling(snapshot.centroids, snapshot.normals, UP)
    height = snapshot.centroids[:, 2]
    assert not keep[height > 2.48].any()
    assert keep[(height < 2.3) & (np.abs(snapshot.normals[:, 2]) < 0.5)].all()
    assert without_ceiling(np.zeros((0, 3)), None, UP).shape == (0,)


def test_views_frame_every_point(snapshot):
    for kind in ("perspective", "top"):
        view = choose_view(snapshot.centroids, snapshot.normals, UP, kind, 320, 240)
        pixels, depth = view.project(snapshot.centroids)
        assert (depth > 0).all()
        inside = ((pixels > -2) & (pixels < [322, 242])).all(axis=1)
        assert inside.mean() > 0.99


def test_unknown_views_and_empty_clouds_are_refused(snapshot):
    with pytest.raises(ValueError, match="view must be one of perspective, top"):
        choose_view(snapshot.centroids, None, UP, "sideways", 320, 240)
    with pytest.raises(ValueError, match="empty cloud"):
        render_cloud(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="the map is empty"):
        Scene.of(MapSnapshot.from_points(np.zeros((0, 3)), np.zeros((0, 3)), 0.02))


@pytest.fixture(scope="module")
def scene(snapshot):
    return Scene.of(snapshot, "perspective", 320, 240)


def cube_object(snapshot):
    rows = np.flatnonzero(snapshot.colors[:, 0] > 2 * snapshot.colors[:, 1])
    return DetectedObject(1, "cube", 0.9, fit_upright_box(snapshot.centroids[rows], UP, 0.03), rows)


def test_boxes_are_drawn_around_the_object(snapshot, scene):
    rendering = scene.render(snapshot.colors)
    found = cube_object(snapshot)
    image = draw_boxes(rendering, [found.box], [(0, 0, 255)], ["cube"])
    changed = np.argwhere(np.abs(image.astype(int) - rendering.image).max(axis=2) > 40)
    pixels, _ = scene.view.project(found.box.corners())
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    assert len(changed) > 50
    assert (changed[:, 1] >= low[0] - 25).all()
    assert (changed[:, 1] <= high[0] + 25).all()
    assert (changed[:, 0] >= low[1] - 30).all()  # the tag stands above
    assert (changed[:, 0] <= high[1] + 4).all()


def test_a_box_around_the_viewer_does_no_harm(snapshot, scene):
    box = OrientedBox(np.array([2, 1.5, 1]), np.eye(3), np.array([60.0, 60, 60]))
    assert draw_boxes(scene.render(snapshot.colors), [box], [(0, 0, 255)], ["all"]).shape == (240, 320, 3)


def test_heat_maps_glow_where_the_object_is(snapshot, scene):
    found = cube_object(snapshot)
    scores = np.zeros((1, len(snapshot)), np.float32)
    scores[0, found.voxel_indices] = 0.95
    result = QueryResult(("cube",), [found], scores, np.arange(len(snapshot)), snapshot, 1.0)
    image = picture_of_query(scene, result, "cube")
    assert image.shape[1] == 320
    assert image.shape[0] > 240
    body = image[image.shape[0] - 240 :].astype(int)
    glowing = (body[..., 0] - body[..., 2]) > 60
    assert glowing.sum() > 100
    nothing = QueryResult(("cube",), [], np.zeros_like(scores), np.arange(len(snapshot)), snapshot, 1.0)
    assert ((np.ptp(picture_of_query(scene, nothing, "cube")[40:], axis=2)) < 30).all()


def test_label_pictures_have_a_legend(snapshot, scene):
    found = cube_object(snapshot)
    labels = np.full(len(snapshot), NO_LABEL, np.uint16)
    labels[found.voxel_indices] = 0
    labelling = Labelling(
        labels,
        (labels == 0).astype(np.uint32),
        np.ones(len(snapshot), np.float32),
        [found],
        ("cube",),
        1,
        1.0,
    )
    image = picture_of_labels(scene, labelling)
    assert image.shape[0] == 240
    assert image.shape[1] > 330
    nameless = replace(labelling, objects=[found, replace(found, id=9, text="")])  # an instance that no word describes
    assert (picture_of_labels(scene, nameless) == image).all()
    assert picture_of_map(scene, "a caption").shape[0] > 240


def test_label_colours_are_distinct_and_stable():
    words = [f"word {k}" for k in range(40)]
    colors = palette.label_colors(words).astype(int)
    distance = np.abs(colors[:, None] - colors[None]).sum(axis=2) + np.eye(40, dtype=int) * 999
    assert distance.min() > 8
    assert (palette.label_colors(words) == colors).all()
    assert palette.label_colors([]).shape == (0, 3)


def test_the_score_ramp_gets_lighter_all_the_way():
    ramp = palette.heat_colors(np.linspace(0, 1, 64))
    luminance = ramp @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -1).all()
    assert luminance[-1] - luminance[0] > 150
    assert np.isfinite(palette.heat_colors(np.array([np.nan, -1, 2]))).all()


def test_dark_rooms_are_lifted_and_bright_ones_left_alone():
    dark, bright = np.full((10, 3), 100.0), np.full((10, 3), 240.0)
    assert brightened(dark).max() > 140
    assert (brightened(bright) == bright).all()
    assert brightened(np.zeros((0, 3))).shape == (0, 3)


def test_saved_pictures_are_whole_and_leave_nothing_beside(tmp_path):
    image = np.zeros((8, 9, 3), np.uint8)
    path = save_picture(image, tmp_path / "deep" / "a.png")
    assert np.asarray(Image.open(path)).shape == (8, 9, 3)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_legends_and_captions_fit_any_size():
    image = np.zeros((64, 64, 3), np.uint8)
    assert add_legend(image, [], np.zeros((0, 3))).shape == image.shape
    assert add_legend(image, [f"name {k}" for k in range(60)], np.zeros((60, 3))).shape[0] == 64
    assert add_caption(image, "x" * 500, score_bar=True).shape[1] == 64
