"""Training as the README of Mosaic3D shows it, on small scenes in the published layout: conditions, resuming, two processes."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from programs_here import composed, here, refusal
from safetensors.torch import load_file

from mosaic3d_core.data.caption_files import write_captions, write_frame_captions
from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.data.synthetic.record import record_room
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.models import load_checkpoint
from mosaic3d_core.models.building import build_prompt_driven
from training import eval as evaluation_program
from training import train
from training.optimizers import build_optimizer
from training.outputs import read_log

ROOT = Path(__file__).resolve().parents[2]
#: A net of the published kind, small enough for seconds on a CPU, and the text encoder that is at hand.
SMALL = (
    "experiment=train_spunet_multidata_ppt",
    "data=sc+ar",
    "model=spunet14a+ppt",
    "+model.overrides.channels=[8,8,16,16,16,8,8,8]",
    "+model.overrides.base=8",
    "model.out_channels=384",
    "text_encoder=minilm",
    "trainer=cpu",
    "trainer.precision=32-true",
    "data.workers=0",
    "data.batch_size=1",
    "data.val_scenes=1",
    "data.val_datasets=[scannet20]",
    "data.repeat=1",
    "optim.lr=0.01",
)


def run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "training/train.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False, **options)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Two data sets of three scenes each, with two caption sources, in both forms, and split files."""
    root = tmp_path_factory.mktemp("published")
    names20 = list(get_class_list("scannet20").names)
    for number, name in enumerate(("scannet", "arkitscenes")):
        for k in range(3):
            room = record_room(10 * number + k, "train", captions_per_mask=1, max_points=8_000)
            folder = root / name / f"scene{k}"
            folder.mkdir(parents=True)
            of_class = np.array([names20.index(c) if c in names20 else -1 for c in CLASS_NAMES] + [-1])
            for what, array in (("coord", room.coord), ("color", room.color), ("instance", room.instance)):
                np.save(folder / f"{what}.npy", array)
            for file in ("segment.npy", "segment20.npy"):
                np.save(folder / file, of_class[room.segment].astype(np.int16))
            write_frame_captions(folder, "gsam2", [room.masks[::2], room.masks[1::2]], _texts(room.captions))
            write_captions(folder, "seem", room.masks, room.captions)
        (root / f"{name}_train.txt").write_text("scene0\nscene1\nscene2\n")
    return root


def _texts(captions):
    return [[group[0] for group in captions[::2]], [group[0] for group in captions[1::2]]]


def test_the_published_command_trains_a_net_with_conditions_that_evaluates(datasets, tmp_path):
    out = tmp_path / "run"
    epochs = ("trainer.max_epochs=2", "trainer.max_steps=-1", "trainer.val_every_steps=null")
    done = here(train, *SMALL, f"data.root={datasets}", f"out={out}", *epochs)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((out / "result.json").read_text())
    assert result["steps"] == 2 * 2 * 3  # epochs, data sets, scenes
    assert 0 <= result["val/scannet20/f_miou"] <= 1
    assert Image.open(out / "curves.png").size[0] > 500
    assert Image.open(out / "validation_scene.png").size[0] > 1440
    loaded = load_checkpoint(out / "best.safetensors")
    assert loaded.config.conditions == ("ScanNet", "ARKitScenes")
    arguments = ("data=sc+ar", "model=spunet14a+ppt", f"data.root={datasets}", f"ckpt_path={out / 'best.safetensors'}")
    one = ("experiment=train_spunet_multidata_ppt", "text_encoder=minilm", "data.val_datasets=[scannet20]")
    evaluated = here(evaluation_program, *one, *arguments, f"out={tmp_path / 'eval'}")
    assert evaluated.returncode == 0, evaluated.stderr[-2000:]


def test_a_killed_run_resumes_to_the_same_numbers(datasets, tmp_path):
    """Killed in the middle of an epoch, resumed, and compared with a run that nobody disturbed."""
    steps = ("trainer.max_steps=10", "trainer.val_every_steps=100", "save_every=4")
    arguments = (*SMALL, f"data.root={datasets}", *steps, "threads=1")  # with more, sums add up in the order in which threads end
    whole = run(*arguments, f"out={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr[-2000:]
    out = tmp_path / "killed"
    command = [sys.executable, "training/train.py", *arguments, f"out={out}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "last.ckpt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = torch.load(out / "last.ckpt", weights_only=True)
    assert state["global_step"] in (4, 8)
    resumed = run(*arguments, f"out={out}", "resume=true")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    for name, value in one.items():
        assert torch.equal(value, other[name]), f"{name}, resumed at step {state['global_step']}"
    (all_steps, losses), (steps, kept) = (read_log(tmp_path / name)["train/loss"] for name in ("whole", "killed"))
    assert all_steps.tolist() == list(range(10))
    # a step may be saved and not yet logged when the process is killed
    assert set(range(10)) - set(steps.tolist()) <= {state["global_step"] - 1.0}
    assert kept.tolist() == losses[steps.astype(int)].tolist()


def test_a_full_disk_leaves_the_last_checkpoint_whole(datasets, tmp_path):
    """The limit of file sizes stands for the disk: every larger write fails, as on a full one."""
    steps = ("trainer.max_steps=6", "trainer.val_every_steps=100", "save_every=2", "threads=1")
    arguments = (*SMALL, f"data.root={datasets}", f"out={tmp_path}", *steps)
    first = run(*arguments)
    assert first.returncode == 0, first.stderr[-2000:]
    before = (tmp_path / "last.ckpt").read_bytes()
    exported = (tmp_path / "model.safetensors").read_bytes()
    files = {p.name for p in tmp_path.iterdir() if p.is_file()}
    limit = len(before) // 2

    def shrink():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    full = run(*arguments, preexec_fn=shrink)
    assert full.returncode == 2, full.stderr[-2000:]
    assert "cannot write checkpoint" in full.stderr
    assert "the one before is kept" in full.stderr
    assert "Traceback" not in full.stderr
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert (tmp_path / "model.safetensors").read_bytes() == exported
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == files  # and nothing half-written beside it
    again = run(*arguments, "resume=true")
    assert again.returncode == 0, again.stderr[-2000:]
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 6


def test_a_one_cycle_schedule_that_has_ended_says_so(datasets, tmp_path):
    steps = ("trainer.val_every_steps=100", "save_every=2")
    arguments = (*SMALL, f"data.root={datasets}", f"out={tmp_path}", *steps)
    assert here(train, *arguments, "trainer.max_steps=2").returncode == 0
    assert "laid out for 2 steps" in refusal(train, *arguments, "trainer.max_steps=6", "resume=true")


def test_two_processes_train_together(datasets, tmp_path):
    """Gloo on this machine, each with its share of the batches; every rank ends with the same net."""
    arguments = (
        *SMALL,
        f"data.root={datasets}",
        f"out={tmp_path}",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
    )
    steps = ("trainer.max_steps=4", "trainer.max_epochs=null", "trainer.val_every_steps=4", "threads=1", "loss=region")
    found = [one for one in arguments if one != "trainer=cpu"]
    done = run(*found, *steps, "trainer.precision=32-true")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 4


@pytest.mark.parametrize("loss", ["region", "sigmoid", "region_alignment", "point_alignment"])
def test_every_loss_trains(datasets, tmp_path, loss):
    steps = ("trainer.max_steps=2", "trainer.val_every_steps=2", "trainer.accumulate_grad_batches=1")
    done = here(train, *SMALL, f"data.root={datasets}", f"out={tmp_path}", f"loss={loss}", *steps)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("data.datasets.scannet.split=none.txt",), "none.txt does not exist: write one scene per line"),
        (("data.datasets.scannet.sources=[osprey]",), "its scenes have captions of gsam2, seem"),
        (("data.datasets.arkitscenes.folder=nothing",), "arkitscenes: no scenes with captions 'gsam2', 'seem'"),
        (("data.datasets.scannet.transforms=usual",), "transforms usual are unknown: choose rooms, published, none"),
        (
            ("data.datasets.scannet.condition=Kitchen",),
            "every dataset needs a condition of data.conditions (ScanNet,",
        ),
        (("model=spunet14a+ppt", "model.variant=spunet15"), 'unknown encoder "spunet15"'),
        (("datasets.scannet20.condition=Kitchen",), "validation set scannet20 needs condition Kitchen, but ScanNet,"),
        (("loss.kind=cosine",), "loss cosine is unknown: choose caption"),
        (("optim.kind=adam",), "optim.kind adam is unknown"),
        (("trainer.precision=8-mixed",), "trainer.precision 8-mixed is unknown"),
        (("logger.kind=paper",), "logger paper is unknown: choose csv, tensorboard or wandb"),
        (("voxelization=usual",), "voxelization must be"),
        (("optim.lr=1e30", "trainer.max_steps=6"), "look at these scenes, or lower optim.lr"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(datasets, tmp_path, change, message):
    assert message in refusal(train, *SMALL, f"data.root={datasets}", f"out={tmp_path}", *change)


def test_modulations_move_slower_under_adamw_and_as_published_under_sgd():
    net = build_prompt_driven("spunet14a+ppt", ("A", "B"), channels=(8,) * 8, base=8)
    common = {"lr": 0.1, "weight_decay": 0.02, "momentum": 0.9, "nesterov": True}
    groups = build_optimizer(net, {**common, "kind": "adamw", "prompt_lr_share": 0.02}).param_groups
    prompt = {id(p) for name, p in net.named_parameters() if ".modulation." in name or "embedding_table" in name}
    slow = {id(p) for group in groups for p in group["params"] if group["lr"] < 0.1}
    assert slow == prompt
    assert {group["lr"] for group in groups} == {0.1, 0.1 * 0.02}
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    (only,) = build_optimizer(net, {**common, "kind": "sgd"}).param_groups
    assert only["lr"] == 0.1


def test_an_unknown_choice_lists_the_known_ones(tmp_path):
    done = run("data=sc+xy", f"out={tmp_path}")
    assert done.returncode != 0
    assert "sc+ar" in done.stderr


def test_the_form_that_the_readme_of_mosaic3d_prints_is_accepted_with_a_hint(capsys):
    assert train._accept_published_form(["data=sc", "trainer.ddp", "trainer.devices=8"]) == [
        "data=sc",
        "trainer=ddp",
        "trainer.devices=8",
    ]
    assert "hint: trainer.ddp is taken for trainer=ddp" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["sc", "sc+ar", "sc+ar+sc++", "sc+ar+sc+++ma", "sc+ar+sc+++ma+st"])
@pytest.mark.parametrize(
    "experiment", ["train_spunet_multidata_ppt", "train_spunet_multidata", "train_spunet_scannet", "train_spunet_scannet_iter"]
)
def test_every_published_set_up_is_put_together(experiment, data):
    config = composed(train, f"experiment={experiment}", f"data={data}", "trainer=ddp", "trainer.devices=8", "logger=wandb")
    assert config.trainer.devices == 8
    assert config.logger.kind == "wandb"
    assert config.optim.kind == "sgd"
    assert config.loss.max_scale is None
    assert next(iter(config.data.datasets)) == "scannet"
    assert len(config.data.datasets) == data.count("+") - 2 * data.count("++") + 1
    assert {spec.condition for spec in config.data.datasets.values()} == set(config.data.conditions)
    if experiment == "scannet_iter":
        assert config.trainer.max_steps == 50_000
