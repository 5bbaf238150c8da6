"""Generated rooms: what training, the demo and every accuracy figure rest on."""

from __future__ import annotations

import numpy as np
import pytest

from mosaic3d_core.data.synthetic import SensorModel, build_room, open_room
from mosaic3d_core.data.synthetic.captions import caption, plain_vocabulary
from mosaic3d_core.data.synthetic.classes import CLASS_ID, CLASS_NAMES, CLASSES, NEVER_PRESENT, accepted_classes
from mosaic3d_core.data.synthetic.furniture import MAKERS
from mosaic3d_core.data.synthetic.record import fuse_sequence, true_labels
from mosaic3d_core.data.synthetic.sensor import noisy_depth
from mosaic3d_core.mapping import VoxelMapConfig

SMALL = {"frames": 8, "width": 160, "height": 120, "shadows": False}
NO_NOISE = SensorModel(0.0, 0.0, False, 0.0, False, 0.1, 20.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def sequence():
    return open_room(3, "test", **SMALL)


def test_the_same_seed_gives_the_same_room_and_the_same_noisy_frame(sequence):
    again = open_room(3, "test", **SMALL)
    assert np.array_equal(sequence.scene.vertices, again.scene.vertices)
    first, second = sequence[5], again[5]
    assert np.array_equal(first.color, second.color)
    assert np.array_equal(first.depth, second.depth)
    assert np.array_equal(first.T_world_camera, second.T_world_camera)


def test_frames_do_not_depend_on_the_order_they_are_read_in(sequence):
    late = sequence[6].depth
    sequence[0]
    assert np.array_equal(sequence[6].depth, late)


def test_train_val_and_test_rooms_never_coincide():
    rooms = {split: build_room(7, split).vertices for split in ("train", "val", "test")}
    for a, b in (("train", "test"), ("train", "val"), ("val", "test")):
        assert rooms[a].shape != rooms[b].shape or not np.allclose(rooms[a], rooms[b])


def test_rooms_together_show_at_least_25_foreground_classes():
    seen = {name for seed in range(60) for name in build_room(seed, "test").class_names_present}
    assert len(seen - {"wall", "floor", "ceiling"}) >= 25
    assert seen == set(CLASS_NAMES)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_kind_of_furniture_varies_and_stays_near_the_size_it_reserves(name):
    heights = set()
    for seed in range(25):
        model = MAKERS[name](np.random.default_rng(seed))
        vertices, faces, materials = model.mesh.merged()
        assert model.class_name == name
        assert np.isfinite(vertices).all()
        assert faces.max() < len(vertices)
        assert len(materials) == len(faces)
        assert np.abs(vertices[:, 0]).max() <= model.size[0] / 2 + 0.2, "x outside the reserved footprint"
        assert vertices[:, 2].min() > -0.06
        heights.add(round(float(np.ptp(vertices[:, 2])), 3))
    assert len(heights) > 5, "all the same height"


def test_floor_standing_things_do_not_run_through_each_other():
    # chairs reach under tables and rugs lie under things on purpose
    loose = {
        "chair",
        "stool",
        "office chair",
        "rug",
        "wall",
        "floor",
        "ceiling",
        "door",
        "window",
        "curtain",
        "picture",
        "radiator",
        "whiteboard",
    }
    for seed in range(30):
        scene = build_room(seed, "test")
        solid = [i for i in scene.instances if i.class_name not in loose and i.parent == 0]
        for a in solid:
            for b in solid:
                if a.id < b.id:
                    # compare in the frame of a: rooms are turned, so world bounds of long things overlap without contact
                    centre = a.rotation.T @ (b.position - a.position)
                    gap_x = abs(centre[0]) - a.model.size[0] / 2
                    gap_y = abs(centre[1]) - a.model.size[1] / 2
                    assert max(gap_x, gap_y) > -0.02, f"seed {seed}: the middle of {b.class_name} lies in {a.class_name}"


def test_a_noise_free_camera_measures_the_geometry_exactly():
    sequence = open_room(3, "test", sensor=NO_NOISE, **SMALL)
    view, frame = sequence.ideal_view(2), sequence[2]
    inside = (view.depth > 0.1) & (view.depth < 20)
    assert inside.mean() > 0.99
    assert np.abs(frame.depth - view.depth)[inside].max() < 1e-5
    points = sequence.camera.unproject(view.depth)[inside] @ sequence.poses[2][:3, :3].T + sequence.poses[2][:3, 3]
    low, high = sequence.scene.bounds
    assert (points > low - 1e-3).all()
    assert (points < high + 1e-3).all()
    # the label image and the nearest surface agree about what was hit
    label = sequence.renderer.closest_instance(points.astype(np.float32))
    assert (label == view.instance[inside]).mean() > 0.98


def test_depth_noise_grows_with_distance_and_holes_appear_like_on_a_kinect():
    sequence = open_room(1, "test", frames=4)
    near, far, holes = [], [], []
    for i in range(4):
        view = sequence.ideal_view(i)
        depth = noisy_depth(
            view,
            sequence.camera,
            SensorModel(lateral_noise_px=0.0, quantise=False, projector_shadow=False),
            np.random.default_rng(i),
        )
        valid = depth > 0
        error = np.abs(depth - view.depth)
        near.append(error[valid & (view.depth < 1.8)])
        far.append(error[valid & (view.depth > 3.0)])
        holes.append(1 - valid.mean())
    assert np.median(np.concatenate(far)) > 2 * np.median(np.concatenate(near))
    assert np.median(np.concatenate(near)) < 0.006
    assert 0.002 < np.mean(holes) < 0.4


def test_labels_of_a_fused_map_cover_nearly_all_voxels(sequence):
    snapshot = fuse_sequence(sequence, VoxelMapConfig(pixel_stride=1, min_views=1))
    segment, instance = true_labels(sequence, snapshot.centroids)
    assert len(snapshot) > 5000
    assert (instance > 0).mean() > 0.95
    assert set(np.unique(segment)) <= set(range(-1, len(CLASS_NAMES)))
    assert np.array_equal(segment, sequence.scene.class_ids[instance])


def test_captions_name_the_thing_by_a_word_of_its_class():
    scene = build_room(5, "train")
    rng = np.random.default_rng(0)
    for item in scene.instances:
        record = CLASSES[CLASS_ID[item.class_name]]
        words = (record.name, *record.synonyms, *record.uses)
        for _ in range(20):
            text = caption(item, scene, rng)
            assert any(word in text for word in words), text
            assert "{" not in text


def test_held_out_phrases_never_appear_as_a_caption():
    held_out = {phrase for c in CLASSES for phrase in c.held_out} | set(NEVER_PRESENT)
    rng = np.random.default_rng(1)
    texts = {text for text, _ in plain_vocabulary()}
    for seed in range(15):
        scene = build_room(seed, "train")
        texts |= {caption(item, scene, rng) for item in scene.instances for _ in range(10)}
    assert not held_out & texts


def test_an_office_chair_answers_a_question_for_a_chair_but_not_the_other_way_round():
    assert "office chair" in accepted_classes("chair")
    assert accepted_classes("office chair") == {"office chair"}


def test_an_unregistered_recording_carries_its_own_colour_camera():
    frame = open_room(3, "test", color_baseline_m=0.025, **SMALL)[1]
    assert not frame.registered
    assert frame.T_color_depth is not None
    assert frame.T_color_depth[0, 3] == pytest.approx(-0.025)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 1, "split": "tset"}, "unknown split 'tset': expected one of train, val, test"),
        ({"seed": 1, "kind": "castle"}, "unknown room kind 'castle'"),
        ({"seed": -1}, "room seed must be >= 0"),
    ],
)
def test_impossible_rooms_are_refused_with_the_reason(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_room(**arguments)


def test_a_recording_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        open_room(1, "test", frames=0)
