"""The data engine as people run it: recordings become captioned scenes, alone or spread by Ray, and nothing is lost by a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mosaic3d_core.data.caption_dataset import find_scenes
from mosaic3d_core.data.caption_files import read_captions
from mosaic3d_core.data.scene_folder import read_scene_folder
from training.build_captions import main

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--segmenter", "rendered", "--captioner", "template", "--every", "2", "--chunk", "2")
ROOM = ("--option", "frames=12", "--option", "width=160", "--option", "height=120")


def build(*arguments: object, python_path: str = "", **more) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "training/build_captions.py", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": python_path}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment, **more)


def contents(folder: Path) -> list[tuple[list[int], tuple[str, ...], int]]:
    scene = read_captions(folder, "gsam2", len(np.load(folder / "coord.npy")))
    return [(mask.tolist(), texts, int(f)) for mask, texts, f in zip(scene.masks, scene.captions, scene.frame, strict=True)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two rooms, worked on in one process without a disturbance."""
    out = tmp_path_factory.mktemp("built")
    done = build("room:3", "room:5", *SMALL, *ROOM, "--out", out, "--json", out / "summary.json")
    assert done.returncode == 0, done.stderr
    return out, done


def test_recordings_become_scenes_that_training_reads(built):
    out, done = built
    assert [p.name for p in find_scenes(out, "gsam2")] == ["room-test-3", "room-test-5"]
    scene = read_scene_folder(out / "room-test-3", "gsam2")
    assert len(scene.masks) > 20
    assert scene.coord.shape == scene.normal.shape == scene.color.shape
    assert len({texts for texts in scene.captions}) > 10
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == 12
    assert summary["frames_per_second"] > 0
    assert "frames/s" in done.stdout.replace("\n", " ")
    counts = summary["counts"]
    assert counts["masks"] == counts["pairs"] + sum(n for what, n in counts.items() if what.startswith("dropped"))
    report = json.loads((out / "room-test-3" / "captions.gsam2.json").read_text())
    assert report["counts"]["pairs"] == len(scene.masks)


def test_a_second_call_finds_everything_done(built):
    out, _ = built
    before = (out / "room-test-3" / "captions.gsam2.npz").stat().st_mtime_ns
    done = build("room:3", "room:5", *SMALL, *ROOM, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "room-test-3" / "captions.gsam2.npz").stat().st_mtime_ns == before


def test_a_killed_run_goes_on_and_ends_in_the_same_pairs(built, tmp_path):
    arguments = ["room:3", "room:5", *SMALL, *ROOM, "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "training/build_captions.py", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    parts = tmp_path / "room-test-3" / ".captions.gsam2"
    deadline = time.monotonic() + 100
    while not list(parts.glob("0*.npz")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {file: file.stat().st_mtime_ns for file in parts.glob("0*.npz")}
    assert kept
    assert not (tmp_path / "room-test-5" / "captions.gsam2.npz").exists()
    done = build(*arguments, "--json", tmp_path / "summary.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "summary.json").read_text())["frames"] <= 12 - 2 * len(kept)  # what was done stays done
    for name in ("room-test-3", "room-test-5"):
        assert contents(tmp_path / name) == contents(built[0] / name)


def test_work_of_other_settings_is_not_mixed(built, tmp_path):
    """The chunks of a stopped run with another threshold are refused, not joined."""
    parts = tmp_path / "room-test-3" / ".captions.gsam2"
    parts.mkdir(parents=True)
    (parts / "settings.json").write_text("{}")
    done = build("room:3", *SMALL, *ROOM, "--out", tmp_path)
    assert done.returncode == 1
    assert "holds work of other settings" in done.stderr


def test_ray_spreads_the_work_and_gives_the_same_pairs(built, tmp_path):
    pytest.importorskip("ray")
    done = build("room:3", "room:5", "nowhere", *SMALL, *ROOM, "--out", tmp_path, "--workers", 2)
    assert done.returncode == 1, done.stderr
    assert "left out nowhere: sequence nowhere does not exist" in done.stderr
    for name in ("room-test-3", "room-test-5"):
        assert contents(tmp_path / name) == contents(built[0] / name)


def test_ray_uses_a_cluster_by_its_address(built, tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        done = build("room:5", *SMALL, *ROOM, "--out", tmp_path, "--workers", 1, "--ray", cluster.address)
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "room-test-5") == contents(built[0] / "room-test-5")


def test_a_segmenter_of_ones_own_plugs_in(tmp_path):
    (tmp_path / "halves.py").write_text(
        "import numpy as np\n"
        "class Halves:\n"
        "    def segment(self, image):\n"
        "        masks = np.zeros((2, *image.shape[:2]), bool)\n"
        "        masks[0, :, : image.shape[1] // 2] = True\n"
        "        masks[1] = ~masks[0]\n"
        "        return masks\n"
        "class Sides:\n"
        "    def caption(self, image, masks):\n"
        "        return ['the left half', 'the right half'][: len(masks)]\n"
    )
    done = build(
        "room:3", *ROOM, "--segmenter", "halves:Halves", "--captioner", "halves:Sides", "--out", tmp_path / "out",
        python_path=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {texts for _, texts, _ in contents(tmp_path / "out" / "room-test-3")} == {("the left half",), ("the right half",)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["room:3", "--segmenter", "magic", "--captioner", "template"], "segmenter magic is unknown: choose grounded-sam"),
        (["room:3", "--segmenter", "rendered", "--captioner", "no_module:x"], "captioner no_module:x cannot be loaded"),
        (
            ["room:3", "--segmenter", "labels:/nowhere", "--captioner", "template"],
            "folder of label images /nowhere does not exist",
        ),
        (["room:3", "--segmenter", "magic", "--captioner", "template", "--workers", "1"], "segmenter magic is unknown"),
        (["room:3", *SMALL, "--every", "0"], "--every must be >= 1, got 0"),
        (["room:3", *SMALL, "--min-area", "2"], "min_area must be in [0, 1]"),
        (["room:3", *SMALL, "--ray", "somewhere:1"], "--ray needs --workers N"),
        (["room:3", *SMALL, "--option", "frames"], "is not of the form NAME=VALUE"),
        (["room:3", "--segmenter", "grounded-sam", "--vocabulary", "/nowhere.txt"], "vocabulary /nowhere.txt cannot be read"),
    ],
)
def test_bad_input_gets_one_clear_line(arguments, message, tmp_path, capsys):
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
