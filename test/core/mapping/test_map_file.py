"""Map files: the identity when all is well, a clear sentence when not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mosaic3d_core.errors import MapFileError
from mosaic3d_core.mapping import MapSnapshot, load_map, save_map

ARRAYS = ("indices", "centroids", "colors", "normals", "weights", "last_seen_ns")


@pytest.fixture
def snapshot() -> MapSnapshot:
    rng = np.random.default_rng(0)
    return MapSnapshot.from_points(rng.uniform(0, 1, (500, 3)), rng.uniform(0, 255, (500, 3)), up=(0, 1, 0))


def test_a_map_is_loaded_as_it_was_saved(snapshot, tmp_path):
    path = tmp_path / "room.m3dmap"
    save_map(snapshot, path, {"name": "room"}, {"features": np.arange(6.0).reshape(2, 3)})
    back, metadata, extras = load_map(path, with_extras=True)
    for name in ARRAYS:
        assert np.array_equal(getattr(back, name), getattr(snapshot, name)), name
    assert (back.generation, back.stamp_ns, back.voxel_size_m) == (1, 0, 0.02)
    assert np.array_equal(back.up, [0, 1, 0])
    assert metadata == {"name": "room"}
    assert np.array_equal(extras["features"], np.arange(6.0).reshape(2, 3))
    assert [p.name for p in tmp_path.iterdir()] == ["room.m3dmap"], "no temporary file is left"
    assert path.stat().st_mode & 0o777 == 0o644, "others may read it"


def test_a_missing_map_says_how_to_make_one(tmp_path):
    with pytest.raises(MapFileError, match="does not exist: make one with 'mosaic3d map"):
        load_map(tmp_path / "none.m3dmap")


def test_a_truncated_or_foreign_file_is_named(snapshot, tmp_path):
    path = tmp_path / "room.m3dmap"
    save_map(snapshot, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MapFileError, match="truncated or not a map file"):
        load_map(path)
    path.write_text("hello")
    with pytest.raises(MapFileError, match="truncated or not a map file"):
        load_map(path)
    with path.open("wb") as handle:
        np.savez(handle, something=np.zeros(3))
    with pytest.raises(MapFileError, match="no valid header"):
        load_map(path)


def test_a_newer_version_asks_for_an_update_and_a_damaged_array_is_named(snapshot, tmp_path):
    path = tmp_path / "room.m3dmap"
    save_map(snapshot, path)
    with np.load(path) as data:
        arrays = {k: data[k] for k in data.files}
    header = json.loads(str(arrays["header"]))
    with path.open("wb") as handle:
        np.savez(handle, **(arrays | {"header": np.array(json.dumps(header | {"version": 99}))}))
    with pytest.raises(MapFileError, match=r"version 99.*update"):
        load_map(path)
    with path.open("wb") as handle:
        np.savez(handle, **(arrays | {"colors": np.zeros((3, 3))}))
    with pytest.raises(MapFileError, match="array 'colors' should have shape"):
        load_map(path)


def test_an_unwritable_folder_is_named_and_the_old_file_stays(snapshot, tmp_path):
    with pytest.raises(MapFileError, match="cannot write map"):
        save_map(snapshot, tmp_path / "nowhere" / "room.m3dmap")
