"""Instances of a mask decoder, scored from the command line: on generated rooms and in ScanNet's layout with its 200 classes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from programs_here import composed, here, refusal
from scipy.spatial import cKDTree

from mosaic3d_core.data.mask_file import write_masks
from mosaic3d_core.data.scene_folder import write_scene_folder
from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.data.synthetic.record import record_room
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.metrics.instance_ap import InstanceEvaluator
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.building import build_sparse_unet
from mosaic3d_core.models.checkpoint import OFFICIAL_METADATA
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.mask_decoder import MaskDecoder, MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.checkpoint import save_decoder
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.models.text.cache import CachedTextEncoder
from mosaic3d_core.models.text.prompts import class_prompts
from mosaic3d_core.query.proposals import DecoderProposals, Proposal, ProposalConfig
from training import eval as evaluation_program

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"hidden": 32, "feedforward": 64, "heads": 4, "test_queries": 20}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "training/eval.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def run_here(*arguments: object) -> dict:
    """The same without a process of its own, where something in it is replaced."""
    return evaluation_program.run(composed(evaluation_program, *arguments))


@pytest.fixture(scope="module")
def encoder():
    return SceneEncoder.from_checkpoint(dtype="float32")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Two generated rooms, as `prepare_data.py synthetic` writes them."""
    root = tmp_path_factory.mktemp("rooms_val")
    for k in range(2):
        write_scene_folder(root / f"val-{k}", record_room(k, "val", captions_per_mask=1, max_points=30_000), "rooms")
    return root


def decoder_file(path: Path, head: FoldedHead, change=lambda decoder: None) -> Path:
    torch.manual_seed(0)
    decoder = MaskDecoder(MaskDecoderConfig(text_width=head.text_dim, **SMALL)).eval()
    with torch.no_grad():
        change(decoder)
    save_decoder(path, decoder, head, {"text_encoder": "minilm"})
    return path


@pytest.fixture(scope="module")
def decoder(encoder, tmp_path_factory):
    return decoder_file(tmp_path_factory.mktemp("decoder") / "decoder.safetensors", encoder.head)


class TrueObjects:
    """Knows the truth about some rooms: stands in for a decoder that has learnt everything."""

    def __init__(self, rooms: list[Path], texts: np.ndarray) -> None:
        self.rooms, self.texts = rooms, texts
        self.parts = 1

    def propose(self, feature_map) -> list[Proposal]:
        points = feature_map.snapshot.centroids
        trees = {room: cKDTree(np.load(room / "coord.npy")) for room in self.rooms}
        room = min(self.rooms, key=lambda one: trees[one].query(points[::50])[0].sum())
        nearest = trees[room].query(points)[1]
        instance, segment = (np.load(room / f"{what}.npy")[nearest] for what in ("instance", "segment"))
        ids = np.unique(instance[instance > 0])
        votes = np.zeros((len(feature_map.cells), instance.max() + 1))
        np.add.at(votes, (feature_map.voxel_of_point, instance), 1)
        owner = votes.argmax(1)
        found = []
        for one in ids:
            cells, text = np.flatnonzero(owner == one), self.texts[np.bincount(segment[instance == one]).argmax()]
            found += [
                Proposal(part, 0.9, feature_map.features[cells].mean(0), text) for part in np.array_split(cells, self.parts)
            ]
        return found


@pytest.fixture
def truth(rooms, monkeypatch):
    texts = np.asarray(get_text_encoder("minilm").encode(list(CLASS_NAMES)), np.float32)
    source = TrueObjects(sorted(rooms.iterdir()), texts)
    monkeypatch.setattr(evaluation_program, "DecoderProposals", lambda *_, **__: source)
    return source


def test_the_documented_command_scores_the_instances_of_a_decoder(rooms, decoder, tmp_path):
    text = (ROOT / "docs" / "training.md").read_text()
    (command,) = re.findall(r"^\.venv/bin/python (training/eval\.py data=rooms .*decoder=\S+)$", text, re.MULTILINE)
    words = [
        word.replace("data/rooms_val", str(rooms)).replace("out/train/best.safetensors", str(decoder)) for word in command.split()
    ]
    assert f"data.root={rooms}" in words
    assert f"decoder={decoder}" in words
    done = run(*words[1:], f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    printed = " ".join(done.stdout.split())
    assert "instances of rooms, average precision in percent" in printed
    assert f"instances from decoder {decoder}" in printed
    found = json.loads((tmp_path / "result.json").read_text())["rooms"]
    assert found["scenes"] == 2
    assert found["instances"]["from"] == f"decoder {decoder}"
    assert {"map", "ap50", "ap25", "per_class"} <= set(found["instances"])
    assert all(0 <= found["instances"][name] < 0.5 for name in ("map", "ap50", "ap25"))  # nothing was learnt


def test_perfect_objects_score_near_one_and_worse_ones_score_less(rooms, decoder, truth, tmp_path):
    arguments = ("data=rooms", f"data.root={rooms}", f"decoder={decoder}")
    found = run_here(*arguments, f"out={tmp_path / 'all'}")["rooms"]["instances"]
    assert found["ap25"] > 0.95  # a thing of just a hundred points may be found with a few less, which do not count
    assert found["ap50"] > 0.95
    assert found["map"] > 0.8  # voxels of 4 cm at the borders of small things
    truth.parts = 3
    torn = run_here(*arguments, f"out={tmp_path / 'torn'}")["rooms"]["instances"]
    assert torn["ap50"] < 0.1
    truth.parts, truth.texts = 1, np.roll(truth.texts, 1, axis=0)
    misnamed = run_here(*arguments, f"out={tmp_path / 'misnamed'}")["rooms"]["instances"]
    assert misnamed["ap25"] < 0.1


def test_objects_can_be_named_by_their_voxels_instead(rooms, decoder, truth, tmp_path):
    truth.texts = np.roll(truth.texts, 1, axis=0)  # its own names are wrong
    found = run_here("data=rooms", f"data.root={rooms}", f"decoder={decoder}", "decoder_classes=feature", f"out={tmp_path}")[
        "rooms"
    ]["instances"]
    assert found["ap50"] > 0.1  # the shipped encoder names some things on thin rooms


def test_the_score_is_object_times_mask_times_class_probability(rooms, decoder, encoder, monkeypatch, tmp_path):
    """The pieces put together by hand, with the published treatment of masks."""
    seen = []
    add = InstanceEvaluator.add

    def watched(self, masks, labels, scores, *rest):
        seen.append((np.asarray(masks), labels, scores))
        add(self, masks, labels, scores, *rest)

    monkeypatch.setattr(InstanceEvaluator, "add", watched)
    run_here("data=rooms", f"data.root={rooms}", f"decoder={decoder}", f"out={tmp_path}", "limit=1")
    ((masks, labels, scores),) = seen

    from mosaic3d_core.mapping import MapSnapshot
    from mosaic3d_core.models.mask_decoder.checkpoint import load_decoder

    coord, color, normal = (np.load(rooms / "val-0" / f"{what}.npy") for what in ("coord", "color", "normal"))
    snapshot, row = MapSnapshot.from_points_with_inverse(coord, color, 0.02, normal.astype(np.float32))
    features = encoder.encode(snapshot)
    config = ProposalConfig(min_quality=0.0, min_cells=1, max_gap_m=0.95, max_overlap=1.0)
    proposals = DecoderProposals(load_decoder(decoder).model, config).propose(features)
    large = [p for p in proposals if np.isin(features.voxel_of_point[row], p.cells).sum() >= 100]
    assert len(masks) == len(large) > 0
    texts = get_text_encoder("minilm").encode(list(CLASS_NAMES)).astype(np.float64)
    for mask, label, score, one in zip(masks, labels, scores, large, strict=True):
        assert np.array_equal(mask, np.isin(features.voxel_of_point[row], one.cells))
        odds = np.exp(features.logit_scale * (texts @ one.embedding.astype(np.float64)))
        assert label == odds.argmax()
        assert score == pytest.approx(one.quality * odds.max() / odds.sum(), rel=1e-3)


def test_without_masks_or_decoder_there_are_no_instances(rooms, tmp_path):
    found = run_here("data=rooms", f"data.root={rooms}", f"out={tmp_path}", "limit=1")["rooms"]
    assert "instances" not in found
    assert found["present"]["f_miou"] >= 0


def test_a_second_call_goes_on_and_another_decoder_begins_anew(rooms, decoder, encoder, monkeypatch, tmp_path):
    calls = []
    propose = DecoderProposals.propose

    def counted(self, feature_map):
        calls.append(len(feature_map.cells))
        return propose(self, feature_map)

    monkeypatch.setattr(DecoderProposals, "propose", counted)
    arguments = ("data=rooms", f"data.root={rooms}", f"out={tmp_path / 'out'}", "limit=1")
    first = run_here(*arguments, f"decoder={decoder}")
    assert run_here(*arguments, f"decoder={decoder}") == first
    assert len(calls) == 1
    run_here(*arguments, f"decoder={decoder}", "proposals.max_gap_m=0.1")
    run_here(*arguments, f"decoder={decoder_file(tmp_path / 'other.safetensors', encoder.head)}")
    assert len(calls) == 3


def test_a_decoder_that_finds_nothing_scores_zero(rooms, encoder, tmp_path):
    def blind(decoder: MaskDecoder) -> None:
        decoder.mask_head[2].weight.zero_()
        decoder.mask_head[2].bias.zero_()

    file = decoder_file(tmp_path / "blind.safetensors", encoder.head, blind)
    done = here(evaluation_program, "data=rooms", f"data.root={rooms}", f"decoder={file}", f"out={tmp_path}", "limit=1")
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout.split("instances of rooms")[1]
    found = json.loads((tmp_path / "result.json").read_text())["rooms"]["instances"]
    assert (found["map"], found["ap50"], found["ap25"]) == (0, 0, 0)


@pytest.mark.parametrize(("points", "wanted"), [(1, None), (150, 0)])
def test_a_scene_of_one_voxel_is_scored(encoder, tmp_path, points, wanted):
    """With fewer than a hundred points there is nothing to find, which is no number rather than 0."""
    scene = tmp_path / "rooms" / "dot"
    scene.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.save(scene / "coord.npy", (1 + 0.01 * rng.random((points, 3))).astype(np.float32))
    np.save(scene / "color.npy", np.full((points, 3), 90, np.uint8))
    np.save(scene / "segment.npy", np.full(points, CLASS_NAMES.index("chair"), np.int16))
    np.save(scene / "instance.npy", np.ones(points, np.int32))

    def says_table(decoder: MaskDecoder) -> None:
        decoder.clip_head.weight.zero_()
        decoder.clip_head.bias.copy_(torch.from_numpy(get_text_encoder("minilm").encode(["table"])[0]))

    file = decoder_file(tmp_path / "decoder.safetensors", encoder.head, says_table)
    out = tmp_path / "out"
    done = here(evaluation_program, "data=rooms", f"data.root={tmp_path / 'rooms'}", f"decoder={file}", f"out={out}")
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout.split("instances of rooms")[1]
    text = (out / "result.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["rooms"]["instances"]["ap50"] == wanted


class RandomText:
    """Stands in for the published text encoder, which cannot be here: a fixed random direction per text."""

    name = OFFICIAL_METADATA["text_encoder"]
    dim = 768

    def encode(self, texts):
        rows = np.stack([np.random.default_rng(list(text.encode())).normal(size=768) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def scannet(rooms, tmp_path_factory):
    """Both rooms in ScanNet's layout, a plain net of random weights as it is published, its texts, and a decoder for it."""
    root = tmp_path_factory.mktemp("scannet")
    names = list(get_class_list("scannet200").names)
    of_class = np.array([names.index(c) if c in names else -1 for c in CLASS_NAMES] + [-1])
    for k, room in enumerate(sorted(rooms.iterdir())):
        folder = root / "scannet" / f"scene{k}"
        folder.mkdir(parents=True)
        for what in ("coord", "color"):
            np.save(folder / f"{what}.npy", np.load(room / f"{what}.npy"))
        np.save(folder / "segment200.npy", of_class[np.load(room / "segment.npy")].astype(np.int16))
        np.save(folder / "instance.npy", np.load(room / "instance.npy") - 1)
    torch.manual_seed(0)
    net = build_sparse_unet("spunet14a")
    torch.save({"state_dict": {f"net.{key}": value for key, value in net.state_dict().items()}}, root / "net.ckpt")
    CachedTextEncoder(RandomText.name, RandomText, 768, cache_dir=root / "texts").encode(class_prompts(names))
    decoder_file(root / "decoder.safetensors", SceneEncoder.from_checkpoint(root / "net.ckpt").head)
    return root


def scannet_arguments(root: Path, out: Path) -> tuple[str, ...]:
    files = (f"data.root={root}", f"ckpt_path={root / 'net.ckpt'}", f"text_cache={root / 'texts'}", f"out={out}")
    return ("experiment=train_spunet_scannet", "model=spunet14a", "data.val_datasets=[scannet200]", *files)


@pytest.mark.parametrize("grid", [(), ("voxelization=anchored", "batch_size=1")], ids=["published", "anchored"])
def test_a_decoder_on_a_plain_net_is_scored_by_the_scannet200_protocol(scannet, tmp_path, grid):
    done = here(evaluation_program, *scannet_arguments(scannet, tmp_path), f"decoder={scannet / 'decoder.safetensors'}", *grid)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "result.json").read_text())["scannet200"]["instances"]
    assert {"map", "ap50", "ap25", "head", "common", "tail", "per_class"} <= set(found)
    assert all(found[name] is not None for name in ("map", "ap50", "ap25", "head", "common"))
    assert "wall" not in found["per_class"]


def test_true_objects_on_the_published_grid_score_near_one(scannet, monkeypatch, tmp_path):
    """Points, voxels and masks of every scene of a batch stay together."""
    texts = RandomText().encode(class_prompts(get_class_list("scannet200").names))
    scenes = []
    for scene in sorted((scannet / "scannet").iterdir()):
        centred = tmp_path / scene.name  # the published grid is about the middle of a scene
        centred.mkdir()
        coord = np.load(scene / "coord.npy")
        low, high = coord.min(0), coord.max(0)
        np.save(centred / "coord.npy", coord - [*((low + high) / 2)[:2], low[2]])
        np.save(centred / "segment.npy", np.load(scene / "segment200.npy").clip(0))
        np.save(centred / "instance.npy", np.load(scene / "instance.npy") + 1)
        scenes.append(centred)
    monkeypatch.setattr(evaluation_program, "DecoderProposals", lambda *_, **__: TrueObjects(scenes, texts))
    decoder = scannet / "decoder.safetensors"
    found = run_here(*scannet_arguments(scannet, tmp_path / "out"), f"decoder={decoder}")["scannet200"]["instances"]
    assert found["ap50"] > 0.98
    assert found["head"] > 0.9


def test_what_does_not_fit_is_one_clear_line(rooms, decoder, encoder, tmp_path):
    usual = ("data=rooms", f"data.root={rooms}", f"out={tmp_path / 'out'}", "limit=1")
    other = decoder_file(tmp_path / "other.safetensors", FoldedHead(encoder.head.weight + 1))
    wide = decoder_file(tmp_path / "wide.safetensors", FoldedHead(np.zeros((768, 96), np.float32)))
    write_masks(tmp_path / "masks" / "val-0.npz", np.zeros((0, 5), bool))
    for arguments, message in (
        ((f"decoder={decoder}", f"datasets.rooms.masks={tmp_path / 'masks'}"), "are both given, but instances come from one"),
        ((f"decoder={other}",), "mask decoder other.safetensors was trained with another encoder"),
        ((f"decoder={wide}",), "mask decoder wide.safetensors reads a text space of 768, but the encoder's has 384"),
        (("decoder=nothing.safetensors",), "mask decoder nothing.safetensors does not exist"),
        ((f"decoder={decoder}", "decoder_classes=voxels"), 'decoder_classes must be "embedding" or "feature", got "voxels"'),
        ((f"decoder={decoder}", "proposals.max_overlap=2"), "max_overlap of proposals must be in [0, 1], got 2.0"),
        ((f"decoder={decoder}", "datasets.rooms.instance=objects.npy"), "objects.npy is missing"),
    ):
        said = refusal(evaluation_program, *usual, *arguments)
        assert message in said, arguments
        assert len(said.strip().splitlines()) == 1
