"""Objects: touching things come apart, fragments come together, noise goes away."""

import numpy as np
import pytest
from scenes import SceneBuilder, WordEncoder

from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.grid import QueryGrid
from mosaic3d_core.query.instances import extract_instances, robust_mean


def objects_of(builder, config=None, scores=None):
    feature_map, things = builder.build(WordEncoder(), noise=0)
    snapshot = feature_map.snapshot
    scores = np.ones(len(things), np.float32) if scores is None else scores(snapshot, things)
    return extract_instances(grid_of(feature_map), scores, config or QueryConfig()), snapshot, things


def grid_of(feature_map):
    return QueryGrid.build(feature_map.snapshot, feature_map.voxel_of_point, feature_map.cells, feature_map.cell_size_m)


def purity(instance, things):
    counts = np.bincount(things[instance.rows])
    return counts.max() / counts.sum()


def test_walls_come_apart_at_the_corner_whatever_their_heading():
    for yaw in (0.0, 0.3, 0.8):
        scene = SceneBuilder()
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        for center, size, face in (((2, 0), (0, 4), "-x"), ((0, 2), (4, 0), "-y")):
            scene.add_box("wall", (*(turn @ center), 1.2), (*size, 2.4), yaw=yaw, faces=face)
        found, _, things = objects_of(scene)
        assert len(found) == 2
        assert all(purity(one, things) > 0.95 for one in found)


def test_a_wardrobe_stays_one_object():
    scene = SceneBuilder()
    scene.add_box("wardrobe", (0, 0, 1), (1.6, 0.6, 2.0), faces="+x -x -y +z")
    found, _, _ = objects_of(scene)
    assert len(found) == 1


def test_round_tables_joined_by_a_thin_neck_come_apart():
    scene = SceneBuilder()
    scene.add_box("table", (0, 0, 0.7), (0.8, 0.8, 0.04), yaw=np.pi / 4)
    scene.add_box("table", (1.12, 0, 0.7), (0.8, 0.8, 0.04), yaw=np.pi / 4)
    found, _, things = objects_of(scene)
    assert len(found) == 2
    assert all(purity(one, things) > 0.9 for one in found)


def test_an_l_shaped_sofa_stays_one_object():
    scene = SceneBuilder()
    scene.add_box("sofa", (0, 0, 0.2), (2.4, 0.9, 0.4), (90, 90, 100))
    scene.add_box("sofa", (-0.75, 0.9, 0.2), (0.9, 1.0, 0.4), (90, 90, 100))
    found, _, _ = objects_of(scene)
    assert len(found) == 1


def test_a_chair_stays_one_object():
    scene = SceneBuilder()
    scene.add_box("chair", (0, 0, 0.45), (0.45, 0.45, 0.04))
    scene.add_box("chair", (0.2, 0, 0.7), (0.04, 0.45, 0.5))
    for x in (-0.2, 0.2):
        for y in (-0.2, 0.2):
            scene.add_box("chair", (x, y, 0.22), (0.04, 0.04, 0.42))
    found, snapshot, _ = objects_of(scene)
    assert len(found) == 1
    assert len(found[0].rows) == len(snapshot.indices)


def test_separate_objects_stay_separate_and_near_fragments_join():
    scene = SceneBuilder()
    scene.add_box("chair", (0, 0, 0.45), (0.45, 0.45, 0.5))
    scene.add_box("chair", (0, 0, 0.85), (0.25, 0.25, 0.06))  # the head rest: a gap of 12 cm above the seat
    scene.add_box("chair", (1.0, 0, 0.45), (0.45, 0.45, 0.5))
    found, snapshot, _ = objects_of(scene, QueryConfig(merge_gap_m=0.2))
    assert len(found) == 2
    assert sum(len(one.rows) for one in found) == len(snapshot.indices)


def test_a_table_whose_top_hides_the_leg_below_it_is_one_object_with_its_full_height():
    scene = SceneBuilder()
    scene.add_box("table", (0, 0, 0.76), (1.1, 1.1, 0.04))
    scene.add_box("table", (0, 0, 0.3), (0.2, 0.2, 0.6))  # 14 cm of it are never seen
    scene.add_box("table", (3, 0, 0.76), (1.1, 1.1, 0.04))
    found, _, things = objects_of(scene)
    assert len(found) == 2
    leg = next(one for one in found if (things[one.rows] == 2).any())
    assert set(things[leg.rows]) == {1, 2}
    assert leg.box.size[2] == pytest.approx(0.78, abs=0.04)
    apart, _, _ = objects_of(scene, QueryConfig(stack_gap_m=0.0))
    assert len(apart) == 3


def test_pictures_above_each_other_stay_two_and_so_do_things_on_far_shelves():
    scene = SceneBuilder()
    scene.add_box("picture", (0, 0, 1.2), (0.6, 0.04, 0.4))
    scene.add_box("picture", (0, 0, 1.75), (0.6, 0.04, 0.4))
    scene.add_box("box", (3, 0, 0.2), (0.4, 0.4, 0.4))
    scene.add_box("box", (3, 0, 1.0), (0.4, 0.4, 0.4))
    found, _, _ = objects_of(scene)
    assert len(found) == 4


def test_a_floor_with_furniture_on_it_is_one_object():
    scene = SceneBuilder()
    for x, y, length, width in ((-1.5, 0, 2.0, 3.0), (1.5, 0, 2.0, 3.0), (0, 1.35, 1.0, 0.3)):  # a neck of 30 cm
        scene.add_box("floor", (x, y, 0), (length, width, 0.02))
    found, _, _ = objects_of(scene)
    assert len(found) == 1


def test_specks_are_dropped():
    scene = SceneBuilder()
    scene.add_box("chair", (0, 0, 0.45), (0.5, 0.5, 0.5))
    scene.add_box("chair", (3, 0, 0.45), (0.08, 0.08, 0.08))
    found, _, things = objects_of(scene)
    assert len(found) == 1
    assert set(things[found[0].rows]) == {1}


def test_hesitant_voxels_join_a_confident_object_but_make_none():
    scene = SceneBuilder()
    scene.add_box("chair", (0, 0, 0.45), (0.5, 0.5, 0.5))
    scene.add_box("chair", (2, 0, 0.45), (0.5, 0.5, 0.5))

    def scores(snapshot, things):
        return np.where((things == 1) & (snapshot.centroids[:, 0] < 0), 0.9, 0.25).astype(np.float32)

    found, _, things = objects_of(scene, scores=scores)
    assert len(found) == 1
    assert (np.sort(found[0].rows) == np.flatnonzero(things == 1)).all()
    assert 0.25 < found[0].score < 0.9


def test_robust_mean_ignores_the_tails():
    assert robust_mean(np.array([0.0, 0.5, 0.5, 0.5, 1.0])) == pytest.approx(0.5)
    assert robust_mean(np.array([0.3])) == pytest.approx(0.3)


def test_objects_do_not_depend_on_the_order_of_voxels():
    scene = SceneBuilder()
    scene.add_box("chair", (0, 0, 0.45), (0.45, 0.45, 0.5))
    scene.add_box("chair", (1.0, 0, 0.45), (0.45, 0.45, 0.5))
    feature_map, _ = scene.build(WordEncoder(), noise=0)
    s = feature_map.snapshot
    order = np.random.default_rng(0).permutation(len(s.indices))
    shuffled = type(s)(1, s.voxel_size_m, *(a[order] for a in (s.indices, s.centroids, s.colors, s.normals)))
    again = QueryGrid.build(shuffled, np.arange(len(order)), shuffled.indices, s.voxel_size_m)
    ones = np.ones(len(order), np.float32)
    here = {tuple(np.round(one.box.center, 6)) for one in extract_instances(grid_of(feature_map), ones, QueryConfig())}
    there = {tuple(np.round(one.box.center, 6)) for one in extract_instances(again, ones, QueryConfig())}
    assert here == there
