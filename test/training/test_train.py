"""Training from the command line, small but whole: rooms on disk, a few steps, a checkpoint that loads."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from programs_here import refusal

from training import train

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, timeout: int = 400) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data") / "rooms"
    done = run("training/prepare_data.py", "synthetic", "--rooms", "3", "--out", str(out), "--workers", "1")
    assert done.returncode == 0, done.stderr
    return out


def test_prepared_rooms_go_on_where_they_stopped(rooms):
    assert sorted(p.name for p in rooms.iterdir()) == ["train-0", "train-1", "train-2"]
    before = (rooms / "train-1" / "coord.npy").stat().st_mtime_ns
    assert run("training/prepare_data.py", "synthetic", "--rooms", "3", "--out", str(rooms), "--workers", "1").returncode == 0
    assert (rooms / "train-1" / "coord.npy").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_short_training_lowers_the_loss_and_exports_a_checkpoint_that_encodes(rooms, tmp_path):
    from mosaic3d_core.data.caption_dataset import scene_snapshot
    from mosaic3d_core.data.scene_folder import read_scene_folder
    from mosaic3d_core.models import SceneEncoder

    out = tmp_path / "run"
    done = run(
        "training/train.py",
        f"data.root={rooms}",
        f"out={out}",
        "trainer.max_steps=24",
        "trainer.val_every_steps=24",
        "data.val_scenes=1",
        "data.batch_size=1",
        "data.workers=0",
        "data.max_voxels=15000",
        "optim.warmup_share=0.1",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((out / "result.json").read_text())
    assert result["steps"] == 24
    assert 0 <= result["val/miou"] <= 1
    encoder = SceneEncoder.from_checkpoint(out / "model.safetensors")
    assert encoder.text_encoder_name == "minilm"
    features = encoder.encode(scene_snapshot(read_scene_folder(rooms / "train-0", "rooms")))
    assert np.isfinite(features.features).all()
    with (out / "log" / "metrics.csv").open() as handle:
        losses = [float(row["train/loss"]) for row in csv.DictReader(handle) if row.get("train/loss")]
    # the loss starts near log(number of captions), about 5
    assert losses[-1] < 4.9


def test_training_without_data_says_what_to_run_first(tmp_path):
    said = refusal(train, f"data.root={tmp_path}", f"out={tmp_path / 'run'}")
    assert "run training/prepare_data.py first" in said


def test_rooms_in_which_things_touch_are_scenes_as_others_are(tmp_path):
    command = ("training/prepare_data.py", "touching", "--rooms", "2", "--out", str(tmp_path), "--workers", "1")
    assert run(*command).returncode == 0
    from mosaic3d_core.data.caption_dataset import find_scenes

    names = {folder.name for folder in find_scenes(tmp_path, "rooms")}
    assert names == {"train-chairs-0", "train-on-table-1"}
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npy")}
    assert run(*command).returncode == 0  # a second call finds them
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npy")} == before


@pytest.mark.parametrize("option", [["--rooms", "0"], ["--first-seed", "-1"]])
def test_impossible_numbers_of_rooms_are_refused(option, tmp_path):
    arguments = ["--rooms", "1", "--out", str(tmp_path), *option]
    done = run("training/prepare_data.py", "synthetic", *arguments)
    assert done.returncode == 2
    assert "must be >= 1" in done.stderr
