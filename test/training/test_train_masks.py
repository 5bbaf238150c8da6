"""Stage 2 as people run it: the mask decoder on generated rooms and on gathered captions, in both published command forms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from programs_here import here, refusal
from safetensors.torch import load_file

from mosaic3d_core.data.caption_files import write_captions
from mosaic3d_core.data.scene_folder import write_scene_folder
from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.data.synthetic.record import record_room
from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.models.building import build_sparse_unet
from mosaic3d_core.models.checkpoint import save_checkpoint
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.mask_decoder import MaskDecoder, MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.checkpoint import load_decoder, save_decoder
from mosaic3d_core.models.mask_decoder.segment3d import read_segment3d, take_over
from mosaic3d_core.models.scene_encoder import SceneEncoder
from training import train

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "model.net.hidden=32", "model.net.feedforward=64", "model.net.heads=4", "model.net.queries=12", "trainer=cpu",
    "trainer.precision=32-true", "trainer.max_epochs=null", "data.workers=0", "data.batch_size=1", "data.val_scenes=1",
    "threads=1",
)  # fmt: skip


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "training/train.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Two rooms with true instances, and the same in ScanNet's layout with gathered captions."""
    root = tmp_path_factory.mktemp("rooms")
    names = list(get_class_list("scannet200").names)
    of_class = np.array([names.index(c) if c in names else -1 for c in CLASS_NAMES] + [-1])
    for k in range(2):
        room = record_room(k, "train", captions_per_mask=2, max_points=8_000)
        write_scene_folder(root / "rooms" / f"train-{k}", room, "rooms")
        folder = root / "scannet" / f"scene{k}"
        folder.mkdir(parents=True)
        np.save(folder / "coord.npy", room.coord)
        np.save(folder / "color.npy", room.color)
        np.save(folder / "segment200.npy", of_class[room.segment].astype(np.int16))
        np.save(folder / "instance.npy", room.instance - 1)
        write_captions(folder, "segment3d-gathered", room.masks, room.captions)
    (root / "scannet_train.txt").write_text("scene0\nscene1\n")
    return root


def test_the_decoder_trains_on_true_instances_and_belongs_to_its_encoder(rooms, tmp_path):
    done = run(
        "experiment=train_mask_decoder_rooms", *SMALL, f"data.root={rooms / 'rooms'}", "datasets.rooms_val.folder=.",
        f"out={tmp_path}", "trainer.max_steps=4", "trainer.val_every_steps=4", "save_every=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 4
    assert {"val/ap50", "val/ap25", "val/class_ap50"} <= set(result)
    assert Image.open(tmp_path / "curves.png").size[0] > 400
    loaded = load_decoder(tmp_path / "decoder.safetensors")
    encoder = SceneEncoder.from_checkpoint()
    loaded.check_encoder(encoder.head, "decoder.safetensors")
    with pytest.raises(CheckpointError, match="trained with another encoder"):
        loaded.check_encoder(FoldedHead(encoder.head.weight + 1), "decoder.safetensors")
    with pytest.raises(CheckpointError, match=r"reads a text space of 384, but the encoder's has 768"):
        loaded.check_encoder(FoldedHead(np.zeros((768, 96))), "decoder.safetensors")
    more = here(
        train,
        "experiment=train_mask_decoder_rooms", *SMALL, f"data.root={rooms / 'rooms'}", "datasets.rooms_val.folder=.",
        f"out={tmp_path}", "trainer.max_steps=6", "trainer.val_every_steps=6", "resume=true",
    )  # fmt: skip
    assert more.returncode == 0, more.stderr[-3000:]
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 6


@pytest.fixture(scope="module")
def color_encoder(tmp_path_factory):
    """An untrained encoder of colours at 2 cm, which is what the published voxelisation feeds."""
    torch.manual_seed(0)
    model = build_sparse_unet("narrow", in_channels=3, base=8, channels=(8,) * 8, blocks=(1,) * 8)
    about = {"text_encoder": "minilm", "voxel_size_m": 0.02, "input_channels": ["color"], "logit_scale": 20.0}
    path = tmp_path_factory.mktemp("encoder") / "color.safetensors"
    save_checkpoint(path, model, about)
    return path


def test_the_published_command_trains_on_gathered_captions_in_two_processes(rooms, color_encoder, tmp_path):
    encoder = color_encoder
    done = run(
        "experiment=train_opensegment3d_scannet", f"model.net.backbone_ckpt={encoder}",
        *(one for one in SMALL if one != "trainer=cpu"), "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu",
        f"data.root={rooms}", f"out={tmp_path}", "trainer.max_steps=2", "trainer.val_every_steps=2", "data.max_masks=6",
        "loss.auxiliary=true", "data.val_scenes=2",
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 2
    assert load_decoder(tmp_path / "decoder.safetensors").model.config.queries == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model.net.backbone_ckpt=nothere.ckpt",), "checkpoint nothere.ckpt does not exist"),
        (("data.val_datasets=[kitchens]",), "validation set kitchens is unknown: datasets has"),
        (("model.net.heads=5",), "must be even and a multiple of the 5 heads"),
        (("voxelization=official",), "feeds colour only"),
        (("data.datasets.rooms.sources=[truth,rooms]",), 'source "truth" stands alone'),
        (("optim.lr=1e30", "trainer.max_steps=6"), "look at these scenes, or lower optim.lr"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(rooms, tmp_path, change, message):
    usual = ("experiment=train_mask_decoder_rooms", *SMALL, f"data.root={rooms / 'rooms'}", "datasets.rooms_val.folder=.")
    assert message in refusal(train, *usual, f"out={tmp_path}", *change)


def segment3d_state(hidden: int = 128) -> dict[str, torch.Tensor]:
    """Weights under Segment3D's names: lists of lists, one entry per level, and projections as convolutions."""
    g = torch.Generator().manual_seed(0)
    own = MaskDecoder(MaskDecoderConfig(hidden=hidden)).state_dict()
    back = {"query_proj": "query_projection", "mask_head": "mask_embed_head", "class_head": "class_embed_head"}
    state = {"criterion.empty_weight": torch.ones(2), "model.backbone.final.kernel": torch.zeros(3, 3)}
    for name, value in own.items():
        head, _, rest = name.partition(".")
        random = torch.randn(value.shape, generator=g)
        if head in ("cross_attention", "self_attention", "ffn"):
            for level in range(3):
                listed = {"ffn": "ffn_attention"}.get(head, head)
                state[f"model.{listed}.0.{level}.{rest.removeprefix('0.')}"] = random + level
        elif head == "query_proj":
            state[f"model.query_projection.{rest}"] = random[..., None] if rest.endswith("weight") else random
        elif head in ("decoder_proj", "linear"):
            state[f"model.mask_features_head.{rest}.{head}"] = torch.zeros(96)
        elif head != "clip_head":
            state[f"model.{back.get(head, head)}.{rest}"] = random
    return state


def test_segment3d_weights_start_the_decoder_attention_included(rooms, tmp_path):
    state = segment3d_state()
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "segment3d.ckpt")
    command = [
        sys.executable,
        "training/download_segment3d.py",
        "--file",
        tmp_path / "segment3d.ckpt",
        "--out",
        tmp_path / "s.safetensors",
    ]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "clip_head.bias" in done.stdout
    decoder = MaskDecoder(MaskDecoderConfig())
    taken = take_over(decoder, load_file(tmp_path / "s.safetensors"))
    found = decoder.state_dict()
    assert set(taken.random) == {f"{n}.{k}" for n in ("decoder_proj", "linear.0", "clip_head") for k in ("weight", "bias")}
    assert torch.equal(found["ffn.0.linear1.weight"], state["model.ffn_attention.0.2.linear1.weight"])  # the finest level
    assert torch.equal(found["query_proj.layers.0.weight"], state["model.query_projection.layers.0.weight"][..., 0])
    assert torch.equal(found["pos_enc.gauss_B"], state["model.pos_enc.gauss_B"])
    with pytest.raises(CheckpointError, match="no weight of this checkpoint fits"):
        take_over(MaskDecoder(MaskDecoderConfig(hidden=32, heads=4)), {"mask_head.0.weight": torch.zeros(128, 128)})
    trained = here(
        train,
        "experiment=train_mask_decoder_rooms", *SMALL[3:], f"data.root={rooms / 'rooms'}", "datasets.rooms_val.folder=.",
        f"out={tmp_path / 'run'}", "trainer.max_steps=1", "trainer.val_every_steps=1",
        f"model.net.decoder_init={tmp_path / 's.safetensors'}", "model.net.window=false",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert "weights start from s.safetensors, 6 at random" in trained.stdout


class _Code:
    def __reduce__(self):
        return (print, ("this must not be printed",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"no archive", "cannot be read"),
        ({"state_dict": {"net.final.weight": torch.zeros(3)}}, "is no Segment3D checkpoint"),
        ({"state_dict": {"model.query_projection.layers.0.weight": torch.zeros(3)}, "code": _Code()}, "could run code"),
    ],
)
def test_files_that_are_not_segment3d_are_named_and_never_run(tmp_path, capsys, content, message):
    file = tmp_path / "segment3d.ckpt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=message):
        read_segment3d(file)
    assert "must not be printed" not in capsys.readouterr().out


def test_files_that_are_no_decoders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_decoder(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("no archive")
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_decoder(tmp_path / "text.safetensors")
    with pytest.raises(CheckpointError, match="is no mask decoder of this version"):
        load_decoder(ROOT / "mosaic3d_core" / "assets" / "mosaic3d_narrow.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write mask decoder"):
        save_decoder(tmp_path / "file" / "x", MaskDecoder(MaskDecoderConfig()), FoldedHead(np.zeros((768, 4))), {})
