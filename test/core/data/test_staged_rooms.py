"""Staged rooms: two things that really touch, seen by the camera, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from mosaic3d_core.data.synthetic.classes import CLASS_ID
from mosaic3d_core.data.synthetic.furniture import MAKERS
from mosaic3d_core.data.synthetic.record import fuse_sequence, record_touching, true_labels
from mosaic3d_core.data.synthetic.staged import STAGED, StagedPair, stage

SMALL = {"frames": 30, "width": 160, "height": 120, "shadows": False}
CLASSES = {
    "chairs": ({"chair"}, {"chair"}),
    "on table": ({"table", "coffee table", "desk"}, {"box", "lamp"}),
    "pillow on bed": ({"bed"}, {"pillow"}),
    "alike": (set(MAKERS) - {"chair"}, set(MAKERS) - {"chair"}),
}


def surface(pair: StagedPair, number: int, count: int = 20_000) -> np.ndarray:
    """Random points on the surface of an instance."""
    scene, rng = pair.sequence.scene, np.random.default_rng(0)
    corners = scene.vertices[scene.triangles[scene.triangle_instance == number - 1]].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    picked = corners[rng.choice(len(corners), count, p=area / area.sum())]
    return (picked * rng.dirichlet(np.ones(3), count)[..., None]).sum(1)


@pytest.mark.parametrize("kind", STAGED)
def test_the_two_things_touch_and_neither_stands_in_the_other(kind):
    for seed in range(12):
        pair = stage(kind, seed, **SMALL)
        instances = pair.sequence.scene.instances
        first, second = instances[pair.first - 1], instances[pair.second - 1]
        assert first.class_name in CLASSES[kind][0]
        assert second.class_name in CLASSES[kind][1]
        assert kind != "alike" or first.class_name == second.class_name
        gap, _ = cKDTree(surface(pair, pair.first)).query(surface(pair, pair.second))
        # what the outermost points of slanted legs touch is a plane, not each other
        assert gap.min() < (0.06 if kind == "alike" else 0.03), (seed, gap.min())
        if kind in ("chairs", "alike"):  # boxes around both hardly overlap in the frame of the first
            relative = (surface(pair, pair.second) - first.position) @ first.rotation
            own = (surface(pair, pair.first) - first.position) @ first.rotation
            inside = ((relative > own.min(0) + 0.02) & (relative < own.max(0) - 0.02)).all(1)
            assert inside.mean() < 0.05, (seed, inside.mean())
        else:
            assert second.parent == first.id
            # a pillow sinks into the blanket, where it reaches that far
            assert second.bounds[0, 2] > first.bounds[0, 2] + 0.25


def test_staged_rooms_vary_with_the_seed_and_with_nothing_else():
    one, again, other = (stage("chairs", seed, **SMALL) for seed in (3, 3, 4))
    assert np.array_equal(one.sequence.scene.vertices, again.sequence.scene.vertices)
    assert np.array_equal(one.sequence[7].color, again.sequence[7].color)
    assert one.sequence.scene.vertices.shape != other.sequence.scene.vertices.shape
    chairs = [stage("chairs", seed, frames=1) for seed in range(12)]
    alike = [len({id(pair.sequence.scene.instances[n - 1].model) for n in (pair.first, pair.second)}) for pair in chairs]
    assert set(alike) == {1, 2}
    tables = [stage("on table", seed, frames=1) for seed in range(12)]
    small = [pair.sequence.scene.instances[pair.second - 1] for pair in tables]
    assert {one.class_name for one in small} == {"box", "lamp"}
    assert max(one.model.size[2] for one in small) < 0.65


def test_the_camera_sees_both_things():
    seen = []
    for kind in STAGED:
        for seed in range(3):
            pair = stage(kind, seed, **SMALL)
            snapshot = fuse_sequence(pair.sequence)
            _, instance = true_labels(pair.sequence, snapshot.centroids)
            seen.append(min((instance == number).sum() for number in (pair.first, pair.second)))
    assert np.mean(np.array(seen) >= 60) > 0.7


def test_a_training_scene_holds_both_things_as_instances_of_their_own():
    kept = 0
    for seed in range(3):
        scene = record_touching("chairs", seed, "train", captions_per_mask=2)
        chairs = np.unique(scene.instance[scene.segment == CLASS_ID["chair"]])
        kept += len(chairs) == 2
        assert all(len(texts) == 2 for texts in scene.captions)
    assert kept >= 2  # a short sweep may miss a chair
    again = record_touching("chairs", 2, "train", captions_per_mask=2)
    assert np.array_equal(again.coord, scene.coord)
    assert again.captions == scene.captions


def test_an_unknown_kind_or_seed_is_named():
    with pytest.raises(ValueError, match="on table"):
        stage("cats", 0)
    with pytest.raises(ValueError, match=">= 0"):
        stage("chairs", -1)
