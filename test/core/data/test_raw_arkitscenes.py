"""Scans in ARKitScenes' raw form become scene folders; the scans here are made up in that form."""

from __future__ import annotations

import json

import numpy as np
import pytest
from raw_scans import load, prepare, write_json, write_mesh

from mosaic3d_core.data.raw.arkitscenes import CLASSES, convert_video, find_videos
from mosaic3d_core.errors import Mosaic3DError

#: On the floor in the open, inside the turned sofa, in the cushion on it, and beside the sofa where an upright box would reach.
POINTS = np.array([[3.0, 3.0, 0.0], [0.5, 0.5, 0.3], [0.0, 0.0, 0.5], [0.9, -0.4, 0.3]])


def box(label: str, centre: list[float], lengths: list[float], turn_deg: float = 0.0) -> dict:
    """A box as in the annotation files; its axes lie in the rows."""
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    axes = [c, s, 0.0, -s, c, 0.0, 0.0, 0.0, 1.0]
    return {"label": label, "segments": {"obbAligned": {"centroid": centre, "axesLengths": lengths, "normalizedAxes": axes}}}


BOXES = [box("cushion", [0.0, 0.0, 0.5], [0.4, 0.4, 0.4]), box("sofa", [0.0, 0.0, 0.4], [2.0, 0.5, 0.8], turn_deg=45.0)]


def write_video(folder, boxes=BOXES) -> np.ndarray:
    if boxes is not None:
        write_json(folder / f"{folder.name}_3dod_annotation.json", {"data": boxes})
    return write_mesh(folder / f"{folder.name}_3dod_mesh.ply", POINTS)


@pytest.fixture
def raw(tmp_path):
    write_video(tmp_path / "raw" / "3dod" / "Training" / "40753679")
    write_video(tmp_path / "raw" / "3dod" / "Validation" / "41069021", None)
    return tmp_path / "raw"


def test_scans_of_both_splits_are_found_by_their_video_id(raw):
    assert list(find_videos(raw)) == list(find_videos(raw / "3dod")) == ["40753679", "41069021"]
    assert list(find_videos(raw / "3dod" / "Training")) == ["40753679"]


def test_points_take_the_label_of_the_smallest_turned_box_around_them(tmp_path):
    video = tmp_path / "40753679"
    colors = write_video(video, [*BOXES, box("chair", [0.0, 0.0, 0.5], [0.1, 0.1, 0.1])])
    assert convert_video(video, tmp_path / "out") == {"cushion": 1}
    out = tmp_path / "out"
    assert [CLASSES[k] if k >= 0 else None for k in load(out, "segment")] == [None, "sofa", "chair", None]
    assert load(out, "instance").tolist() == [-1, 1, 2, -1]
    np.testing.assert_array_equal(load(out, "coord"), POINTS.astype(np.float32))
    np.testing.assert_array_equal(load(out, "color"), colors)
    assert {name: load(out, name).dtype.str[1:] for name in ("coord", "color", "segment", "instance")} == {
        "coord": "f4", "color": "u1", "segment": "i2", "instance": "i4",
    }  # fmt: skip


def test_a_label_outside_the_classes_still_is_an_instance(tmp_path):
    write_video(tmp_path / "40753679")
    convert_video(tmp_path / "40753679", tmp_path / "out")
    assert load(tmp_path / "out", "instance").tolist() == [-1, 1, 0, -1]
    assert load(tmp_path / "out", "segment").tolist() == [-1, CLASSES.index("sofa"), -1, -1]


def test_a_scan_without_annotation_has_points_and_no_labels(raw, tmp_path):
    convert_video(find_videos(raw)["41069021"], tmp_path / "out")
    assert (load(tmp_path / "out", "segment") == -1).all()
    assert (load(tmp_path / "out", "instance") == -1).all()


def without(key: str) -> list[dict]:
    wrong = json.loads(json.dumps(BOXES[0]))
    del wrong["segments"]["obbAligned"][key]
    return [wrong]


def sheared() -> list[dict]:
    wrong = json.loads(json.dumps(BOXES[0]))
    wrong["segments"]["obbAligned"]["normalizedAxes"][0] = 7.0
    return [wrong]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "_annotation.json has no 'data'"),
        ([], "_annotation.json has no 'data'"),
        ({"data": {}}, "'data' is a dict, expected a list"),
        ({"data": [{"label": "bed"}]}, "box 0 of 'data' has no 'segments'"),
        ({"data": [{"segments": {}}]}, "box 0 of 'data' has no 'label'"),
        ({"data": [3]}, "box 0 of 'data' has no 'label'"),
        ({"data": [{"label": "bed", "segments": {}}]}, "box 0 of 'data': 'segments' has no 'obbAligned'"),
        ({"data": without("centroid")}, "'obbAligned' has no 'centroid'"),
        ({"data": [box("bed", [0.0, 0.0], [1.0, 1.0, 1.0])]}, "'centroid' must be 3 numbers"),
        ({"data": [box("bed", [0.0, 0.0, float("nan")], [1.0, 1.0, 1.0])]}, "'centroid' has numbers that are not finite"),
        ({"data": sheared()}, "'normalizedAxes' must be three perpendicular unit vectors"),
    ],
)
def test_a_damaged_annotation_is_refused_with_file_key_and_expectation(tmp_path, content, message):
    video = tmp_path / "40753679"
    write_video(video)
    write_json(video / "40753679_3dod_annotation.json", content)
    with pytest.raises(Mosaic3DError, match=r"40753679_3dod_annotation\.json") as caught:
        convert_video(video, tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command_skips_a_damaged_scan_with_its_reason_and_finds_the_others_done_again(raw, tmp_path):
    (raw / "3dod" / "Training" / "47331606").mkdir()
    broken = raw / "3dod" / "Training" / "42444950"
    write_video(broken)
    mesh = broken / "42444950_3dod_mesh.ply"
    mesh.write_bytes(mesh.read_bytes()[:-80])
    first = prepare("arkitscenes", raw, tmp_path / "out")
    assert first.returncode == 0, first.stderr
    assert "2 scenes written, 0 were there, 2 left out" in first.stdout
    assert "47331606_3dod_mesh.ply is missing" in first.stdout
    assert "is truncated" in first.stdout
    assert "1 objects are none of the 17 classes: cushion (1)" in first.stdout
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["40753679", "41069021"]
    write_video(broken)
    again = prepare("arkitscenes", raw, tmp_path / "out")
    assert "1 scenes written, 2 were there, 1 left out" in again.stdout
    empty = prepare("arkitscenes", tmp_path / "none", tmp_path / "out")
    assert empty.returncode == 2
    assert "expected Training/VIDEO/VIDEO_3dod_mesh.ply" in empty.stderr
