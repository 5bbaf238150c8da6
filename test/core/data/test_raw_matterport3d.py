"""Regions in Matterport3D's raw form become scene folders; the regions here are made up in that form."""

from __future__ import annotations

import numpy as np
import pytest
from raw_scans import load, prepare, write_groups, write_json, write_mesh, write_segments

from mosaic3d_core.data.caption_files import SceneFolderError
from mosaic3d_core.data.raw.matterport3d import LABEL_TABLE, LabelTable, convert_region, find_regions
from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.metrics.class_lists import get_class_list

TABLE = """index\traw_category\tcategory\tcount\tnyuId\tnyu40id\tnyuClass\tmpcat40index
1\twall\twall\t9\t21\t1\twall\t1
2\troof\troof\t8\t4\t22\tceiling\t17
3\twardrobe\twardrobe\t7\t772\t39\twardrobe\t36
4\tfridge\trefrigerator\t6\t17\t24\trefridgerator\t37
5\tobject\tobject\t5\t\t40\t\t39
6\talarm\talarm\t1\t1\t40\talarm\t39
7\tremove\tremove\t1\t0\t0\tvoid\t0
"""
GROUPS = [("wall", [100]), ("roof", [101]), ("wardrobe", [102]), ("fridge", [103]), ("object", [104]), ("alarm", [105])]


def write_region(folder, number: int = 0, normals: bool = True) -> None:
    stem = folder / f"region{number}"
    write_mesh(stem.with_suffix(".ply"), np.random.default_rng(0).uniform(0, 4, (70, 3)), normals)
    write_segments(stem.with_suffix(".vsegs.json"), 70)
    write_groups(stem.with_suffix(".semseg.json"), GROUPS, first=50)
    write_json(stem.with_suffix(".fsegs.json"), {"segIndices": [100, 101]})


@pytest.fixture
def raw(tmp_path):
    scans = tmp_path / "raw" / "v1" / "scans"
    write_region(scans / "17DRP5sb8fy" / "region_segmentations")
    write_region(scans / "17DRP5sb8fy" / "region_segmentations", 12)
    write_region(scans / "1LXtFkjw3qL" / "1LXtFkjw3qL" / "region_segmentations", 3)  # as the archive unpacks
    (tmp_path / "raw" / LABEL_TABLE).write_text(TABLE)
    return tmp_path / "raw"


def test_regions_are_named_by_scan_and_two_digits_however_the_archives_were_unpacked(raw):
    assert list(find_regions(raw)) == ["17DRP5sb8fy_00", "17DRP5sb8fy_12", "1LXtFkjw3qL_03"]
    assert find_regions(raw / "v1" / "scans") == find_regions(raw)


def test_labels_of_all_four_class_lists_follow_from_segments_objects_and_the_table(raw, tmp_path):
    unknown = convert_region(find_regions(raw)["17DRP5sb8fy_00"], LabelTable.read(raw / LABEL_TABLE), tmp_path)

    def names(file: str, classes: str) -> list[str | None]:
        known = get_class_list(classes).names
        return [known[k] if k >= 0 else None for k in load(tmp_path, file)[::10]]

    assert names("segment", "matterport21") == ["wall", "ceiling", "other", "refrigerator", None, None, None]
    assert names("segment160", "matterport160") == ["wall", "ceiling", "wardrobe", "refrigerator", None, "alarm", None]
    assert names("segment80", "matterport80") == ["wall", "ceiling", "wardrobe", "refrigerator", None, None, None]
    assert names("segment40", "matterport40") == ["wall", "ceiling", None, None, None, None, None]
    assert load(tmp_path, "instance")[::10].tolist() == [0, 1, 2, 3, 4, 5, -1]
    assert unknown == {"object": 1, "alarm": 1}


def test_normals_are_kept_where_the_mesh_has_them(raw, tmp_path):
    table = LabelTable.read(raw / LABEL_TABLE)
    convert_region(find_regions(raw)["17DRP5sb8fy_00"], table, tmp_path / "with")
    assert load(tmp_path / "with", "normal").dtype == np.float16
    assert (load(tmp_path / "with", "normal") == [0, 0, 1]).all()
    write_region(tmp_path / "scan" / "region_segmentations", 1, normals=False)
    convert_region(tmp_path / "scan" / "region_segmentations" / "region1.ply", table, tmp_path / "without")
    assert not (tmp_path / "without" / "normal.npy").exists()


def test_a_missing_or_short_table_is_named(raw, tmp_path):
    with pytest.raises(SceneFolderError, match=r"category_mapping.tsv is missing: it is in the metadata folder"):
        LabelTable.read(tmp_path / LABEL_TABLE)
    (raw / LABEL_TABLE).write_text("index\traw_category\n")
    with pytest.raises(SceneFolderError, match="lacks the columns nyu40id, nyuClass"):
        LabelTable.read(raw / LABEL_TABLE)
    (raw / LABEL_TABLE).write_text("raw_category\tnyu40id\tnyuClass\nwall\n")  # a row that ends early
    assert LabelTable.read(raw / LABEL_TABLE).of21 == {}


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".vsegs.json", None, "region0.vsegs.json is missing"),
        (".vsegs.json", {"segIndices": [1] * 69}, "has 69 segment indices, but the mesh has 70 vertices"),
        (".semseg.json", None, "region0.semseg.json is missing"),
        (".semseg.json", {"groups": []}, "region0.semseg.json has no 'segGroups'"),
        (".semseg.json", {"segGroups": [{"label": "wall"}]}, "object 0 of 'segGroups' has no 'segments'"),
        (".ply", None, "region0.ply is missing"),
    ],
)
def test_a_damaged_region_is_refused_with_file_key_and_expectation(raw, tmp_path, suffix, content, message):
    mesh = find_regions(raw)["17DRP5sb8fy_00"]
    if content is None:
        mesh.with_suffix(suffix).unlink()
    else:
        write_json(mesh.with_suffix(suffix), content)
    assert "17DRP5sb8fy_00" in find_regions(raw)
    with pytest.raises(Mosaic3DError) as caught:
        convert_region(mesh, LabelTable.read(raw / LABEL_TABLE), tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_mesh_without_vertices_is_refused(raw, tmp_path):
    mesh = find_regions(raw)["17DRP5sb8fy_00"]
    write_mesh(mesh, np.zeros((0, 3)))
    with pytest.raises(SceneFolderError, match=r"region0.ply has no vertices"):
        convert_region(mesh, LabelTable.read(raw / LABEL_TABLE), tmp_path / "out")


def test_the_command_skips_a_damaged_region_with_its_reason_and_finds_the_others_done_again(raw, tmp_path):
    (raw / "v1" / "scans" / "17DRP5sb8fy" / "region_segmentations" / "region12.ply").unlink()
    first = prepare("matterport3d", raw, tmp_path / "out")
    assert first.returncode == 0, first.stderr
    assert "2 scenes written, 0 were there, 1 left out" in first.stdout
    assert "region12.ply is missing" in first.stdout
    assert "4 objects are none of the 21 classes: object (2), alarm (2)" in first.stdout
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["17DRP5sb8fy_00", "1LXtFkjw3qL_03"]
    again = prepare("matterport3d", raw, tmp_path / "out")
    assert "0 scenes written, 2 were there, 1 left out" in again.stdout


def test_the_command_takes_the_table_from_elsewhere(raw, tmp_path):
    (raw / LABEL_TABLE).rename(tmp_path / "table.tsv")
    missing = prepare("matterport3d", raw, tmp_path / "out")
    assert missing.returncode == 2
    assert "is in the metadata folder of the Matterport3D repository" in missing.stderr
    done = prepare("matterport3d", raw, tmp_path / "out", "--labels", str(tmp_path / "table.tsv"))
    assert "3 scenes written, 0 were there, 0 left out" in done.stdout
