"""Evaluation from the command line: the published commands on scenes in the published layout, and our own rooms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from programs_here import Ended, here, refusal

from mosaic3d_core.data.mask_file import write_masks
from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.data.synthetic.record import record_room
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.metrics.evaluation import SemanticEvaluator
from mosaic3d_core.metrics.instance_ap import InstanceEvaluator
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.building import CONDITIONS, build_prompt_driven
from mosaic3d_core.models.checkpoint import OFFICIAL_METADATA
from mosaic3d_core.models.official_input import centre, official_batch
from mosaic3d_core.models.scene_encoder import DEFAULT_CHECKPOINT
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.models.text.cache import CachedTextEncoder
from mosaic3d_core.models.text.prompts import class_prompts
from training import eval as evaluation_program

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ("experiment=train_spunet_multidata_ppt", "data=sc+ar+sc++", "model=spunet14a+ppt")
SCENES = ("scene0002_00", "scene0010_00", "scene0001_00")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "training/eval.py", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def run(*arguments: object) -> Ended:
    return here(evaluation_program, *arguments)


class RandomText:
    """Stands in for the published text encoder, which cannot be here: a fixed random direction per text."""

    name = OFFICIAL_METADATA["text_encoder"]
    dim = 768

    def encode(self, texts):
        rows = np.stack([np.random.default_rng(sum(map(ord, text))).normal(size=768) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Three scenes in the published layout, made from generated rooms, with ScanNet's two label files."""
    root = tmp_path_factory.mktemp("datasets")
    names20, names200 = (list(get_class_list(name).names) for name in ("scannet20", "scannet200"))
    for seed, name in enumerate(SCENES):
        scene = record_room(seed, "val", captions_per_mask=1, max_points=12_000)
        folder = root / "scannet" / name
        folder.mkdir(parents=True)
        np.save(folder / "coord.npy", scene.coord)
        np.save(folder / "color.npy", scene.color)
        for file, names in (("segment20.npy", names20), ("segment200.npy", names200)):
            of_class = np.array([names.index(c) if c in names else -1 for c in CLASS_NAMES] + [-1])
            np.save(folder / file, of_class[scene.segment].astype(np.int16))
        np.save(folder / "segment.npy", scene.segment)
        np.save(folder / "instance.npy", scene.instance)
        np.save(folder / "normal.npy", scene.normal.astype(np.float16))
    return root


@pytest.fixture(scope="module")
def true_masks(datasets):
    """Proposals as another program hands them on: here the true instances of each scene."""
    folder = datasets / "masks"
    for scene in (datasets / "scannet").iterdir():
        instance = np.load(scene / "instance.npy")
        write_masks(folder / f"{scene.name}.npz", np.stack([instance == i for i in np.unique(instance[instance > 0])]))
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file in the published form with random weights, and the vectors of all class texts."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    net = build_prompt_driven("spunet14a", CONDITIONS[3])
    torch.save({"state_dict": {f"net.{key}": value for key, value in net.state_dict().items()}}, folder / "net.ckpt")
    cache = CachedTextEncoder(RandomText.name, RandomText, 768, cache_dir=folder / "texts")
    for name in ("scannet20", "scannet200"):
        cache.encode(class_prompts(get_class_list(name).names))
    return folder


def published_arguments(datasets, published, out):
    files = (f"data.root={datasets}", f"ckpt_path={published / 'net.ckpt'}", f"text_cache={published / 'texts'}")
    return (*PUBLISHED, *files, f"out={out}")


@pytest.fixture(scope="module")
def evaluated(datasets, published, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    done = command(*published_arguments(datasets, published, out))
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_the_published_command_scores_both_benchmarks(evaluated):
    out, printed = evaluated
    result = json.loads((out / "result.json").read_text())
    assert result["architecture"] == "spunet14a+ppt"
    for name in ("scannet20", "scannet200"):
        assert result[name]["scenes"] == 3
        for protocol in ("official", "present"):
            assert 0 <= result[name][protocol]["f_miou"] <= 1
        assert Image.open(out / f"confusion_{name}.png").size[0] > 300
    assert set(result["scannet200"]["official"]) >= {"head", "common", "tail"}
    assert "present classes only" in printed
    assert "foreground classes with ground truth" in printed


def test_the_scores_are_those_of_the_pieces_put_together_by_hand(evaluated, datasets, published):
    """Published batch of scenes in natural order, published voxels, prompts, condition; then counting."""
    out, _ = evaluated
    encoder = SceneEncoder.from_checkpoint(published / "net.ckpt", condition="ScanNet")
    names = sorted(SCENES)  # numbers of one width: natural order is alphabetical
    coords, colors = ([np.load(datasets / "scannet" / n / f"{what}.npy") for n in names] for what in ("coord", "color"))
    batch = official_batch([centre(c) for c in coords], colors)
    features = encoder.encode_cells(batch.indices, batch.features)[batch.voxel_of_point]
    classes = get_class_list("scannet200")
    text = RandomText().encode(class_prompts(classes.names))
    weight, bias = encoder.head.weight, encoder.head.bias
    logits = (features @ weight.T + bias) @ text.T
    evaluator = SemanticEvaluator(classes)
    evaluator.add(logits, np.concatenate([np.load(datasets / "scannet" / n / "segment200.npy") for n in names]))
    found = json.loads((out / "result.json").read_text())["scannet200"]["official"]
    # bf16 against float32 order of sums can flip single points
    assert found["f_miou"] == pytest.approx(evaluator.scores().f_miou, abs=2e-3)
    assert found["macc"] == pytest.approx(evaluator.scores().macc, abs=2e-3)


def test_a_second_call_goes_on_from_what_is_stored(evaluated, datasets, published, tmp_path):
    out, _ = evaluated
    hidden = datasets / "scannet" / SCENES[0] / "color.npy"
    moved = hidden.rename(tmp_path / "color.npy")
    try:
        again = run(*published_arguments(datasets, published, out))
        assert again.returncode == 0, again.stderr  # nothing was read again
        other = run(*published_arguments(datasets, published, out), "batch_size=1")
        assert other.returncode == 2  # another lattice: read again, and the missing file is named
        assert "color.npy is missing" in other.stderr
    finally:
        moved.rename(hidden)


def test_the_shipped_encoder_is_evaluated_on_rooms(datasets, tmp_path):
    done = run("data=rooms", f"data.root={datasets / 'scannet'}", f"out={tmp_path}", "limit=2")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["rooms"]["scenes"] == 2
    # thinned to a tenth of the points these rooms are hard; chance is below 0.03
    assert result["rooms"]["present"]["f_miou"] > 0.15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model=spunet34c+ppt",), "the checkpoint is a spunet14a+ppt, but model=spunet34c+ppt was asked for"),
        (
            ("data=sc+ar",),
            "the checkpoint knows ScanNet, ARKitScenes, ScanNetPP, but this data set-up lists ScanNet,",
        ),
        (("datasets.scannet20.condition=S3DIS",), "condition 'S3DIS' is unknown: this net has ScanNet"),
        (("datasets.scannet20.folder=nothing",), "no scenes of scannet20"),
        (("datasets.scannet20.split=none.txt",), "split file none.txt of scannet20 does not exist"),
        (("datasets.scannet20.classes=scannet30",), "class list scannet30 is unknown"),
        (("datasets.scannet20.segment=segment200.npy",), "but scannet20 has classes 0 to 19"),
        (("voxelization=usual",), "voxelization must be"),
        (("text_encoder=minilm",), "the checkpoint is aligned with text encoder"),
        (("data.val_datasets=[scannet21]",), "dataset scannet21 is unknown: datasets has scannet20"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(datasets, published, tmp_path, change, message):
    said = refusal(evaluation_program, *published_arguments(datasets, published, tmp_path), *change)
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_a_refusal_is_all_that_the_command_says(datasets, published, tmp_path):
    done = command(*published_arguments(datasets, published, tmp_path), "datasets.scannet20.folder=nothing")
    assert done.returncode == 2
    assert "no scenes of scannet20" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_scene_without_colour_or_points_is_named(datasets, published, tmp_path):
    bad = tmp_path / "data" / "scannet" / "scene0000_00"
    bad.mkdir(parents=True)
    np.save(bad / "coord.npy", np.zeros((3, 3), np.float32))
    arguments = published_arguments(tmp_path / "data", published, tmp_path / "out")
    assert "scene0000_00/color.npy is missing" in run(*arguments).stderr
    np.save(bad / "coord.npy", np.zeros((0, 3), np.float32))
    assert "scene0000_00/coord.npy holds no points" in run(*arguments).stderr


def test_masks_from_elsewhere_get_the_class_of_their_mean_probability(datasets, true_masks, tmp_path):
    arguments = (f"data.root={datasets / 'scannet'}", f"datasets.rooms.masks={true_masks}", f"out={tmp_path}", "limit=2")
    done = run("data=rooms", *arguments)
    assert done.returncode == 0, done.stderr
    assert "instances of rooms, average precision in percent" in " ".join(done.stdout.split())
    found = json.loads((tmp_path / "result.json").read_text())["rooms"]["instances"]

    encoder, classes = SceneEncoder.from_checkpoint(DEFAULT_CHECKPOINT, dtype="float32"), get_class_list("rooms")
    text = get_text_encoder("minilm").encode(list(classes.names))
    evaluator = InstanceEvaluator(classes)
    for name in sorted(SCENES)[:2]:
        folder = datasets / "scannet" / name
        coord, color, normal, segment, instance = (
            np.load(folder / f"{what}.npy") for what in ("coord", "color", "normal", "segment", "instance")
        )
        snapshot, row = MapSnapshot.from_points_with_inverse(coord, color, 0.02, normal.astype(np.float32))
        features = encoder.encode(snapshot)
        cosine = encoder.head.cosine(features.features, features.norms, text)[features.voxel_of_point][row]
        odds = np.exp(encoder.logit_scale * cosine.astype(np.float64))
        probability = odds / odds.sum(1, keepdims=True)
        masks = [instance == i for i in np.unique(instance[instance > 0])]
        means = np.stack([probability[mask].mean(0) for mask in masks])
        evaluator.add(masks, means.argmax(1), means.max(1), segment, np.where(instance == 0, -1, instance))
    wanted = evaluator.scores()
    assert (found["map"], found["ap50"], found["ap25"]) == pytest.approx((wanted.map, wanted.ap50, wanted.ap25), abs=1e-3)
    assert wanted.ap50 > 0.1  # the masks are perfect and these rooms thin: many classes are wrong, but far from all


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "scene0001_00.npz is missing: a folder of masks needs one SCENE.npz for every scene"),
        (lambda path: np.savez(path, masks=np.zeros((2, 5))), "has no array 'masks_binary', only ['masks']"),
        (lambda path: np.savez(path, masks_binary=np.zeros((2, 5))), "masks_binary has shape (2, 5), expected (masks, "),
        (lambda path: path.write_text("no archive"), "is damaged or not an .npz archive"),
    ],
)
def test_masks_that_do_not_fit_are_named(datasets, tmp_path, write, message):
    folder = tmp_path / "masks"
    folder.mkdir()
    write(folder / "scene0001_00.npz")
    arguments = (f"data.root={datasets / 'scannet'}", f"datasets.rooms.masks={folder}", f"out={tmp_path / 'out'}", "limit=1")
    done = run("data=rooms", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["matterport21", "matterport160", "scannetpp", "s3dis"])
def test_every_other_benchmark_is_scored_under_a_condition_that_the_checkpoint_has(datasets, published, tmp_path, name):
    """The class texts of these lists are not in the store of vectors, so the shipped encoder and its text encoder score them."""
    listed = tmp_path / "classes.txt"
    listed.write_text("wall\nfloor\nchair\ntable\nsofa\nwindow\nother\n")
    classes = get_class_list(str(listed) if name == "scannetpp" else name)
    folder = tmp_path / "data" / "set" / "scene1"
    folder.mkdir(parents=True)
    source = datasets / "scannet" / SCENES[0]
    for what in ("coord", "color", "normal"):
        np.save(folder / f"{what}.npy", np.load(source / f"{what}.npy"))
    named = np.array([classes.names.index(c) if c in classes.names else -1 for c in CLASS_NAMES] + [-1])
    np.save(folder / "labels.npy", named[np.load(source / "segment.npy")].astype(np.int16))
    which = (f"data.val_datasets=[{name}]", f"datasets.{name}.folder=set", f"datasets.{name}.segment=labels.npy")
    own = (f"datasets.{name}.classes={listed}",) if name == "scannetpp" else ()
    arguments = (f"data.root={tmp_path / 'data'}", f"datasets.{name}.condition=null", f"out={tmp_path / 'out'}")
    done = run("data=rooms", *which, *own, *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())[name]
    assert len(result["iou"]) == len(classes)
    assert result["present"]["miou"] > 1.5 / len(classes)  # better than by chance


def test_a_benchmark_without_a_public_class_list_asks_for_one(datasets, tmp_path):
    done = run("data=rooms", "data.val_datasets=[scannetpp]", f"data.root={datasets}", f"out={tmp_path}")
    assert done.returncode == 2
    assert "datasets.scannetpp.classes=FILE" in done.stderr
