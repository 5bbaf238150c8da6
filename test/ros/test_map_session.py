"""The map session on a changing room: instances keep their ids, what is taken away is gone, what is moved is found again."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mosaic3d_core.data.synthetic import SequenceConfig, SyntheticSequence, build_room
from mosaic3d_core.data.synthetic.changes import with_instance_moved, without_instance
from mosaic3d_core.mapping import VoxelMapConfig, save_map
from mosaic3d_core.models import SceneEncoder
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import DEFAULT_VOCABULARY, QueryEngine
from mosaic3d_core.query.feature_store import pack_features
from mosaic3d_ros.map_files import MapFolder, load_map_reply, save_map_reply
from mosaic3d_ros.map_session import MapSession

SEED, NAME, FRAMES = 3, "armchair", 24
ENCODE_EVERY = 5  # frames, of ten per second: the node's half second


@pytest.fixture(scope="module")
def encoder():
    return SceneEncoder.from_checkpoint()


@pytest.fixture(scope="module")
def text_encoder(encoder):
    return get_text_encoder(encoder.text_encoder_name)


@pytest.fixture
def session(encoder, text_encoder):
    return MapSession(VoxelMapConfig(), encoder, lambda: QueryEngine(text_encoder), DEFAULT_VOCABULARY)


class Camera:
    """Looks at one place from a few sides, at ten frames per second, whatever happens there."""

    def __init__(self, scene, number: int) -> None:
        self.config = SequenceConfig(frames=120, width=320, height=240)
        whole = SyntheticSequence(scene, self.config, None, (SEED, "test"))
        seen = []
        for k in range(0, 120, 4):
            view = whole.renderer.render(whole.camera, whole.poses[k])
            seen.append((int((view.instance == number).sum()), k))
        best = [k for _, k in sorted(seen, reverse=True)[:6]]
        self.poses = np.stack([whole.poses[best[k % len(best)]] for k in range(FRAMES * 3)])
        self.stamp_ns = 1_000_000_000

    def film(self, scene, session: MapSession, frames: int):
        """Fuse some frames of a room, with updates in between; yields each update with its time since the first frame."""
        sequence = SyntheticSequence(scene, self.config, None, (SEED, "test"))
        sequence.poses = self.poses
        begin = self.stamp_ns
        for k in range(frames):
            session.fuse(replace(sequence[k], stamp_ns=self.stamp_ns))
            self.stamp_ns += 100_000_000
            if k % ENCODE_EVERY == ENCODE_EVERY - 1:
                yield (self.stamp_ns - begin) / 1e9, session.update()


def thing_of(scene, name: str) -> int:
    return next(one.id for one in scene.instances if one.class_name == name)


def center_of(scene, number: int) -> np.ndarray:
    return scene.instances[number - 1].bounds.mean(axis=0)


def answers(session: MapSession, text: str):
    encoded = session.encoded
    return session.engine.query(encoded.features, [text], instances=encoded.instances).objects


def near(found, center, reach: float = 0.5):
    return [one for one in found if np.linalg.norm(one.box.center[:2] - center[:2]) < reach]


def test_queries_labels_and_markers_speak_of_the_same_instance(session):
    scene = build_room(SEED, "test")
    number = thing_of(scene, NAME)
    for _, update in Camera(scene, number).film(scene, session, FRAMES):
        labelled = update
    (asked,) = near(answers(session, NAME), center_of(scene, number))
    (shown,) = [one for one in labelled.labelling.objects if one.id == asked.id]
    assert shown.text == NAME
    assert asked.instance is not None
    assert asked.instance.views >= 3
    overlap = len(np.intersect1d(asked.voxel_indices, shown.voxel_indices))
    assert overlap > 0.5 * len(shown.voxel_indices)
    assert len(labelled.labelling.objects) >= len(session.encoded.instances)


def test_what_is_taken_away_is_gone_within_five_seconds_of_its_place_being_seen_empty(session):
    scene = build_room(SEED, "test")
    number = thing_of(scene, NAME)
    camera = Camera(scene, number)
    for _ in camera.film(scene, session, FRAMES):
        pass
    (before,) = near(answers(session, NAME), center_of(scene, number))
    for seconds, _ in camera.film(without_instance(scene, number), session, 50):
        last = seconds
    assert last == pytest.approx(5.0)
    assert before.id not in {one.id for one in session.encoded.instances.instances}
    assert not near(answers(session, NAME), center_of(scene, number))


def test_what_is_moved_is_found_at_its_new_place(session):
    scene = build_room(SEED, "test")
    number = thing_of(scene, NAME)
    camera = Camera(scene, number)
    for _ in camera.film(scene, session, FRAMES):
        pass
    step = -0.7 * center_of(scene, number) / np.linalg.norm(center_of(scene, number)[:2])
    step[2] = 0.0
    moved = with_instance_moved(scene, number, step)
    for _ in camera.film(moved, session, 50):
        pass
    there = near(answers(session, NAME), center_of(moved, number))
    assert there
    assert not near(answers(session, NAME), center_of(scene, number), 0.3)


def test_an_unchanged_map_keeps_its_instances_and_is_not_encoded_again(session):
    scene = build_room(SEED, "test")
    for _ in Camera(scene, thing_of(scene, NAME)).film(scene, session, 5):
        pass
    before = session.encoded
    session.set_vocabulary(["floor"])
    update = session.update()
    assert session.encoded is before
    assert update.labelling.vocabulary == ("floor",)


def test_after_a_reset_ids_are_new(session):
    scene = build_room(SEED, "test")
    camera = Camera(scene, thing_of(scene, NAME))
    for _ in camera.film(scene, session, 10):
        pass
    old = {one.id for one in session.encoded.instances.instances}
    session.reset()
    assert session.encoded is None
    for _ in camera.film(scene, session, 10):
        pass
    assert old
    assert not old & {one.id for one in session.encoded.instances.instances}


def save_and_load(session: MapSession, other: MapSession, path) -> str:
    """The map of one session in another one; what the service says."""
    folder = MapFolder("")
    assert save_map_reply(session.encoded, str(path), False, folder)[0]
    done, told = load_map_reply(str(path), folder, other.restore)
    assert done, told
    return told


def test_things_keep_their_ids_through_a_file_and_a_new_session(session, encoder, text_encoder, tmp_path, monkeypatch):
    scene = build_room(SEED, "test")
    number = thing_of(scene, NAME)
    camera = Camera(scene, number)
    for _ in camera.film(scene, session, FRAMES):
        pass
    before = session.encoded.instances.instances
    (asked,) = near(answers(session, NAME), center_of(scene, number))
    fresh = MapSession(VoxelMapConfig(), encoder, lambda: QueryEngine(text_encoder), DEFAULT_VOCABULARY)
    told = save_and_load(session, fresh, tmp_path / "room.m3dmap")
    assert f"{len(before)} objects keep their ids" in told
    with monkeypatch.context() as patched:
        patched.setattr(encoder, "encode", None)  # what the file keeps is not encoded again
        assert fresh.update() is not None
    assert [one.id for one in fresh.encoded.instances.instances] == [one.id for one in before]
    (again,) = near(answers(fresh, NAME), center_of(scene, number))
    assert again.id == asked.id
    assert again.instance.first_seen_ns == asked.instance.first_seen_ns
    for _ in camera.film(scene, fresh, 3 * ENCODE_EVERY):
        pass
    (later,) = near(answers(fresh, NAME), center_of(scene, number))
    assert later.id == asked.id
    assert later.instance.views > asked.instance.views
    known = {one.id for one in before}
    assert all(one.id in known or one.id > max(known) for one in fresh.encoded.instances.instances)


def test_things_of_another_encoder_are_found_anew(session, encoder, text_encoder, tmp_path):
    scene = build_room(SEED, "test")
    for _ in Camera(scene, thing_of(scene, NAME)).film(scene, session, ENCODE_EVERY):
        pass
    encoded = session.encoded
    head = FoldedHead(encoded.features.head.weight * 1.001, encoded.features.head.bias)
    foreign = replace(encoded, features=replace(encoded.features, head=head))
    fresh = MapSession(VoxelMapConfig(), encoder, lambda: QueryEngine(text_encoder), DEFAULT_VOCABULARY)
    told = save_and_load(SimpleNamespace(encoded=foreign), fresh, tmp_path / "room.m3dmap")
    assert "another encoder" in told
    update = fresh.update()
    assert update.features.head.fingerprint() == encoder.head.fingerprint()
    assert len(fresh.encoded.instances) > 0


def test_a_map_that_keeps_features_but_no_things_has_them_found(session, encoder, text_encoder, tmp_path):
    scene = build_room(SEED, "test")
    for _ in Camera(scene, thing_of(scene, NAME)).film(scene, session, ENCODE_EVERY):
        pass
    about, extras = pack_features(session.features)
    save_map(session.features.snapshot, tmp_path / "room.m3dmap", about, extras)
    fresh = MapSession(VoxelMapConfig(), encoder, lambda: QueryEngine(text_encoder), DEFAULT_VOCABULARY)
    done, told = load_map_reply(str(tmp_path / "room.m3dmap"), MapFolder(""), fresh.restore)
    assert done
    assert "no objects" in told
    assert fresh.update() is not None
    assert len(fresh.encoded.instances) > 0
