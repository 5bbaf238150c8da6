"""The voxel map against a dictionary, and what a user relies on over a long run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_core.mapping import MapSnapshot, VoxelMap, VoxelMapConfig

CAMERA = PinholeCamera(60.0, 60.0, 31.5, 23.5, 64, 48)
PLAIN = {"pixel_stride": 1, "min_views": 1, "carve_misses": 0}


def frame(depth: np.ndarray, pose: np.ndarray | None = None, color: np.ndarray | None = None, stamp: int = 0) -> RGBDFrame:
    if color is None:
        color = np.full((48, 64, 3), 100, np.uint8)
    return RGBDFrame(stamp, color, depth.astype(np.float32), CAMERA, np.eye(4) if pose is None else pose)


def moved(x: float, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    return pose


def by_dictionary(
    frames: list[RGBDFrame], config: VoxelMapConfig
) -> dict[tuple[int, int, int], tuple[int, np.ndarray, np.ndarray]]:
    """(pixels, mean point, mean colour) per voxel with the same per-pixel rules, in double precision."""
    voxels: dict[tuple[int, int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for f in frames:
        depth = np.nan_to_num(f.depth, nan=0.0, posinf=0.0)
        points = CAMERA.unproject(depth).astype(np.float64)
        for v in range(48):
            for u in range(64):
                z = float(depth[v, u])
                if not config.min_depth_m <= z <= config.max_depth_m:
                    continue
                near = [depth[b, a] for a, b in ((u - 1, v), (u + 1, v), (u, v - 1), (u, v + 1)) if 0 <= a < 64 and 0 <= b < 48]
                if any(n > 0 and abs(n - z) > config.edge_threshold * z for n in near):
                    continue
                p = f.T_world_camera[:3, :3] @ points[v, u] + f.T_world_camera[:3, 3]
                key = tuple(int(k) for k in np.floor(p / config.voxel_size_m))
                voxels.setdefault(key, []).append((p, f.color[v, u].astype(float)))  # type: ignore[arg-type]
    return {k: (len(v), np.mean([p for p, _ in v], 0), np.mean([c for _, c in v], 0)) for k, v in voxels.items()}


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_fusion_equals_averaging_in_a_dictionary(seed):
    rng = np.random.default_rng(seed)
    config = VoxelMapConfig(voxel_size_m=0.05, max_grazing_angle_deg=90.0, max_weight=1e6, **PLAIN)
    frames = []
    for k in range(3):
        depth = rng.uniform(0.9, 1.0, (48, 64)) + (rng.random((48, 64)) < 0.3) * rng.uniform(0, 4)
        depth[rng.random((48, 64)) < 0.1] = rng.choice([0, np.nan, np.inf, 9.0])
        frames.append(frame(depth, moved(0.1 * k, 0.03, -0.2), rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)))
    voxel_map = VoxelMap(config)
    for f in frames:
        voxel_map.integrate(f)
    snapshot, expected = voxel_map.snapshot(), by_dictionary([*frames], config)
    found = {tuple(int(x) for x in i): k for k, i in enumerate(snapshot.indices)}
    # a point within float rounding of a cell border may land on either side
    assert len(set(found) ^ set(expected)) <= 0.002 * len(expected) + 1
    for key in set(found) & set(expected):
        count, point, color = expected[key]
        k = found[key]
        if snapshot.weights[k] == count:
            assert np.allclose(snapshot.centroids[k], point, atol=1e-4)
            assert np.allclose(snapshot.colors[k], color, atol=0.05)  # running means in float32


def test_moving_the_world_by_whole_voxels_shifts_the_indices_exactly():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1.0, 1.5, (48, 64))
    config = VoxelMapConfig(voxel_size_m=0.0625, **PLAIN)  # a power of two: the shift is exact in floating point
    results = []
    for shift in (0, 40):
        voxel_map = VoxelMap(config)
        voxel_map.integrate(frame(depth, moved(shift * 0.0625, -shift * 0.0625, 0)))
        s = voxel_map.snapshot()
        results.append({tuple(i) for i in (s.indices - np.array([shift, -shift, 0])).tolist()})
    assert results[0] == results[1]


def test_normals_point_towards_the_camera():
    voxel_map = VoxelMap(VoxelMapConfig(**PLAIN))
    voxel_map.integrate(frame(np.full((48, 64), 2.0)))
    s = voxel_map.snapshot()
    inner = np.abs(s.centroids[:, 0]) < 0.5
    known = np.linalg.norm(s.normals, axis=1) > 0.5
    assert known[inner].mean() > 0.8
    assert (s.normals[known] @ [0, 0, -1] > 0.99).all()


def test_flying_pixels_grazing_surfaces_and_far_depth_are_rejected_and_counted():
    depth = np.full((48, 64), 2.0)
    depth[:, 32:] = 1.0
    depth[:5] = 9.0
    delta = VoxelMap(VoxelMapConfig(**PLAIN)).integrate(frame(depth))
    assert delta.rejected_pixels["no_depth_or_range"] == 5 * 64
    assert delta.rejected_pixels["depth_edge"] >= 2 * 42
    slope = 1.0 + np.linspace(0, 4.0, 64)[None, :] * np.ones((48, 1))  # steep ramp, edges allowed
    steep = VoxelMap(VoxelMapConfig(edge_threshold=0.5, max_grazing_angle_deg=45.0, **PLAIN)).integrate(frame(slope))
    assert steep.rejected_pixels["grazing"] > 500


def test_weights_are_capped_and_a_day_of_frames_stays_sound():
    voxel_map = VoxelMap(VoxelMapConfig(max_weight=100.0, **PLAIN))
    depth = np.full((48, 64), 1.5)
    for k in range(400):
        voxel_map.integrate(frame(depth, color=np.full((48, 64, 3), 50, np.uint8), stamp=k))
    for k in range(400):
        voxel_map.integrate(frame(depth, color=np.full((48, 64, 3), 200, np.uint8), stamp=400 + k))
    s = voxel_map.snapshot()
    assert s.weights.max() == 100.0
    seen = s.weights >= 100
    assert np.abs(s.colors[seen] - 200).max() < 5, "the mean follows a lasting change"
    assert np.abs(s.centroids[:, 2] - 1.5).max() < 1e-3
    assert s.stamp_ns == 799


def test_a_removed_object_disappears_and_the_wall_behind_stays_under_noise():
    rng = np.random.default_rng(1)
    voxel_map = VoxelMap(VoxelMapConfig(pixel_stride=1, min_views=1))

    def noisy(depth):
        return depth * (1 + rng.normal(0, 0.004, depth.shape))

    wall, with_box = np.full((48, 64), 2.5), np.full((48, 64), 2.5)
    with_box[15:35, 20:45] = 1.5
    for k in range(8):
        voxel_map.integrate(frame(noisy(with_box), stamp=k))
    box = voxel_map.snapshot().centroids[:, 2] < 1.8
    assert box.sum() > 100
    for k in range(40):
        delta = voxel_map.integrate(frame(noisy(wall), stamp=8 + k))
        assert delta.generation == 9 + k
    s = voxel_map.snapshot()
    assert (s.centroids[:, 2] < 1.8).sum() < 0.02 * box.sum()
    front = np.abs(s.centroids[:, 2] - 2.5) < 0.06
    assert front.sum() > 800


def test_missing_depth_never_carves():
    voxel_map = VoxelMap(VoxelMapConfig(pixel_stride=1, min_views=1))
    voxel_map.integrate(frame(np.full((48, 64), 1.5)))
    before = len(voxel_map)
    for _ in range(30):
        delta = voxel_map.integrate(frame(np.zeros((48, 64))))
        assert delta.num_carved == 0
    assert len(voxel_map) == before


def test_the_budget_is_never_exceeded_and_the_oldest_blocks_go_first():
    config = VoxelMapConfig(voxel_size_m=0.02, max_voxels=6000, **PLAIN)
    voxel_map = VoxelMap(config)
    dropped = evicted = 0
    for k in range(14):
        delta = voxel_map.integrate(frame(np.full((48, 64), 1.5), moved(3.0 * k), stamp=k))
        assert len(voxel_map) <= 6000
        dropped, evicted = dropped + delta.num_dropped_budget, evicted + delta.num_evicted
    assert evicted > 0
    s = voxel_map.snapshot()
    assert (s.centroids[:, 0] > 3.0 * 11).any(), "the newest view is there"
    assert not (s.centroids[:, 0] < 3.0 * 5).any(), "the oldest are gone"


def test_dirty_blocks_cover_exactly_what_changed():
    config = VoxelMapConfig(**PLAIN)
    voxel_map = VoxelMap(config)
    delta = voxel_map.integrate(frame(np.full((48, 64), 1.0)))
    expected = {tuple(b) for b in np.unique(voxel_map.snapshot().indices // config.block_size, axis=0).tolist()}
    assert {tuple(b) for b in delta.dirty_blocks.tolist()} == expected
    assert len(voxel_map.integrate(frame(np.zeros((48, 64)))).dirty_blocks) == 0


def test_voxels_seen_once_are_held_back_until_seen_again():
    voxel_map = VoxelMap(VoxelMapConfig(pixel_stride=1, min_views=2))
    for _ in range(6):
        voxel_map.integrate(frame(np.full((48, 64), 1.5)))
    steady = len(voxel_map.snapshot())
    voxel_map.integrate(frame(np.full((48, 64), 1.2)))
    assert len(voxel_map.snapshot()) == steady
    assert len(voxel_map) > steady


def test_reset_empties_the_map_and_the_generation_goes_on():
    voxel_map = VoxelMap(VoxelMapConfig(**PLAIN))
    voxel_map.integrate(frame(np.full((48, 64), 1.0)))
    voxel_map.reset()
    assert len(voxel_map) == 0
    assert len(voxel_map.snapshot()) == 0
    assert voxel_map.generation == 2
    voxel_map.integrate(frame(np.full((48, 64), 1.0)))
    assert len(voxel_map) > 0


def test_colour_unknown_to_the_colour_camera_is_neutral_grey():
    aside = np.eye(4)
    aside[0, 3] = 100.0  # the colour camera looks somewhere else
    f = RGBDFrame(0, np.zeros((48, 64, 3), np.uint8), np.full((48, 64), 1.0, np.float32), CAMERA, np.eye(4), CAMERA, aside)
    voxel_map = VoxelMap(VoxelMapConfig(**PLAIN))
    voxel_map.integrate(f)
    assert (voxel_map.snapshot().colors == 128.0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"voxel_size_m": 0.0}, "voxel_size_m must be > 0"),
        ({"pixel_stride": 0}, "pixel_stride must be >= 1"),
        ({"min_depth_m": 3.0, "max_depth_m": 2.0}, "must be above min_depth_m"),
        ({"max_grazing_angle_deg": 120.0}, r"in \(0, 90\]"),
        ({"carve_misses": -1}, "0 turns carving off"),
        ({"max_weight": float("nan")}, "must be finite"),
    ],
)
def test_impossible_settings_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        VoxelMapConfig(**values)


def test_a_cloud_becomes_a_snapshot_whose_normals_follow_its_planes():
    rng = np.random.default_rng(0)
    floor = rng.uniform([0, 0, 0], [1, 1, 0.001], (20_000, 3))
    colors = np.full((20_000, 3), 7.0)
    snapshot, row = MapSnapshot.from_points_with_inverse(floor, colors)
    assert np.allclose(snapshot.indices[row], np.floor(floor / 0.02))
    assert (np.abs(snapshot.normals[:, 2]) > 0.95).mean() > 0.95
    assert snapshot.weights.sum() == 20_000
    assert np.allclose(snapshot.colors, 7.0)
    empty = MapSnapshot.from_points(np.zeros((0, 3)), np.zeros((0, 3)))
    assert len(empty) == 0


def test_clouds_with_nan_or_mismatched_colours_are_refused():
    with pytest.raises(ValueError, match="drop NaN"):
        MapSnapshot.from_points([[np.nan, 0, 0]], [[0, 0, 0]])
    with pytest.raises(ValueError, match="must both be"):
        MapSnapshot.from_points(np.zeros((2, 3)), np.zeros((1, 3)))


def test_a_restored_map_is_the_saved_one_and_goes_on_being_fused():
    rng = np.random.default_rng(2)
    views = [frame(rng.uniform(1.0, 2.0, (48, 64)), moved(0.3 * k), stamp=k + 1) for k in range(6)]
    first = VoxelMap(VoxelMapConfig(**PLAIN))
    for one in views:
        first.integrate(one)
    saved = first.snapshot()
    second = VoxelMap(VoxelMapConfig(**PLAIN))
    second.integrate(frame(np.full((48, 64), 3.0)))
    second.restore(saved)
    again = second.snapshot()
    assert second.generation == 2
    assert again.stamp_ns == 6
    order, other = np.lexsort(saved.indices.T), np.lexsort(again.indices.T)
    assert np.array_equal(saved.indices[order], again.indices[other])
    for name, tolerance in (("centroids", 1e-6), ("colors", 1e-4), ("normals", 1e-5), ("weights", 0), ("last_seen_ns", 0)):
        assert np.allclose(getattr(saved, name)[order], getattr(again, name)[other], atol=tolerance), name
    one = frame(rng.uniform(1.0, 2.0, (48, 64)), stamp=9)
    a, b = first.integrate(one), second.integrate(one)
    assert (a.num_added, a.num_updated) == (b.num_added, b.num_updated)
    assert len(first) == len(second)


def test_a_restored_map_can_be_larger_than_a_fresh_one_has_room_for():
    points = np.stack(np.meshgrid(*[np.arange(45)] * 3), -1).reshape(-1, 3) * 0.02 + 0.01
    snapshot = MapSnapshot.from_points(points, np.full(points.shape, 90.0), 0.02, normals=np.zeros(points.shape))
    voxel_map = VoxelMap(VoxelMapConfig(**PLAIN))
    voxel_map.restore(snapshot)
    assert len(voxel_map) == len(voxel_map.snapshot()) == 45**3


def test_a_map_of_other_voxels_or_too_many_is_not_restored():
    cloud = MapSnapshot.from_points(np.eye(3), np.zeros((3, 3)), 0.05)
    voxel_map = VoxelMap(VoxelMapConfig(**PLAIN))
    with pytest.raises(ValueError, match=r"voxels of 0\.05 m, this one of 0\.02 m"):
        voxel_map.restore(cloud)
    with pytest.raises(ValueError, match="3 voxels, this one holds at most 2"):
        VoxelMap(VoxelMapConfig(voxel_size_m=0.05, max_voxels=2, **PLAIN)).restore(cloud)
