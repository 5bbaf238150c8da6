"""Rooms in Structured3D's raw form become scene folders; the rooms here are computed: a box of 4 x 3 x 2.5 m seen from inside."""

from __future__ import annotations

import numpy as np
import pytest
from raw_scans import load, prepare, write_image

from mosaic3d_core.data.raw.structured3d import CELL_M, convert_room, find_rooms
from mosaic3d_core.data.scene_folder import read_points
from mosaic3d_core.errors import Mosaic3DError

LOW, HIGH = np.array([0.0, 0.0, 0.0]), np.array([4.0, 3.0, 2.5])
#: NYU40 ids of the sides: two walls across x and a door, window across y, floor and ceiling across z.
SIDES = np.array([[1, 8], [1, 9], [2, 22]])
HALF = (0.7, 0.5)
SIZE = (60, 80)


def cast(eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many rays (..., 3) reach from the eye to the box, the NYU40 id there, and whether it is the upper side."""
    with np.errstate(divide="ignore"):
        reach = np.where(rays > 0, (HIGH - eye) / rays, np.where(rays < 0, (LOW - eye) / rays, np.inf))
    axis = reach.argmin(axis=-1)
    upper = np.take_along_axis(rays, axis[..., None], -1)[..., 0] > 0
    return reach.min(axis=-1), SIDES[axis, upper.astype(int)], upper


def write_view(folder, reach: np.ndarray, ids: np.ndarray) -> None:
    write_image(folder / "depth.png", np.rint(reach * 1000).astype(np.uint16))
    write_image(folder / "semantic.png", ids.astype(np.uint8), palette=True)
    write_image(
        folder / "rgb_rawlight.png", np.stack([ids * 5, ids, np.full_like(ids, 9), np.full_like(ids, 255)], -1).astype(np.uint8)
    )


def write_perspective(folder, eye, forward, up=(0.0, 0.0, 1.0)) -> None:
    """The box through a pinhole; the instance is 7 on the door and the background elsewhere."""
    eye, forward = np.asarray(eye, float), np.asarray(forward, float) / np.linalg.norm(forward)
    right = np.cross(forward, up) / np.linalg.norm(np.cross(forward, up))
    above = np.cross(right, forward)
    v, u = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] + 0.5
    x = (u - SIZE[1] / 2) / (SIZE[1] / 2) * np.tan(HALF[0])
    y = (SIZE[0] / 2 - v) / (SIZE[0] / 2) * np.tan(HALF[1])
    reach, ids, _ = cast(eye, forward + x[..., None] * right + y[..., None] * above)  # rays of depth 1
    write_view(folder, reach, ids)
    write_image(folder / "instance.png", np.where(ids == 8, 7, 65535).astype(np.uint16))
    (folder / "camera_pose.txt").write_text(" ".join(f"{value:.9g}" for value in (*(eye * 1000), *forward, *up, *HALF, 1)))


def write_panorama(folder, eye) -> None:
    eye = np.asarray(eye, float)
    height, width = 64, 128
    v, u = np.mgrid[0:height, 0:width] + 0.5
    azimuth, elevation = (u / width - 0.5) * 2 * np.pi, (0.5 - v / height) * np.pi
    rays = np.stack(
        [np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation)], axis=-1
    )  # of length 1, the middle looks along +y
    reach, ids, _ = cast(eye, rays)
    write_view(folder / "full", reach, ids)
    (folder / "camera_xyz.txt").write_text(" ".join(f"{value * 1000:.6g}" for value in eye))


def write_room(room) -> None:
    write_perspective(room / "perspective" / "full" / "0", (1.0, 1.5, 1.2), (1.0, 0.2, -0.1))
    write_perspective(room / "perspective" / "full" / "1", (3.0, 2.0, 1.4), (-0.3, -1.0, 0.2))
    write_panorama(room / "panorama", (2.0, 1.0, 1.3))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A room with all views and the scene folder made of it."""
    folder = tmp_path_factory.mktemp("structured3d")
    write_room(folder / "room")
    convert_room(folder / "room", folder / "out")
    return folder / "out"


@pytest.fixture
def raw(tmp_path):
    write_room(tmp_path / "raw" / "scene_00000" / "2D_rendering" / "485142")
    write_panorama(tmp_path / "raw" / "scene_00003" / "2D_rendering" / "12" / "panorama", (1.0, 1.0, 1.0))
    return tmp_path / "raw"


def side_of(points: np.ndarray) -> np.ndarray:
    """NYU40 id of the nearest side of the box and the distance to it; (N,) each."""
    distance = np.abs(np.concatenate([points - LOW, points - HIGH], axis=1))
    nearest = distance.argmin(axis=1)
    return SIDES[nearest % 3, nearest // 3], distance.min(axis=1)


@pytest.mark.parametrize("views", ["perspective", "panorama"])
def test_points_lie_on_the_true_surfaces_with_their_labels_and_colours(tmp_path, views):
    if views == "panorama":
        write_panorama(tmp_path / "room" / "panorama", (2.0, 1.0, 1.3))
    else:
        write_perspective(tmp_path / "room" / "perspective" / "full" / "4", (1.0, 1.5, 1.2), (1.0, 0.2, -0.1))
    convert_room(tmp_path / "room", tmp_path / "out")
    coord, segment = load(tmp_path / "out", "coord"), load(tmp_path / "out", "segment")
    ids, distance = side_of(coord)
    assert len(coord) > 2000
    assert distance.max() < 1.5e-3  # depth is stored in whole millimetres
    inside = np.sort(np.abs(np.concatenate([coord - LOW, coord - HIGH], axis=1)), axis=1)[:, 1] > 0.01  # not at an edge
    np.testing.assert_array_equal(segment[inside] + 1, ids[inside])
    np.testing.assert_array_equal(load(tmp_path / "out", "color")[:, :2], np.stack([(segment + 1) * 5, segment + 1], 1))
    if views == "panorama":
        assert set(segment + 1) == set(SIDES.flat)
        assert (load(tmp_path / "out", "instance") == -1).all()


def test_all_views_of_a_room_are_fused_to_one_point_per_cell(whole):
    points = read_points(whole, "segment.npy")
    cells = np.floor(points.coord.astype(np.float64) / CELL_M)
    assert len(np.unique(cells, axis=0)) >= 0.999 * len(cells)  # float32 may round a point into the next cell
    assert set(points.segment + 1) == set(SIDES.flat)
    assert {name: load(whole, name).dtype.str[1:] for name in ("coord", "color", "segment", "instance")} == {
        "coord": "f4", "color": "u1", "segment": "i2", "instance": "i4",
    }  # fmt: skip


def test_instances_come_from_perspective_views_also_where_a_panorama_saw_the_same(whole):
    instance, segment = load(whole, "instance"), load(whole, "segment")
    assert set(instance) == {-1, 7}
    assert (segment[instance == 7] + 1 == 8).all()
    door = load(whole, "coord")[segment + 1 == 8]
    seen = np.abs(door[:, 1:] - [1.9, 0.9]).max(axis=1) < 0.3  # where view 0 looks
    assert (instance[segment + 1 == 8][seen] == 7).mean() > 0.7


def test_pixels_without_depth_and_on_depth_edges_make_no_points(tmp_path):
    view = tmp_path / "room" / "perspective" / "full" / "0"
    write_perspective(view, (1.0, 1.5, 1.2), (1.0, 0.0, 0.0))
    depth = np.full(SIZE, 2000, np.uint16)
    depth[:, 40:] = 1000  # a step in the middle
    depth[:10], depth[10:20] = 0, 65535
    write_image(view / "depth.png", depth)
    convert_room(tmp_path / "room", tmp_path / "out")
    coord = load(tmp_path / "out", "coord")
    far, near = coord[coord[:, 0] > 2.5], coord[coord[:, 0] < 2.5]
    np.testing.assert_allclose(far[:, 0], 3.0, atol=1e-5)
    np.testing.assert_allclose(near[:, 0], 2.0, atol=1e-5)
    pixel = np.tan(HALF[0]) / 40
    assert far[:, 1].min() == pytest.approx(1.5 + 2 * 1.5 * pixel, abs=1e-4)  # the pixel next to the step is left out
    assert near[:, 1].max() == pytest.approx(1.5 - 1 * 1.5 * pixel, abs=1e-4)
    assert coord[:, 2].max() < 1.2 + 2 * 10 / 30 * np.tan(HALF[1])


def test_unlabelled_pixels_have_no_class(tmp_path):
    view = tmp_path / "room" / "perspective" / "full" / "0"
    write_perspective(view, (1.0, 1.5, 1.2), (1.0, 0.0, 0.0))
    write_image(view / "semantic.png", np.zeros(SIZE, np.uint8))
    convert_room(tmp_path / "room", tmp_path / "out")
    assert (load(tmp_path / "out", "segment") == -1).all()


def test_rooms_are_named_by_scene_and_room(raw):
    assert list(find_rooms(raw)) == ["scene_00000_room_485142", "scene_00003_room_12"]
    raw.rename(raw.parent / "Structured3D")
    assert list(find_rooms(raw.parent)) == ["scene_00000_room_485142", "scene_00003_room_12"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("depth.png", None, "depth.png is missing"),
        ("depth.png", np.zeros((*SIZE, 3), np.uint8), "expected a 16-bit image"),
        ("depth.png", np.zeros(SIZE, np.uint16), "no depth.png of its 1 views has a reading"),
        ("rgb_rawlight.png", np.zeros((30, 40, 3), np.uint8), "rgb_rawlight.png is 40x30 pixels, expected 80x60 as in depth.png"),
        ("semantic.png", np.zeros((60, 79), np.uint8), "semantic.png is 79x60 pixels, expected 80x60"),
        ("semantic.png", np.zeros((*SIZE, 3), np.uint8), "expected one id per pixel"),
        ("semantic.png", np.full(SIZE, 41, np.uint8), "semantic.png has the value 41, expected NYU40 ids of 0 to 40"),
        ("instance.png", None, "instance.png is missing"),
        ("instance.png", np.zeros((1, 1), np.uint16), "instance.png is 1x1 pixels, expected 80x60"),
        ("rgb_rawlight.png", "no image", "rgb_rawlight.png is truncated or not an image"),
        ("camera_pose.txt", None, "camera_pose.txt is missing"),
        ("camera_pose.txt", "0 0 0 1 0 0", "camera_pose.txt has 6 numbers, expected 11: position, viewing direction"),
        ("camera_pose.txt", "0 0 0 1 0 0 0 0 x 0.7 0.5", "camera_pose.txt: position"),
        ("camera_pose.txt", "0 0 0 1 0 0 0 0 nan 0.7 0.5 1", "has numbers that are not finite"),
        ("camera_pose.txt", "0 0 0 1 0 0 1 0 0 0.7 0.5 1", "camera_pose.txt has parallel viewing and up directions"),
        ("camera_pose.txt", "0 0 0 1 0 0 0 0 1 0.7 2 1", "half angles that are not between 0 and pi/2"),
        ("camera_pose.txt", "1e9 0 0 1 0 0 0 0 1 0.7 0.5 1", "points more than 10 km from the origin: check its camera"),
    ],
)
def test_a_damaged_view_is_refused_with_file_and_expectation(tmp_path, file, content, message):
    view = tmp_path / "room" / "perspective" / "full" / "0"
    write_perspective(view, (1.0, 1.5, 1.2), (1.0, 0.0, 0.0))
    (view / file).unlink()
    if isinstance(content, str):
        (view / file).write_text(content)
    elif content is not None:
        write_image(view / file, content)
    with pytest.raises(Mosaic3DError) as caught:
        convert_room(tmp_path / "room", tmp_path / "out")
    assert message in str(caught.value)
    assert str(tmp_path / "room") in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_panorama_is_refused(tmp_path):
    write_panorama(tmp_path / "room" / "panorama", (2.0, 1.0, 1.3))
    (tmp_path / "room" / "panorama" / "camera_xyz.txt").write_text("1 2")
    with pytest.raises(Mosaic3DError, match=r"camera_xyz.txt has 2 numbers, expected 3: the position"):
        convert_room(tmp_path / "room", tmp_path / "out")


def test_the_command_skips_a_damaged_room_with_its_reason_and_finds_the_others_done_again(raw, tmp_path):
    (raw / "scene_00003" / "2D_rendering" / "99").mkdir()
    damaged = raw / "scene_00004" / "2D_rendering" / "7"
    write_room(damaged)
    broken = damaged / "panorama" / "full" / "depth.png"
    broken.write_bytes(broken.read_bytes()[:100])
    first = prepare("structured3d", raw, tmp_path / "out")
    assert first.returncode == 0, first.stderr
    assert "2 scenes written, 0 were there, 2 left out" in first.stdout
    assert "scene_00003_room_99" in first.stdout
    assert "has no views: expected perspective/full/VIEW or panorama/full" in first.stdout
    assert f"scene_00004_room_7: {broken} is truncated" in first.stdout
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["scene_00000_room_485142", "scene_00003_room_12"]
    again = prepare("structured3d", raw, tmp_path / "out")
    assert "0 scenes written, 2 were there, 2 left out" in again.stdout
