"""The demo as a user starts it: results on disk, clear ends."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from .conftest import ROOT

pytest.importorskip("open3d", reason="generated rooms need open3d (make setup installs it)")
pytestmark = [pytest.mark.ros, pytest.mark.slow]

KEYS = {
    "top1_by_name", "top1_by_synonym", "absent_rejected", "foreground_miou", "frames_published", "frames_fused",
    "frames_dropped", "first_labels_s", "query_ms_median", "query_ms_cached_median",
}  # fmt: skip


def command(*arguments):
    return [sys.executable, "-m", "mosaic3d_ros.demo", *arguments]


def nodes_running(folder):
    """Processes of a demo that writes into the folder: their output files are open there."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                target = os.readlink(f"/proc/{entry}/fd/1")
            except OSError:
                continue
            if target.startswith(str(folder)):
                found.append(int(entry))
    return found


def test_demo_leaves_all_its_results(checkpoint, tmp_path):
    done = subprocess.run(
        command("--quick", "--frames", "16", "--out", str(tmp_path), "--checkpoint", str(checkpoint)),
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) >= KEYS
    assert result["frames_published"] == 16
    assert result["frames_fused"] + sum(result["frames_dropped"].values()) == 16
    assert 0 < result["first_labels_s"] < 60
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures >= {"map_top.png", "map_perspective.png", "labels_top.png", "labels_perspective.png"}
    assert sum(name.startswith("query_") for name in pictures) >= 4
    assert "Queries over ROS 2" in done.stdout
    assert not nodes_running(tmp_path)
    query = subprocess.run(
        [sys.executable, "-m", "mosaic3d_core.cli", "query", str(tmp_path / "map.m3dmap"), "floor", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert query.returncode == 0, query.stderr
    assert json.loads(query.stdout)["voxels"] == result["voxels"]


def test_ctrl_c_ends_all_processes(checkpoint, tmp_path):
    process = subprocess.Popen(
        command("--quick", "--out", str(tmp_path), "--checkpoint", str(checkpoint)), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while len(nodes_running(tmp_path)) < 2 and time.monotonic() < end:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not nodes_running(tmp_path)


def test_a_node_that_dies_is_reported_with_its_last_words(tmp_path):
    missing = tmp_path / "missing.safetensors"
    done = subprocess.run(
        command("--quick", "--out", str(tmp_path), "--checkpoint", str(missing)),
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "perception_node ended with exit code 2" in done.stderr
    assert str(missing) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--frames", "0"], ["--rate", "0"]])
def test_wrong_options_are_refused_at_once(arguments):
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--seed must be 0 or more" in done.stderr


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = subprocess.run(command("--out", str(tmp_path / "file" / "x")), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
