"""The studies as people run them: one command from nothing to plots, which a second call does not repeat."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from training.reproduce import main
from training.studies import mask_decoder
from training.studies.mosaic3d import QUICK, Scale, arms
from training.studies.runs import Spread

ROOT = Path(__file__).resolve().parents[2]


def reproduce(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "training/reproduce.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)


@pytest.mark.slow
def test_the_quick_study_runs_from_nothing_to_plots(tmp_path):
    done = reproduce("mosaic3d", "--quick", "--out", tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = json.loads((tmp_path / "results.json").read_text())
    assert {(one["arm"], one["seed"]) for one in found["runs"]} == {(arm, 1) for arm in arms(QUICK)}
    for name in ("masks", "rooms", "models", "styles"):
        assert Image.open(tmp_path / f"{name}.png").size[0] > 300
    # even 48 steps on eight rooms learn something; everything else needs the whole study
    (rooms8,) = (one for one in found["runs"] if one["arm"] == "rooms8")
    assert rooms8["val/unseen/f_miou"] > 2 * found["chance"][0]
    assert 0.1 < 100 * found["chance"][0] < 2.0
    started = time.monotonic()
    again = reproduce("mosaic3d", "--quick", "--out", tmp_path)
    assert again.returncode == 0, again.stderr
    assert time.monotonic() - started < 60  # nothing is trained twice
    assert json.loads((tmp_path / "results.json").read_text()) == found


def test_the_whole_study_varies_one_thing_at_a_time():
    scale = Scale()
    found = {name: set(arguments) for name, arguments in arms(scale).items()}
    assert scale.mixed in scale.rooms
    for name in ("boxes", "18a", "34c", "plain_alone"):
        assert len(found["precise"] - found[name]) == 1, name
    for name in ("rooms50", "rooms100", "rooms200"):
        assert len(found["rooms25"] - found[name]) == 1, name
    assert found["mixed"] > found[f"rooms{scale.mixed}"]
    assert len(found["other_alone"] - found["mixed"]) == 1  # half the steps


@pytest.mark.slow
def test_the_quick_study_of_the_mask_decoder_runs_from_nothing_to_plots(tmp_path):
    done = reproduce("mask_decoder", "--quick", "--out", tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = json.loads((tmp_path / "results.json").read_text())
    scale = mask_decoder.QUICK
    assert [(one["arm"], one["seed"]) for one in found["decoders"]] == [(arm, 1) for arm in sorted(scale.arms)]
    scores = {f"{key}@{queries}" for key in ("ap50", "ap25", "class_ap50", "class_ap25") for queries in scale.queries}
    assert all(set(one) == {"arm", "seed", *scores} for one in found["decoders"])
    # the shipped encoder's components find something in any room; eight steps of a decoder need not
    assert found["components"]["given"]["ap50"] > 0.2
    assert all("mean" in one and "deviation" in one for one in found["claims"].values())
    for name in ("objects", "names", "queries"):
        assert Image.open(tmp_path / f"{name}.png").size[0] > 300
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/result.json")}
    again = reproduce("mask_decoder", "--quick", "--out", tmp_path)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/result.json")} == written  # nothing is trained twice
    assert json.loads((tmp_path / "results.json").read_text()) == found
    # another encoder: its decoder is trained anew, the rest stays
    other = next((tmp_path / "runs").glob("mixed_ppt-*/model.safetensors"))
    changed = reproduce("mask_decoder", "--quick", "--out", tmp_path, "--encoder", other)
    assert changed.returncode == 0, changed.stderr
    new = {path.parent.name for path in tmp_path.glob("*/*/result.json") if path.stat().st_mtime_ns != written.get(path)}
    assert new == {"decoder_given-seed1"}


def test_the_study_of_the_mask_decoder_varies_the_encoder_alone(tmp_path):
    scale = mask_decoder.Scale()
    found = {arm: set(mask_decoder.arguments(arm, tmp_path / arm, tmp_path, scale)) for arm in scale.arms}
    assert len(found["given"] - found["plain norms"]) == 1
    assert found["prompt-driven norms"] - found["plain norms"] == {
        f"model.net.backbone_ckpt={tmp_path / 'prompt-driven norms'}", "model.net.backbone_condition=plain",
    }  # fmt: skip
    assert scale.usual in scale.queries


def test_bad_input_gets_one_clear_line(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    none = ("--encoder", str(tmp_path / "none.safetensors"))
    for arguments, said in (
        (["mask_decoder", "--quick", "--out", str(tmp_path), *none], "none.safetensors"),
        (["mosaic3d", "--quick", "--out", str(file)], str(file)),
    ):
        assert main(arguments) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("error: ")
        assert said in shown
    for arguments, said in ((["mosaic4d"], "mosaic3d"), (["mosaic3d", "--out", str(tmp_path), *none], "--encoder belongs to")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_ended_ends_its_trainings(tmp_path, number):
    script = tmp_path / "endless.py"
    script.write_text("import os, pathlib, sys, time\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(300)\n")
    study = (
        "import pathlib, signal\nfrom training.studies.runs import Run, run_all\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)  # as training/reproduce.py does\n"
        f"runs = [Run('endless', k, (f'{tmp_path}/pid{{k}}',), {str(script)!r}) for k in range(3)]\n"
        f"run_all(runs, pathlib.Path({str(tmp_path)!r}), 2)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", study], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids = [tmp_path / f"pid{k}" for k in range(2)]
    end = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)  # to the study alone, not to what it started
    assert process.wait(30) != 0
    for file in pids:
        assert not Path("/proc", file.read_text()).exists()
    assert not (tmp_path / "pid2").exists()


def test_a_figure_comes_with_its_spread():
    assert str(Spread((0.10, 0.12, 0.14))) == "12.0 ± 2.0"
    assert str(Spread((0.10,))) == "10.0"
