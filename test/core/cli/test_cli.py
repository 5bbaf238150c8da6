"""The command line: what it prints and writes, and how it refuses bad input (exit code 2, one line, no traceback)."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mosaic3d_core import __version__
from mosaic3d_core.cli.up_axis import estimate_up_axis
from mosaic3d_core.mapping import load_map, save_map
from mosaic3d_core.query.feature_store import unpack_features
from mosaic3d_core.query.grid import QueryGrid
from mosaic3d_core.query.instance_map import MapInstance
from mosaic3d_core.query.instance_store import pack_instances
from mosaic3d_core.query.instance_view import InstanceView
from mosaic3d_core.visualization.ply import read_ply, write_labelled_ply

COMMANDS = ("map", "query", "segment", "render", "demo")


def refused(result, *words):
    """The result is a refusal that says all of ``words``."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert "error:" in lines[0]
    for word in words:
        assert word in lines[0]
    return True


def test_version_and_help(command):
    assert command("--version").stdout.strip() == f"mosaic3d {__version__}"
    text = command("--help").stdout
    for name in COMMANDS:
        assert name in text
        result = command(name, "--help")
        assert result.returncode == 0
        assert "examples:" in result.stdout


def test_query_prints_a_table(command, encoded_map_file):
    result = command("query", encoded_map_file, "chair", "toilet")
    assert result.returncode == 0, result.stderr
    assert "chair" in result.stdout
    assert "nothing like that" in result.stdout
    assert re.search(r"0\.(49|50) 0\.(49|50) 0\.2", result.stdout)  # the centre of the red cube


def test_query_prints_json_and_draws(command, encoded_map_file, tmp_path):
    result = command("query", encoded_map_file, "chair", "box", "--json", "--out", tmp_path / "pictures")
    answer = json.loads(result.stdout)
    assert answer["texts"] == ["chair", "box"]
    (chair,) = [found for found in answer["objects"] if found["text"] == "chair"]
    assert chair["center"] == pytest.approx([0.5, 0.5, 0.22], abs=0.03)
    assert chair["size"] == pytest.approx([0.4, 0.4, 0.4], abs=0.06)
    assert 0.35 <= chair["score"] <= 1
    assert chair["num_voxels"] > 100
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["query_01_chair.png", "query_02_box.png"]


def test_things_that_a_node_saved_keep_their_ids(command, encoded_map_file, tmp_path):
    snapshot, metadata, extras = load_map(encoded_map_file, with_extras=True)
    features = unpack_features(snapshot, metadata, extras)
    cells = np.flatnonzero(features.features[:, 1] > 0)  # the red cube
    chair = MapInstance(41, cells, features.features[cells[0]], 0.9, 3, 1, 2, "present")
    grid = QueryGrid.build(snapshot, features.voxel_of_point, features.cells, features.cell_size_m)
    save_map(snapshot, tmp_path / "saved.m3dmap", metadata, extras | pack_instances(InstanceView(grid, [chair])))
    done = command("query", str(tmp_path / "saved.m3dmap"), "chair", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["objects"]
    assert found["id"] == 41
    again = command("query", str(tmp_path / "saved.m3dmap"), "chair", "--json", "--decoder", "components")
    assert all(one["id"] != 41 for one in json.loads(again.stdout)["objects"])


def test_query_options_limit_the_answer(command, encoded_map_file):
    result = command("query", encoded_map_file, "chair", "--json", "--region", 1, 1, 0, 2, 2, 2)
    assert json.loads(result.stdout)["objects"] == []
    result = command("query", encoded_map_file, "chair", "--json", "--min-score", 1.0)
    assert json.loads(result.stdout)["objects"] == []


def test_query_encodes_a_map_without_features(command, map_file, checkpoint):
    result = command("query", map_file, "chair", "--checkpoint", checkpoint, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["voxels"] == len(load_map(map_file))


def test_render_draws_all_pictures(command, encoded_map_file, tmp_path):
    result = command("render", encoded_map_file, "--out", tmp_path / "p", "--labels", "--size", "320x240")
    assert result.returncode == 0, result.stderr
    names = ["labels_perspective.png", "labels_top.png", "map_perspective.png", "map_top.png"]
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == names


@pytest.fixture
def cloud_file(tmp_path):
    from cli_scenes import furniture

    points, colors = furniture()
    zeros = np.zeros(len(points))
    write_labelled_ply(tmp_path / "cloud.ply", points, colors, zeros, zeros, zeros)
    return tmp_path / "cloud.ply"


def test_segment_labels_every_point(command, cloud_file, checkpoint, tmp_path):
    out = tmp_path / "labelled.ply"
    result = command("segment", cloud_file, "--text", "chair", "--text", "table", "--out", out, "--checkpoint", checkpoint)
    assert result.returncode == 0, result.stderr
    assert "100.0%" in result.stdout or "label" in result.stdout
    assert b"comment label 1 table" in out.read_bytes()
    assert (read_ply(out).points == read_ply(cloud_file).points).all()


def test_up_axis_is_estimated_for_rotated_rooms():
    axes = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1), "-x": (-1, 0, 0), "-y": (0, -1, 0), "-z": (0, 0, -1)}
    rng = np.random.default_rng(0)
    floor = np.column_stack([rng.uniform(0, 5, 20000), rng.uniform(0, 4, 20000), rng.normal(0, 0.005, 20000)])
    wall = np.column_stack([rng.uniform(0, 5, 8000), np.zeros(8000), rng.uniform(0, 2.5, 8000)])
    side = np.column_stack([np.zeros(6000), rng.uniform(0, 4, 6000), rng.uniform(0, 2.5, 6000)])
    things = rng.uniform((1, 1, 0), (3, 2, 0.8), (15000, 3))
    room = np.vstack([floor, wall, side, things])
    turns = {
        "z": np.eye(3),
        "y": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
        "-y": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
        "x": np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
    }
    for name, turn in turns.items():
        assert np.allclose(turn @ [0, 0, 1], axes[name])
        assert estimate_up_axis(room @ turn.T, None, axes) == name


def test_stored_features_survive_the_file(encoded_map_file):
    snapshot, metadata, extras = load_map(encoded_map_file, with_extras=True)
    stored = unpack_features(snapshot, metadata, extras)
    assert stored.text_encoder_name == "minilm"
    assert stored.logit_scale == 30.0
    assert len(stored.voxel_of_point) == len(snapshot)
    assert unpack_features(snapshot, {}, {}) is None
    with pytest.raises(ValueError, match="do not belong to its map"):
        unpack_features(snapshot, metadata, {**extras, "voxel_of_point": extras["voxel_of_point"][:5]})
    with pytest.raises(ValueError, match="damaged"):
        unpack_features(snapshot, metadata, {})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("COMMAND",)),
        (("fly",), ("fly",)),
        (("query",), ("MAP",)),
        (("query", "missing.m3dmap", "chair"), ("missing.m3dmap", "does not exist")),
        (("query", "missing.m3dmap", ""), ("text 1 is empty",)),
        (("query", "missing.m3dmap", "x" * 10240), ("10240 characters",)),
        (("query", "missing.m3dmap", "chair", "--min-score", "1.5"), ("min_score", "between 0 and 1")),
        (("query", "missing.m3dmap", "chair", "--min-score", "high"), ("--min-score",)),
        (("query", "missing.m3dmap", "chair", "--max-objects", "-3"), ("max_objects",)),
        (("map", "nowhere", "--out", "x.m3dmap"), ("nowhere",)),
        (("map", "room:1"), ("--out",)),
        (("map", "room:1", "--out", "x.m3dmap", "--voxel-size", "0"), ("--voxel-size", "positive")),
        (("map", "room:1", "--out", "."), ("is a folder",)),
        (("segment", "missing.ply", "--out", "o.ply"), ("missing.ply", "No such file")),
        (("segment", "missing.ply", "--text", " ", "--out", "o.ply"), ("text 1 is empty",)),
        (("segment", "missing.ply", "--out", "o.ply", "--up", "north"), ("--up", "north")),
        (("render", "missing.m3dmap", "--out", "p"), ("missing.m3dmap",)),
        (("render", "missing.m3dmap", "--out", "p", "--size", "big"), ("WIDTHxHEIGHT",)),
    ],
)
def test_bad_input_is_one_clear_line(command, tmp_path, arguments, words):
    refused(command(*arguments, cwd=tmp_path), *words)
    assert not list(tmp_path.rglob("*.m3dmap"))


def test_damaged_files_are_refused(command, encoded_map_file, map_file, checkpoint, cloud_file, tmp_path):
    cut = tmp_path / "cut.m3dmap"
    cut.write_bytes(encoded_map_file.read_bytes()[:5000])
    refused(command("query", cut, "chair"), "cut.m3dmap", "truncated")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(checkpoint.read_bytes()[:2000])
    refused(command("query", map_file, "chair", "--checkpoint", bad), "bad.safetensors")
    short = tmp_path / "short.ply"
    short.write_bytes(cloud_file.read_bytes()[:-100])
    refused(command("segment", short, "--out", tmp_path / "o.ply", "--checkpoint", checkpoint), "truncated")
    assert not (tmp_path / "o.ply").exists()


def test_a_cloud_in_millimetres_is_noticed(command, tmp_path, checkpoint):
    from cli_scenes import furniture

    points, colors = furniture()
    zeros = np.zeros(len(points))
    write_labelled_ply(tmp_path / "mm.ply", points * 1000, colors, zeros, zeros, zeros)
    refused(command("segment", tmp_path / "mm.ply", "--out", tmp_path / "o.ply", "--checkpoint", checkpoint), "--scale")


def test_another_text_encoder_is_refused(command, encoded_map_file):
    refused(command("query", encoded_map_file, "chair", "--text-encoder", "open_clip:ViT-B-16"), "minilm")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused(command, encoded_map_file, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused(command("render", encoded_map_file, "--out", locked), "locked")


def test_a_file_in_place_of_a_folder_is_refused(command, encoded_map_file, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(command("render", encoded_map_file, "--out", tmp_path / "file"), "file")
    refused(command("map", "room:1", "--out", tmp_path / "file" / "x.m3dmap"), "file")


def test_debug_shows_the_traceback(command, tmp_path):
    result = command("query", "missing.m3dmap", "chair", "--debug", cwd=tmp_path)
    assert result.returncode != 0
    assert "Traceback" in result.stderr


def test_a_closed_pipe_is_no_error(encoded_map_file):
    code = f"{sys.executable} -m mosaic3d_core.cli query {encoded_map_file} chair --json | head -c 1 >/dev/null"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {code}"], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    assert "Error" not in result.stderr


def test_a_generated_room_becomes_a_map_with_features(command, checkpoint, tmp_path):
    out = tmp_path / "room.m3dmap"
    result = command("map", "room:1", "--out", out, "--max-frames", 3, "--every", 20, "--checkpoint", checkpoint)
    assert result.returncode == 0, result.stderr
    snapshot, metadata, extras = load_map(out, with_extras=True)
    assert len(snapshot) > 10_000
    assert metadata["frames"] == 3
    assert unpack_features(snapshot, metadata, extras) is not None
    assert "from 3 frames" in result.stdout


@pytest.mark.parametrize("keep", [False, True])
def test_ctrl_c_leaves_no_half_file(tmp_path, keep):
    out = tmp_path / "room.m3dmap"
    extra = ["--keep-partial"] if keep else []
    process = subprocess.Popen(
        [sys.executable, "-m", "mosaic3d_core.cli", "map", "room:1", "--out", str(out), "--no-features", "--debug", *extra],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "fusing 150 frames" in process.stderr.readline()
    time.sleep(3)  # some frames on any machine, and never all of them
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    if keep:
        assert "saved what had been fused" in errors or "nothing was written" in errors
    else:
        assert "nothing was written" in errors
        assert list(tmp_path.iterdir()) == []
    if out.exists():
        assert len(load_map(out)) > 0
