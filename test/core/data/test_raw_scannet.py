"""Scans in ScanNet's raw form become scene folders that training and evaluation read; the scans here are made up in that form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mosaic3d_core.data.caption_files import SceneFolderError, write_captions
from mosaic3d_core.data.raw.scannet import LABEL_TABLE, LabelTable, convert_scan, find_scans
from mosaic3d_core.data.scene_folder import read_scene_folder
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.visualization.ply import write_labelled_ply

ROOT = Path(__file__).resolve().parents[3]
TABLE = """id\traw_category\tcategory\tcount\tnyu40id
1\twall\twall\t9\t1
2\toffice chair\toffice chair\t8\t5
3\tarmchair\tarmchair\t7\t5
4\tlaptop bag\tbag\t3\t37
5\tunicorn\tunicorn\t1\t40
"""


def write_scan(folder: Path, labelled: bool = True, points: int = 60) -> None:
    """Six segments of ten points: a wall of two, an office chair of one, a bag of one, a unicorn of one, one unlabelled."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    zeros = np.zeros(points)
    mesh = folder / f"{folder.name}_vh_clean_2.ply"
    write_labelled_ply(mesh, rng.uniform(0, 4, (points, 3)), rng.integers(0, 256, (points, 3)), zeros, zeros, zeros)
    if not labelled:
        return
    segments = {"segIndices": [100 + i // 10 for i in range(60)]}
    (folder / f"{folder.name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
    groups = [("wall", [100, 101]), ("office chair", [102]), ("laptop bag", [103]), ("unicorn", [104])]
    objects = [{"objectId": k, "label": label, "segments": ids} for k, (label, ids) in enumerate(groups)]
    (folder / f"{folder.name}.aggregation.json").write_text(json.dumps({"segGroups": objects}))


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / LABEL_TABLE).write_text(TABLE)
    write_scan(tmp_path / "raw" / "scans" / "scene0000_00")
    write_scan(tmp_path / "raw" / "scans_test" / "scene0707_00", labelled=False)
    return tmp_path / "raw"


def test_labels_follow_from_segments_objects_and_the_table(raw, tmp_path):
    unknown = convert_scan(raw / "scans" / "scene0000_00", LabelTable.read(raw / LABEL_TABLE), tmp_path / "out")
    names = get_class_list("scannet200").names
    twenty, many, instance = (np.load(tmp_path / "out" / f"{what}.npy") for what in ("segment20", "segment200", "instance"))
    assert twenty[::10].tolist() == [0, 0, 4, -1, -1, -1]  # wall, wall, chair, nyu40 37 and 40 are none of the 20
    assert [names[k] if k >= 0 else None for k in many[::10]] == ["wall", "wall", "office chair", "bag", None, None]
    assert instance[::10].tolist() == [0, 0, 1, 2, 3, -1]
    assert unknown == {"unicorn": 1}


def test_a_test_scan_has_no_labels_and_trains_without(raw, tmp_path):
    out = tmp_path / "scannet" / "scene0707_00"
    convert_scan(raw / "scans_test" / "scene0707_00", LabelTable.read(raw / LABEL_TABLE), out)
    assert (np.load(out / "segment20.npy") == -1).all()
    write_captions(out, "gsam2", [np.arange(5)], [("a thing",)])
    scene = read_scene_folder(out, "gsam2")  # segment.npy is not there either, as in the published training sets
    assert (scene.segment == -1).all()
    assert scene.captions == [("a thing",)]


def test_the_command_goes_on_where_it_stopped_and_says_what_it_left_out(raw, tmp_path):
    write_scan(raw / "scans" / "scene0001_00")
    (raw / "scans" / "scene0001_00" / "scene0001_00_vh_clean_2.0.010000.segs.json").write_text('{"segIndices": [1, 2]}')
    write_scan(raw / "scans" / "scene0002_00")
    (raw / "scans" / "scene0002_00" / "scene0002_00.aggregation.json").write_text("no json")
    command = [sys.executable, "training/prepare_data.py", "scannet", "--raw", str(raw), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 scenes written, 0 were there, 2 left out" in done.stdout
    assert "has 2 segment indices, but the mesh has 60 vertices" in done.stdout
    assert "is not JSON" in done.stdout
    assert "1 objects are none of the 200 classes: unicorn (1)" in done.stdout
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["scene0000_00", "scene0707_00"]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert "0 scenes written, 2 were there, 2 left out" in again.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"groups": []}, "scene0000_00.aggregation.json has no 'segGroups'"),
        ({"segGroups": [{"label": "wall", "objectId": 0}]}, "object 0 of 'segGroups' has no 'segments'"),
        ({"segGroups": [{"label": "wall", "segments": [100]}]}, "object 0 of 'segGroups' has no 'objectId'"),
        ({"segGroups": [{"label": "wall", "objectId": 0, "segments": "100"}]}, "'segments' must be a list of integers"),
    ],
)
def test_a_damaged_aggregation_is_refused_with_file_key_and_expectation(raw, tmp_path, content, message):
    scan = raw / "scans" / "scene0000_00"
    (scan / "scene0000_00.aggregation.json").write_text(json.dumps(content))
    with pytest.raises(SceneFolderError) as caught:
        convert_scan(scan, LabelTable.read(raw / LABEL_TABLE), tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_where_objects_share_a_segment_the_last_one_has_it(raw, tmp_path):
    scan = raw / "scans" / "scene0000_00"
    objects = [{"objectId": k, "label": label, "segments": [100, 101 + k]} for k, label in enumerate(["wall", "armchair"])]
    (scan / "scene0000_00.aggregation.json").write_text(json.dumps({"segGroups": objects}))
    convert_scan(scan, LabelTable.read(raw / LABEL_TABLE), tmp_path / "out")
    assert np.load(tmp_path / "out" / "segment20.npy")[::10].tolist() == [4, 0, 4, -1, -1, -1]


def test_missing_scans_and_tables_are_named(raw, tmp_path):
    assert list(find_scans(raw)) == ["scene0000_00", "scene0707_00"]
    command = [sys.executable, "training/prepare_data.py", "scannet", "--raw", str(tmp_path / "none"), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "no scenes in" in done.stderr
    with pytest.raises(SceneFolderError, match="is part of ScanNet's download"):
        LabelTable.read(tmp_path / LABEL_TABLE)
    (raw / LABEL_TABLE).write_text("id\tname\n")
    with pytest.raises(SceneFolderError, match="lacks the columns category, nyu40id, raw_category"):
        LabelTable.read(raw / LABEL_TABLE)
