"""Instances in map files: what comes back, and what is refused."""

import numpy as np
import pytest

from mosaic3d_core.errors import MapFileError
from mosaic3d_core.mapping import MapSnapshot, load_map, save_map
from mosaic3d_core.models import FeatureMap
from mosaic3d_core.models.folded_head import FoldedHead
from mosaic3d_core.query import InstanceMap
from mosaic3d_core.query.feature_store import pack_features, unpack_features
from mosaic3d_core.query.grid import QueryGrid
from mosaic3d_core.query.instance_map import GONE, PRESENT, UNSEEN, MapInstance
from mosaic3d_core.query.instance_store import pack_instances, unpack_instances
from mosaic3d_core.query.instance_view import InstanceView
from mosaic3d_core.query.proposals import Proposal


@pytest.fixture(scope="module")
def encoded():
    rng = np.random.default_rng(0)
    snapshot = MapSnapshot.from_points(rng.uniform(0, 2, (400, 3)), np.full((400, 3), 90.0), 0.04)
    owner = np.arange(len(snapshot))
    features = rng.normal(size=(len(snapshot), 8)).astype(np.float32)
    head = FoldedHead(rng.normal(size=(16, 8)).astype(np.float32))
    return FeatureMap(snapshot, features, head.norms(features), owner, snapshot.indices, 0.04, head, "none", 20.0, 0.0)


def instance(number, cells, width, state=PRESENT):
    feature = np.random.default_rng(number).normal(size=width).astype(np.float32)
    return MapInstance(number, np.array(cells), feature, 0.75, 4, 17, 10**18 + number, state)


def view_of(encoded, instances):
    grid = QueryGrid.build(encoded.snapshot, encoded.voxel_of_point, encoded.cells, encoded.cell_size_m)
    return InstanceView(grid, instances)


def kept(encoded, instances, path):
    about, extras = pack_features(encoded)
    save_map(encoded.snapshot, path, about, extras | pack_instances(view_of(encoded, instances)))
    snapshot, about, extras = load_map(path, with_extras=True)
    features = unpack_features(snapshot, about, extras)
    return features, extras


def test_things_come_back_from_a_file_as_they_were(encoded, tmp_path):
    width = encoded.features.shape[1]
    things = [instance(3, [0, 4, 9], width), instance(12, [1, 2], width, UNSEEN), instance(14, [], width, GONE)]
    features, extras = kept(encoded, things, tmp_path / "room.m3dmap")
    found = unpack_instances(features, extras)
    assert [one.id for one in found] == [3, 12]
    for one, other in zip(found, things, strict=False):
        assert np.array_equal(one.cells, other.cells)
        assert np.array_equal(one.feature, other.feature)
        for name in ("quality", "views", "first_seen_ns", "last_seen_ns", "state"):
            assert getattr(one, name) == getattr(other, name), name


def test_a_map_without_things_and_a_file_without_instances_differ(encoded, tmp_path):
    features, extras = kept(encoded, [], tmp_path / "room.m3dmap")
    assert unpack_instances(features, extras) == ()
    assert unpack_instances(encoded, {}) is None


def test_a_thing_lives_on_under_its_id_and_new_ones_get_larger_ids(encoded):
    width = encoded.features.shape[1]
    things = InstanceMap()
    things.restore(encoded, [instance(7, np.arange(0, 40), width), instance(9, np.arange(40, 80), width)])
    proposals = [
        Proposal(cells, 0.9, np.zeros(width, np.float32)) for cells in (np.arange(0, 40), np.arange(40, 80), np.arange(200, 240))
    ]
    found = things.update(encoded, proposals)
    assert [one.id for one in found] == [7, 9, 10]
    assert [one.views for one in found] == [5, 5, 1]
    assert [one.first_seen_ns for one in found][:2] == [17, 17]


def damaged(extras, name, change):
    changed = {key: value.copy() for key, value in extras.items()}
    change(changed[name])
    return changed


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("instances.of_cell", lambda a: a.__setitem__(0, 2)),  # there is no third instance
        ("instances.of_cell", lambda a: a.__setitem__(0, 2**31 - 1)),
        ("instances.of_cell", lambda a: a.__setitem__(a == 1, 0)),  # the second one has no voxels
        ("instances.id", lambda a: a.__setitem__(slice(None), 5)),
        ("instances.id", lambda a: a.__setitem__(0, 0)),
        ("instances.id", lambda a: a.__setitem__(0, 2**62)),
        ("instances.quality", lambda a: a.__setitem__(0, np.nan)),
        ("instances.views", lambda a: a.__setitem__(0, 0)),
        ("instances.state", lambda a: a.__setitem__(0, 2)),
        ("instances.feature", lambda a: a.__setitem__((0, 0), np.inf)),
    ],
)
def test_damaged_instances_are_refused(encoded, tmp_path, name, change):
    width = encoded.features.shape[1]
    features, extras = kept(encoded, [instance(3, [0, 4], width), instance(12, [1], width)], tmp_path / "room.m3dmap")
    assert unpack_instances(features, extras) is not None
    with pytest.raises(MapFileError, match="do not belong to its map"):
        unpack_instances(features, damaged(extras, name, change))


@pytest.mark.parametrize("name", ["of_cell", "feature", "id", "state"])
def test_arrays_of_another_shape_or_kind_and_missing_ones_are_refused(encoded, tmp_path, name):
    width = encoded.features.shape[1]
    features, extras = kept(encoded, [instance(3, [0, 4], width)], tmp_path / "room.m3dmap")
    key = f"instances.{name}"
    for wrong in (extras[key][:-1], extras[key].astype(np.complex64), extras[key].astype(str), extras[key][None]):
        with pytest.raises(MapFileError, match="do not belong"):
            unpack_instances(features, extras | {key: wrong})
    without = {one: value for one, value in extras.items() if one != key}
    if name == "of_cell":
        assert unpack_instances(features, without) is None
    else:
        with pytest.raises(MapFileError, match=name):
            unpack_instances(features, without)
