"""A small map and a tiny untrained checkpoint, for tests of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mosaic3d_core.mapping import MapSnapshot, save_map

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def command():
    """Run ``mosaic3d`` as a process of its own; returns the completed process."""

    def run(*arguments, cwd=None, timeout=180):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "OMP_NUM_THREADS": "2"}
        return subprocess.run(
            [sys.executable, "-m", "mosaic3d_core.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A tiny encoder with random weights."""
    import torch

    from mosaic3d_core.models.building import build_sparse_unet
    from mosaic3d_core.models.checkpoint import save_checkpoint

    torch.manual_seed(0)
    model = build_sparse_unet("narrow", in_channels=6, base=8, channels=(8,) * 8, blocks=(1,) * 8)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    about = {
        "text_encoder": "minilm",
        "voxel_size_m": 0.04,
        "input_channels": ["color", "occupancy", "verticality", "height"],
        "logit_scale": 20.0,
    }
    save_checkpoint(path, model, about)
    return path


def furniture(spacing=0.02):
    """A 2 x 2 m floor with two cubes on it: points, colours."""
    x, y = np.meshgrid(np.arange(0, 2, spacing), np.arange(0, 2, spacing))
    parts = [np.stack([x, y, 0 * x], -1).reshape(-1, 3)]
    colors = [np.tile([150.0, 140, 130], (len(parts[0]), 1))]
    for corner, color in (((0.3, 0.3), (200.0, 30, 30)), ((1.3, 1.2), (30.0, 30, 200))):
        grid = np.stack(np.meshgrid(*[np.arange(0, 0.4, spacing)] * 3), -1).reshape(-1, 3)
        shell = grid[(grid < spacing / 2).any(axis=1) | (grid > 0.4 - 1.5 * spacing).any(axis=1)]
        parts.append(shell + np.array([*corner, 0.02]))
        colors.append(np.tile(color, (len(shell), 1)))
    return np.vstack(parts), np.vstack(colors)


@pytest.fixture(scope="session")
def map_file(tmp_path_factory):
    """A map without features."""
    path = tmp_path_factory.mktemp("maps") / "plain.m3dmap"
    save_map(MapSnapshot.from_points(*furniture()), path, {})
    return path


@pytest.fixture(scope="session")
def encoded_map_file(tmp_path_factory):
    """A map with stored features that match "chair" on the red cube, "box" on the blue one and "floor" below."""
    from mosaic3d_core.models.encoder_input import build_encoder_input
    from mosaic3d_core.models.folded_head import FoldedHead
    from mosaic3d_core.models.scene_encoder import FeatureMap
    from mosaic3d_core.models.text import get_text_encoder
    from mosaic3d_core.query.feature_store import pack_features

    snapshot = MapSnapshot.from_points(*furniture())
    inputs = build_encoder_input(snapshot, 0.04, ("color",))
    color = np.zeros((len(inputs.indices), 3), np.float32)
    color[inputs.voxel_of_point] = snapshot.colors
    word = np.where(color[:, 0] > 2 * color[:, 1], 1, np.where(color[:, 2] > 2 * color[:, 1], 2, 0))
    vectors = get_text_encoder("minilm").encode(["floor", "chair", "box"])
    head = FoldedHead(np.ascontiguousarray(vectors.T))
    features = np.eye(3, dtype=np.float32)[word]
    norms = head.norms(features)
    feature_map = FeatureMap(snapshot, features, norms, inputs.voxel_of_point, inputs.indices, 0.04, head, "minilm", 30.0, 1.0)
    metadata, extras = pack_features(feature_map)
    path = tmp_path_factory.mktemp("maps") / "encoded.m3dmap"
    save_map(snapshot, path, metadata, extras)
    return path
