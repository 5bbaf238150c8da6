"""Scenes in ScanNet++'s raw form become scene folders; the scenes here are made up in that form."""

from __future__ import annotations

import numpy as np
import pytest
from raw_scans import load, prepare, write_groups, write_json, write_mesh, write_segments

from mosaic3d_core.data.caption_files import SceneFolderError
from mosaic3d_core.data.raw.scannetpp import CLASS_LISTS, convert_scene, find_scenes, read_classes
from mosaic3d_core.errors import Mosaic3DError

CLASSES = {"wall": 0, "table": 1, "books": 2, "book": 2}
#: Segments 100 to 105 of ten vertices each; the table's objects overlap.
GROUPS = [("books", [103]), ("wall", [100, 101]), ("table", [102, 103, 104]), ("REMOVE", [104]), ("sticker", [105])]


def write_scene(scans, labelled: bool = True) -> None:
    write_mesh(scans / "mesh_aligned_0.05.ply", np.random.default_rng(0).uniform(0, 4, (60, 3)))
    if labelled:
        write_segments(scans / "segments.json", 60)
        write_groups(scans / "segments_anno.json", GROUPS, first=1)


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / "raw"
    write_scene(raw / "data" / "036bce3393" / "scans")
    write_scene(raw / "data" / "a1d9da703c" / "scans", labelled=False)
    benchmark = raw / CLASS_LISTS[0]
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("wall\ntable\nbooks\n\n")
    (benchmark.parent / "map_benchmark.csv").write_text(
        "class,count,instance_map_to,semantic_map_to\nwall,9,,\nbook,3,,books\ntable,2,,\nREMOVE,5,None,None\n"
    )
    return raw


def test_scenes_are_named_by_their_id(raw):
    assert list(find_scenes(raw)) == list(find_scenes(raw / "data")) == ["036bce3393", "a1d9da703c"]


def test_classes_are_the_lines_of_the_benchmark_list_with_raw_labels_mapped_onto_them(raw):
    assert read_classes(raw) == CLASSES


def test_a_label_that_the_mapping_drops_is_no_class(raw):
    path = raw / "metadata" / "semantic_benchmark" / "map_benchmark.csv"
    path.write_text("class,semantic_map_to\nwall,None\ntable,furniture\n")
    assert read_classes(raw) == {"books": 2}


def test_without_the_benchmark_list_all_raw_labels_are_classes_and_any_file_may_be_given(raw, tmp_path):
    (raw / CLASS_LISTS[0]).unlink()
    (raw / CLASS_LISTS[1]).write_text("wall\nREMOVE\nwall\nsticker\n")
    assert read_classes(raw) == {"wall": 0, "REMOVE": 1, "sticker": 2}
    (tmp_path / "own.txt").write_text("sticker\n")
    assert read_classes(raw, tmp_path / "own.txt") == {"sticker": 0}


def test_a_vertex_takes_the_smallest_object_whose_label_is_a_class(raw, tmp_path):
    unknown = convert_scene(raw / "data" / "036bce3393" / "scans", CLASSES, tmp_path)
    assert load(tmp_path, "segment")[::10].tolist() == [0, 0, 1, 2, 1, -1]
    assert load(tmp_path, "instance")[::10].tolist() == [2, 2, 3, 1, 3, 5]  # ids of the file; the sticker has no class
    assert unknown == {"REMOVE": 1, "sticker": 1}


def test_a_test_scene_has_points_and_no_labels(raw, tmp_path):
    convert_scene(raw / "data" / "a1d9da703c" / "scans", CLASSES, tmp_path)
    assert len(load(tmp_path, "coord")) == 60
    assert (load(tmp_path, "segment") == -1).all()


def test_missing_or_wrong_lists_are_named(raw, tmp_path):
    with pytest.raises(SceneFolderError, match=r"top100.txt is missing: it is part of ScanNet\+\+'s download; --labels"):
        read_classes(tmp_path / "none")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(SceneFolderError, match=r"empty.txt has no class: expected one per line"):
        read_classes(raw, tmp_path / "empty.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SceneFolderError, match=r"bytes.txt is not a UTF-8 text file"):
        read_classes(raw, tmp_path / "bytes.txt")
    (raw / "metadata" / "semantic_benchmark" / "map_benchmark.csv").write_text("class,count\n")
    with pytest.raises(SceneFolderError, match=r"map_benchmark.csv lacks the columns semantic_map_to"):
        read_classes(raw)


GROUP = {"objectId": 1, "label": "wall", "segments": [100]}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("segments.json", None, "segments.json is missing"),
        ("segments.json", {"segments": []}, "segments.json has no 'segIndices'"),
        ("segments.json", {"segIndices": [1, 2]}, "has 2 segment indices, but the mesh has 60 vertices"),
        ("segments.json", {"segIndices": ["a"] * 60}, "'segIndices' must be a list of integers"),
        ("segments.json", {"segIndices": [[1], [2, 3]]}, "'segIndices' must be a list of integers"),
        ("segments_anno.json", {}, "segments_anno.json has no 'segGroups'"),
        ("segments_anno.json", {"segGroups": 3}, "'segGroups' is a int, expected a list"),
        ("segments_anno.json", {"segGroups": [{}]}, "object 0 of 'segGroups' has no 'segments'"),
        ("segments_anno.json", {"segGroups": [GROUP, {"segments": [1.5]}]}, "object 1 of 'segGroups': 'segments' must be a list"),
        ("segments_anno.json", {"segGroups": [{"segments": []}]}, "object 0 of 'segGroups' has no 'objectId'"),
        ("segments_anno.json", {"segGroups": [{**GROUP, "objectId": "x"}]}, "'objectId' is 'x', expected an integer"),
        ("segments_anno.json", {"segGroups": [{"objectId": 1, "segments": []}]}, "object 0 of 'segGroups' has no 'label'"),
        ("mesh_aligned_0.05.ply", None, "mesh_aligned_0.05.ply is missing"),
        ("mesh_aligned_0.05.ply", {}, "mesh_aligned_0.05.ply is not a PLY file"),
    ],
)
def test_a_damaged_scene_is_refused_with_file_key_and_expectation(raw, tmp_path, file, content, message):
    scans = raw / "data" / "036bce3393" / "scans"
    if content is None:
        (scans / file).unlink()
    else:
        write_json(scans / file, content)
    with pytest.raises(Mosaic3DError) as caught:
        convert_scene(scans, CLASSES, tmp_path / "out")
    assert message in str(caught.value)
    assert str(scans / file) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command_skips_a_damaged_scene_with_its_reason_and_finds_the_others_done_again(raw, tmp_path):
    damaged = raw / "data" / "d415cc449b" / "scans"
    write_scene(damaged)
    (damaged / "segments_anno.json").write_text('{"segGroups": [')
    half = tmp_path / "out" / "036bce3393"  # a run was killed before the last file of this one
    half.mkdir(parents=True)
    np.save(half / "color.npy", np.zeros(3))
    first = prepare("scannetpp", raw, tmp_path / "out")
    assert first.returncode == 0, first.stderr
    assert "2 scenes written, 0 were there, 1 left out" in first.stdout
    assert f"d415cc449b: {damaged / 'segments_anno.json'} is not JSON" in first.stdout
    assert "2 objects are none of the classes: REMOVE (1), sticker (1)" in first.stdout
    assert load(half, "color").shape == (60, 3)
    again = prepare("scannetpp", raw, tmp_path / "out")
    assert "0 scenes written, 2 were there, 1 left out" in again.stdout


def test_the_command_takes_another_class_list(raw, tmp_path):
    (tmp_path / "own.txt").write_text("sticker\n")
    done = prepare("scannetpp", raw, tmp_path / "out", "--labels", str(tmp_path / "own.txt"))
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "out" / "036bce3393", "segment")[::10].tolist() == [-1, -1, -1, -1, -1, 0]
    missing = prepare("scannetpp", raw, tmp_path / "out", "--labels", str(tmp_path / "none.txt"))
    assert missing.returncode == 2
    assert f"{tmp_path / 'none.txt'} is missing" in missing.stderr
