"""Scene folders: what is written is read back, and damage is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.data.ragged import pack_ragged, unpack_ragged
from mosaic3d_core.data.scene_folder import CaptionedScene, SceneFolderError, read_scene_folder, write_scene_folder


def make_scene(n: int = 50, seed: int = 0) -> CaptionedScene:
    rng = np.random.default_rng(seed)
    return CaptionedScene(
        "room",
        rng.normal(size=(n, 3)).astype(np.float32),
        rng.integers(0, 256, (n, 3)).astype(np.uint8),
        np.tile(np.float32([0, 0, 1]), (n, 1)),
        rng.integers(-1, 5, n).astype(np.int16),
        rng.integers(0, 9, n).astype(np.int32),
        [np.arange(10), np.arange(5, 25), np.array([n - 1])],
        [("a chair", "seat"), ("a table",), ("ünïcode",)],
    )


@given(st.lists(st.lists(st.integers(0, 1000), max_size=8), max_size=12))
@settings(max_examples=200)
def test_ragged_lists_come_back_as_they_were(rows):
    arrays = [np.array(r, np.int64) for r in rows]
    packed, lengths = pack_ragged(arrays)
    back = unpack_ragged(packed, lengths)
    assert len(back) == len(rows)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, back, strict=True))


def test_ragged_lengths_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="add up to 5 but 4 values"):
        unpack_ragged(np.arange(4), np.array([2, 3]))
    with pytest.raises(ValueError, match=">= 0"):
        unpack_ragged(np.arange(4), np.array([-1, 5]))


def test_a_scene_is_read_back_as_written(tmp_path):
    scene = make_scene()
    write_scene_folder(tmp_path / "room", scene, "test")
    back = read_scene_folder(tmp_path / "room", "test")
    for name in ("coord", "color", "normal", "segment", "instance"):
        assert np.array_equal(getattr(scene, name), getattr(back, name)), name
    assert back.captions == scene.captions
    assert all(np.array_equal(a, b) for a, b in zip(scene.masks, back.masks, strict=True))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "color.npy").unlink(), "color.npy is missing"),
        (lambda p: (p / "coord.npy").write_bytes(b"not an array"), "coord.npy cannot be read as a NumPy array"),
        (lambda p: np.save(p / "segment.npy", np.zeros(3, np.int16)), r"segment.npy has shape \(3,\), expected \(50\)"),
        (
            lambda p: (p / "captions.test.npz").write_bytes((p / "captions.test.npz").read_bytes()[:60]),
            "captions.test.npz is damaged",
        ),
        (
            lambda p: np.savez(p / "point_indices.test.npz", packed=np.array([99]), lengths=np.array([1, 0, 0])),
            "points outside the 50 points",
        ),
        (
            lambda p: np.savez(p / "point_indices.test.npz", packed=np.array([1]), lengths=np.array([1])),
            "1 masks in point_indices.test.npz but 3 caption",
        ),
        (lambda p: np.savez(p / "captions.test.npz", texts=np.array(["a"])), "has no array 'packed'"),
        (
            lambda p: np.savez(p / "captions.test.npz", packed=np.array(["a"]), lengths=np.array([1, 1, 1])),
            "add up to 3 but 1 values",
        ),
    ],
)
def test_a_damaged_scene_names_the_file_and_what_was_expected(tmp_path, damage, message):
    folder = tmp_path / "room"
    write_scene_folder(folder, make_scene(), "test")
    damage(folder)
    with pytest.raises(SceneFolderError, match=message):
        read_scene_folder(folder, "test")


def test_pickled_arrays_are_refused(tmp_path):
    folder = tmp_path / "room"
    write_scene_folder(folder, make_scene(), "test")
    np.save(folder / "color.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SceneFolderError, match=r"color\.npy cannot be read"):
        read_scene_folder(folder, "test")
