"""Stage 2 as people run it: the mask decoder on generated rooms and on gathered captions, in both published command forms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mosaic3d_core.data.caption_files import write_captions
from mosaic3d_core.data.scene_folder import write_scene_folder
from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.data.synthetic.record import record_room
from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.metrics.class_lists import get_class_list
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.mask_decoder.checkpoint import load_decoder, save_decoder
from mosaic3d_core.models.scene_encoder import SceneEncoder

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
    more = run(
        "experiment=train_mask_decoder_rooms", *SMALL, f"data.root={rooms / 'rooms'}", "datasets.rooms_val.folder=.",
        f"out={tmp_path}", "trainer.max_steps=6", "trainer.val_every_steps=6", "resume=true",
    )  # fmt: skip
    assert more.returncode == 0, more.stderr[-3000:]
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 6


def test_the_published_command_trains_on_gathered_captions_in_two_processes(rooms, tmp_path):
    encoder = ROOT / "mosaic3d_core" / "assets" / "mosaic3d_narrow.safetensors"
    done = run(
        "experiment=train_opensegment3d_scannet", f"model.net.backbone_ckpt={encoder}",
        *(one for one in SMALL if one != "trainer=cpu"), "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu",
        f"data.root={rooms}", f"out={tmp_path}", "trainer.max_steps=2", "trainer.val_every_steps=2", "data.max_masks=6",
        "loss.auxiliary=true",
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
        (("data.datasets.rooms.sources=[truth,rooms]",), 'source "truth" stands alone'),
        (("optim.lr=1e30", "trainer.max_steps=6"), "look at these scenes, or lower optim.lr"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(rooms, tmp_path, change, message):
    done = run(
        "experiment=train_mask_decoder_rooms", *SMALL, f"data.root={rooms / 'rooms'}", "datasets.rooms_val.folder=.",
        f"out={tmp_path}", *change,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_files_that_are_no_decoders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_decoder(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("no archive")
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_decoder(tmp_path / "text.safetensors")
    with pytest.raises(CheckpointError, match="is no mask decoder of this version"):
        load_decoder(ROOT / "mosaic3d_core" / "assets" / "mosaic3d_narrow.safetensors")
    (tmp_path / "file").write_text("")
    from mosaic3d_core.models.mask_decoder import MaskDecoder, MaskDecoderConfig

    with pytest.raises(CheckpointError, match="cannot write mask decoder"):
        save_decoder(tmp_path / "file" / "x", MaskDecoder(MaskDecoderConfig()), FoldedHead(np.zeros((768, 4))), {})
