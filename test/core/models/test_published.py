"""Published encoders by name: from the cache when they are there, else a sentence that says how to get them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models.building import CONDITIONS, build_prompt_driven
from mosaic3d_core.models.checkpoint import OFFICIAL_METADATA, load_checkpoint
from mosaic3d_core.models.published import PUBLISHED, REPOSITORY
from mosaic3d_core.models.text.cache import CachedTextEncoder
from mosaic3d_core.query.vocabulary import BACKGROUND, CONCEPTS
from mosaic3d_core.visualization.ply import write_labelled_ply

LOAD = "import sys; from mosaic3d_core.models import load_checkpoint; print(load_checkpoint(sys.argv[1]).config.name)"


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Environment of a machine without a network whose cache holds one published file, in the layout of huggingface_hub."""
    cache = tmp_path_factory.mktemp("hub")
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123abcd")
    (folder / "snapshots" / "0123abcd").mkdir(parents=True)
    state = build_prompt_driven("spunet14a").state_dict()
    file = folder / "snapshots" / "0123abcd" / "spunet14a.ckpt"
    torch.save({"state_dict": {f"net.{key}": value for key, value in state.items()}}, file)
    return {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}


def run(environment, *arguments):
    command = [sys.executable, "-m", "mosaic3d_core.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_every_published_name_says_what_it_is():
    assert len(PUBLISHED) == 10
    for name, one in PUBLISHED.items():
        assert one.file_name == f"{name}.ckpt"
        assert one.trained_on == CONDITIONS[len(one.trained_on)]
        with torch.device("meta"):
            assert build_prompt_driven(one.architecture, one.trained_on).config.conditions == one.trained_on


def test_a_cached_encoder_is_loaded_by_its_name_without_a_network(offline):
    found = subprocess.run([sys.executable, "-c", LOAD, "spunet14a"], capture_output=True, text=True, env=offline, timeout=120)
    assert found.stdout.strip() == "spunet14a+ppt", found.stderr


def test_without_a_network_the_manual_way_is_told(offline):
    result = run(offline, "checkpoints", "download", "spunet34c")
    assert result.returncode == 2
    assert "spunet34c cannot be fetched" in result.stderr
    assert "download spunet34c.ckpt (2.74 GB) from https://" in result.stderr
    assert "Traceback" not in result.stderr


def test_unknown_names_list_the_known_ones(offline):
    result = run(offline, "checkpoints", "download", "spunet34c", "spunet35")
    assert result.returncode == 2
    assert 'no published encoder is called "spunet35"; known are sc, sc+ar' in result.stderr
    with pytest.raises(CheckpointError, match=r"spunet35 does not exist; .* or a published name \(sc, sc\+ar"):
        load_checkpoint("spunet35")


def test_the_list_shows_what_is_here(offline):
    result = run(offline, "checkpoints", "list")
    assert result.returncode == 0, result.stderr
    here = {line.split()[0]: line.split()[2] for line in result.stdout.splitlines() if "+ppt" in line}
    assert here == {name: "yes" if name == "spunet14a" else "no" for name in PUBLISHED}


def test_a_file_is_inspected_without_its_text_encoder(offline):
    result = run(offline, "checkpoints", "inspect", "spunet14a", "--json")
    about = json.loads(result.stdout)
    assert about["architecture"] == "spunet14a+ppt"
    assert about["conditions"] == ["ScanNet", "ARKitScenes", "ScanNetPP"]
    assert about["parameters"] == 11_068_192 + 3 * 256
    plain = run(offline, "checkpoints", "inspect", "spunet14a")
    assert "11,068,960" in plain.stdout


class RandomText:
    """Stands in for the published text encoder, which cannot be here: a fixed random direction per text."""

    name = OFFICIAL_METADATA["text_encoder"]
    dim = 768

    def encode(self, texts):
        rows = np.stack([np.random.default_rng(sum(map(ord, text))).normal(size=768) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_segment_runs_with_a_published_file_and_kept_text_vectors(offline, tmp_path):
    cache = CachedTextEncoder(RandomText.name, RandomText, 768, cache_dir=tmp_path / "texts")
    cache.encode(["chair", "table", *BACKGROUND, *(text for name, others in CONCEPTS.items() for text in (name, *others))])
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (3000, 3)).astype(np.float32) * [2.0, 2.0, 0.02]
    zeros = np.zeros(len(points))
    colors = rng.integers(0, 255, (len(points), 3))
    write_labelled_ply(tmp_path / "scan.ply", points, colors, zeros, zeros, zeros, ())
    words = ("--text", "chair", "--text", "table", "--checkpoint", "spunet14a", "--condition", "ARKitScenes")
    files = (str(tmp_path / "scan.ply"), "--out", str(tmp_path / "labelled.ply"), "--text-cache", str(tmp_path / "texts"))
    result = run(offline, "segment", *files, *words)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "labelled.ply").stat().st_size > 3000 * 20
    refused = run(offline, "segment", *files, *words[:-1], "S3DIS")
    assert refused.returncode == 2
    assert "condition 'S3DIS' is unknown: this net has ScanNet, ARKitScenes, ScanNetPP" in refused.stderr
