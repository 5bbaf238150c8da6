"""Training a proposal scorer as people run it: candidates are kept, samples are what they say, the file knows its encoder."""

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

from mosaic3d_core.data.scene_folder import write_scene_folder
from mosaic3d_core.data.synthetic.record import record_room
from mosaic3d_core.models.mask_decoder.checkpoint import load_decoder, save_decoder
from mosaic3d_core.models.proposal_scorer import ScorerConfig
from mosaic3d_core.models.proposal_scorer.checkpoint import load_scorer
from mosaic3d_core.models.scene_encoder import SceneEncoder
from mosaic3d_core.query.sources import DEFAULT_DECODER
from training import train
from training.scorer_candidates import Candidates
from training.scorer_data import Batches, SampleConfig, ScorerSamples, together

ROOT = Path(__file__).resolve().parents[2]
EDGE_M = 0.04
EXPERIMENT = "experiment=train_proposal_scorer_rooms"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "training/train.py", EXPERIMENT, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms")
    for k, name in enumerate(("rooms", "touching")):
        room = record_room(k, "train", captions_per_mask=2, max_points=8_000)
        write_scene_folder(root / name / f"train-{k}", room, "rooms")
    return root


def arguments(rooms: Path, out: Path, steps: int) -> list[object]:
    return [
        f"data.root={rooms / 'rooms'}", "datasets.rooms_val.folder=.", "data.every.rooms=1", "data.val_scenes=1",
        "data.val_samples=40", "data.workers=0", "data.batch_size=16", "model.net.widths=[16,24]", "threads=1",
        f"out={out}", f"trainer.max_steps={steps}", "trainer.val_every_steps=4", "save_every=2",
    ]  # fmt: skip


def test_the_scorer_trains_goes_on_and_belongs_to_its_encoder(rooms, tmp_path):
    done = run(*arguments(rooms, tmp_path, 4))
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 4
    assert 0 < result["val/error"] < 1
    assert Image.open(tmp_path / "curves.png").size[0] > 400
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "candidates").rglob("*.npy")}
    assert len(kept) == 12  # six arrays of each scene
    encoder = SceneEncoder.from_checkpoint()
    loaded = load_scorer(tmp_path / "scorer.safetensors")
    assert loaded.belongs_to(encoder.head)
    assert loaded.model.config.widths == (16, 24)
    more = here(train, EXPERIMENT, *arguments(rooms, tmp_path, 6), "resume=true")
    assert more.returncode == 0, more.stderr[-3000:]
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 6
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "candidates").rglob("*.npy")} == kept
    # another decoder proposes other things
    other = tmp_path / "decoder.safetensors"
    decoder = load_decoder(DEFAULT_DECODER)
    save_decoder(other, decoder.model, encoder.head, {"note": "another file"})
    again = here(train, EXPERIMENT, *arguments(rooms, tmp_path, 2), f"model.net.decoder_ckpt={other}")
    assert again.returncode == 0, again.stderr[-3000:]
    assert len(list((tmp_path / "candidates").rglob("*.npy"))) == 24
    (rooms / "touching" / "train-1" / "coord.npy").touch()  # and so does a scene that was recorded again
    assert here(train, EXPERIMENT, *arguments(rooms, tmp_path, 2)).returncode == 0
    assert len(list((tmp_path / "candidates").rglob("*.npy"))) == 30


def test_bad_settings_are_told_in_a_sentence(rooms, tmp_path):
    usual = (EXPERIMENT, *arguments(rooms, tmp_path, 4))
    for wrong, said in (
        ("trainer.max_steps=-1", "trainer.max_steps > 0, got -1"),
        ("data.pushed=1.5", "share of things pushed together must be in [0, 1], got 1.5"),
        ("data.val_datasets=[nowhere]", "validation set nowhere is unknown"),
        ("data.weights=[1.0]", "data.weights has 1 values for 2 datasets"),
    ):
        assert said in refusal(train, *usual, wrong)


def scene(seed: int = 0) -> Candidates:
    """Two blocks on a floor: one whole, one half of the other."""
    edge = np.arange(6) * EDGE_M
    block = np.stack(np.meshgrid(edge, edge, edge[:5], indexing="ij"), -1).reshape(-1, 3)
    floor = np.stack(np.meshgrid(np.arange(-20, 40) * EDGE_M, np.arange(-20, 40) * EDGE_M, [-EDGE_M], indexing="ij"), -1)
    positions = np.concatenate([block, block + np.array([1.0, 0.2, 0.0]), floor.reshape(-1, 3)]).astype(np.float32)
    features = np.random.default_rng(seed).standard_normal((len(positions), 5)).astype(np.float16)
    cells = np.concatenate([np.arange(180), np.arange(180, 270)]).astype(np.int32)
    return Candidates(features, positions, cells, np.array([180, 270]), np.array([1.0, 0.5], np.float32), np.array([True, True]))


def samples(pushed: float, length: int = 400) -> ScorerSamples:
    views = ScorerConfig(features=5, inside=400, around=400)
    return ScorerSamples([scene()], np.ones(1), EDGE_M, views, SampleConfig(pushed, 3), length)


def test_a_sample_follows_from_its_number_alone():
    one, other = samples(0.5), samples(0.5)
    for number in (0, 7, 3, 399):
        (f, v, y), (g, w, z) = one[number], other[number]
        assert y == z
        assert np.array_equal(f, g)
        assert np.array_equal(v.places, w.places)
    assert any(not np.array_equal(one[0][1].places, one[k][1].places) for k in range(1, 5))


def test_candidates_come_with_the_overlap_they_have():
    drawn = samples(0.0)
    assert {(int((v.inside == 1).sum()), y) for _, v, y in (drawn[k] for k in range(60))} == {(180, 1.0), (90, 0.5)}


def test_a_thing_pushed_to_its_copy_overlaps_by_what_of_it_is_seen():
    found = set()
    drawn = samples(1.0)
    for number in range(200):
        _, view, overlap = drawn[number]
        rows = view.rows[view.inside == 1]
        seen, twice = len(rows), len(rows) - len(set(rows))
        if seen == 360:  # both of them: half of it is the thing
            assert overlap == pytest.approx(0.5)
            length, width = view.summary[2:4]
            assert length == pytest.approx(0.44, abs=0.06)  # two blocks of 0.2 m, 2 to 6 cm apart
            assert width == pytest.approx(0.2, abs=0.12)
            assert twice == 180
            found.add("both")
        elif seen == 180 and not twice:  # cut between them: the other one is around
            assert overlap > 0.85  # but for a few voxels on the wrong side of the cut
            around = view.rows[view.inside == 0]
            assert len(set(rows) & set(around)) > 50
            found.add("one")
        else:
            assert 0 < overlap < 1
            found.add("part")
        # what the copy stands in is gone, and the floor under both is there
        assert ((view.rows[view.inside == 0] >= 360).sum()) > 0
    assert found == {"both", "one", "part"}


def test_large_and_tiny_things_are_not_pushed_together():
    one = scene()
    wall = Candidates(one.features, one.positions * 12, one.cells, one.ends, one.overlaps, one.proposed)
    drawn = ScorerSamples([wall], np.ones(1), EDGE_M, ScorerConfig(features=5), SampleConfig(1.0, 0), 50)
    assert all(drawn[k][2] in (1.0, 0.5) for k in range(50))


def test_scenes_without_a_candidate_are_refused():
    one = scene()
    none = Candidates(one.features, one.positions, one.cells[:0], one.ends[:0], one.overlaps[:0], one.proposed[:0])
    with pytest.raises(ValueError, match="hold no candidate"):
        ScorerSamples([none], np.ones(1), EDGE_M, ScorerConfig(features=5), SampleConfig(), 5)


def test_two_processes_share_the_samples_and_a_stopped_run_goes_on():
    shares = [[n for batch in Batches(64, 4, rank, 2) for n in batch] for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(64))
    stopped = Batches(64, 4, 0, 2)
    stopped.skip = 3
    assert [n for batch in stopped for n in batch] == shares[0][12:]
    assert len(list(stopped)) == len(stopped)  # the next pass is whole again
    stopped.set_epoch(2)
    assert next(iter(stopped)) == [128, 129, 130, 131]  # and draws what no epoch drew before


def test_a_batch_holds_what_its_samples_hold():
    drawn = samples(0.3)
    views, overlaps = together([drawn[k] for k in range(5)])
    assert views.features.shape == (5, 800, 5)
    assert views.inside.dtype == torch.int8
    assert overlaps.tolist() == pytest.approx([drawn[k][2] for k in range(5)])
