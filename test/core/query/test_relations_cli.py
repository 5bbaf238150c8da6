"""Relations on the command line: what is understood, refused, and printed as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mosaic3d_core.cli.app import run
from mosaic3d_core.mapping import MapSnapshot, save_map


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A map of a floor with two blocks, and a tiny encoder with random weights."""
    import torch

    from mosaic3d_core.models.building import build_sparse_unet
    from mosaic3d_core.models.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("scene")
    x, y = np.meshgrid(np.arange(0, 2, 0.04), np.arange(0, 2, 0.04))
    block = np.stack(np.meshgrid(*[np.arange(0, 0.4, 0.04)] * 3), -1).reshape(-1, 3)
    points = np.vstack([np.stack([x, y, 0 * x], -1).reshape(-1, 3), block + 0.3, block + 1.3])
    save_map(MapSnapshot.from_points(points, np.tile([150.0, 90, 60], (len(points), 1)), 0.04), folder / "map.m3dmap", {})
    torch.manual_seed(0)
    model = build_sparse_unet("narrow", in_channels=6, base=8, channels=(8,) * 8, blocks=(1,) * 8)
    channels = ["color", "occupancy", "verticality", "height"]
    about = {"text_encoder": "minilm", "voxel_size_m": 0.04, "input_channels": channels, "logit_scale": 20.0}
    save_checkpoint(folder / "tiny.safetensors", model, about)
    return [str(folder / "map.m3dmap"), "--checkpoint", str(folder / "tiny.safetensors"), "--decoder", "components"]


def query(capsys, scene, *arguments):
    """Exit code, standard output and standard error of ``mosaic3d query``."""
    code = run(["query", scene[0], *arguments, *scene[1:]])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_json_says_how_a_text_was_understood_and_why_objects_answer(capsys, scene):
    code, out, _ = query(capsys, scene, "left of me", "chair near the unicorn", "--json", "--min-score", "0.01",
                         "--viewpoint", "1", "1", "0.3", "90")  # fmt: skip
    assert code == 0
    answer = json.loads(out)
    assert answer["understood"] == ["anything [left of (me)]", "chair [near (unicorn)]"]
    assert any(one["text"] == "left of me" for one in answer["objects"])
    assert all("left of me" in one["reason"] for one in answer["objects"] if one["text"] == "left of me")
    # who looks along y has smaller x on the left
    assert all(one["center"][0] < 1.0 for one in answer["objects"] if one["text"] == "left of me")


def test_a_direction_without_a_viewpoint_is_one_line_that_names_the_option(capsys, scene):
    code, _, err = query(capsys, scene, "chair left of the table")
    assert code != 0
    assert "--viewpoint" in " ".join(err.split())
    assert "Traceback" not in err


def test_relations_can_be_turned_off(capsys, scene):
    code, out, _ = query(capsys, scene, "chair left of the table", "--no-relations", "--json")
    assert code == 0
    assert json.loads(out)["understood"] == ["chair left of the table"]
