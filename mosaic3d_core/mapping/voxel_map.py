"""The sparse voxel map that RGB-D frames are fused into."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.registration import register_color_to_depth
from mosaic3d_core.geometry.transforms import invert_transform
from mosaic3d_core.mapping import kernels
from mosaic3d_core.mapping.config import FIXED_SETTINGS, VoxelMapConfig
from mosaic3d_core.mapping.snapshot import MapSnapshot

_NEUTRAL_COLOR = 128.0


@dataclass(frozen=True, eq=False)
class MapDelta:
    """What one frame changed.

    Attributes:
        generation: Generation of the map after the change.
        dirty_blocks: (M, 3) int32 blocks (block index = voxel index // block_size) with a new, changed or removed voxel.
        num_added: New voxels.
        num_updated: Voxels hit again.
        num_carved: Voxels removed because the camera saw through them.
        num_evicted: Voxels removed to keep the budget.
        num_dropped_budget: Pixels that found no room in this frame.
        rejected_pixels: Pixels not used, by reason.
    """

    generation: int
    dirty_blocks: NDArray[np.int32]
    num_added: int
    num_updated: int
    num_carved: int
    num_evicted: int
    num_dropped_budget: int
    rejected_pixels: Mapping[str, int]

    @property
    def num_rejected_pixels(self) -> int:
        """All pixels not used."""
        return sum(self.rejected_pixels.values())


class VoxelMap:
    """Sparse voxel map with running means per voxel. Thread-safe: one lock around integration, snapshots and reset.

    Args:
        config: Settings; defaults when None.
        up: Direction against gravity in the world, written into snapshots.
    """

    def __init__(self, config: VoxelMapConfig | None = None, up: ArrayLike = (0.0, 0.0, 1.0)) -> None:
        self.config = config if config is not None else VoxelMapConfig()
        self.up = np.asarray(up, np.float64)
        self._lock = threading.Lock()
        self._generation = 0
        self._clear(1 << 16)

    def _clear(self, capacity: int) -> None:
        self._frames = 0
        self._stamp_ns = 0
        self._state = np.zeros(4, np.int64)  # slots used, free slots, alive, tombstones
        self._allocate(capacity)
        self._keys = np.full(2 * capacity, kernels.EMPTY, np.int64)
        self._slots = np.zeros(2 * capacity, np.int64)

    def _allocate(self, capacity: int) -> None:
        """Slot arrays of a new capacity, keeping what they hold."""
        layout: dict[str, tuple[tuple[int, ...], type]] = {
            "index": ((3,), np.int32),
            "weight": ((), np.float32),
            "centroid": ((3,), np.float32),
            "rgb": ((3,), np.float32),
            "rgb_weight": ((), np.float32),
            "normal": ((3,), np.float32),
            "views": ((), np.uint16),
            "misses": ((), np.uint8),
            "last_frame": ((), np.int64),
            "last_seen": ((), np.int64),
            "alive": ((), np.bool_),
            "free": ((), np.int64),
            "touched": ((), np.int64),
        }
        old: dict[str, NDArray] = self.__dict__.get("_a", {})
        used = int(self._state[0])
        fresh: dict[str, NDArray] = {}
        for name, (shape, dtype) in layout.items():
            fresh[name] = np.zeros((capacity, *shape), dtype)
            if used and name in old:
                keep = int(self._state[1]) if name == "free" else used
                fresh[name][:keep] = old[name][:keep]
        self._a = fresh
        self._capacity = capacity

    def _make_room(self, needed: int) -> None:
        """Grow the slot arrays and the table before a frame that may add `needed` voxels."""
        room = self._capacity - int(self._state[0]) + int(self._state[1])
        if room < needed:
            self._allocate(max(2 * self._capacity, self._capacity + needed))
        filled = int(self._state[2] + self._state[3]) + needed
        if 2 * filled > len(self._keys):
            size = 1 << int(np.ceil(np.log2(max(4.0 * (int(self._state[2]) + needed), 1024))))
            self._keys = np.full(size, kernels.EMPTY, np.int64)
            self._slots = np.zeros(size, np.int64)
            self._state[3] = 0
            kernels.rebuild(self._keys, self._slots, self._a["index"], self._a["alive"], int(self._state[0]))

    @property
    def generation(self) -> int:
        """Counts changes; never goes back, not even by `reset`."""
        return self._generation

    @property
    def frames(self) -> int:
        """Frames fused since the start or the last reset."""
        return self._frames

    def __len__(self) -> int:
        return int(self._state[2])

    def reconfigure(self, config: VoxelMapConfig) -> None:
        """Take other settings from the next frame on.

        Raises:
            ValueError: If the voxel size, the block size or the budget differ, for which the map would have to begin anew.
        """
        for name in FIXED_SETTINGS:
            if getattr(config, name) != getattr(self.config, name):
                raise ValueError(
                    f"map setting {name} is {getattr(self.config, name)} for the life of the map, it cannot become "
                    f"{getattr(config, name)}: start again with a new map"
                )
        self.config = config

    def reset(self) -> None:
        """Forget all voxels."""
        with self._lock:
            self._a = {}
            self._clear(1 << 16)
            self._generation += 1

    def restore(self, snapshot: MapSnapshot) -> None:
        """Replace the map by a snapshot, to go on from there.

        What a snapshot does not tell is taken as settled: its voxels count as seen often enough.

        Args:
            snapshot: The map to go on from.

        Raises:
            ValueError: If its voxels are of another size, or too many for this map.
        """
        c, count = self.config, len(snapshot)
        if not np.isclose(snapshot.voxel_size_m, c.voxel_size_m):
            raise ValueError(f"the map has voxels of {snapshot.voxel_size_m} m, this one of {c.voxel_size_m} m: use equal sizes")
        if count > c.max_voxels:
            raise ValueError(f"the map has {count} voxels, this one holds at most {c.max_voxels}: raise max_voxels")
        with self._lock:
            self._a = {}
            self._clear(1 << max(16, count.bit_length()))  # the table wants a power of two
            a = self._a
            corner = snapshot.indices.astype(np.float64) * c.voxel_size_m
            for name, values in (
                ("index", snapshot.indices),
                ("weight", np.minimum(snapshot.weights, c.max_weight)),
                ("centroid", snapshot.centroids - corner),
                ("rgb", snapshot.colors),
                ("rgb_weight", np.minimum(snapshot.weights, c.max_weight)),
                ("normal", snapshot.normals),
                ("views", c.min_views),
                ("last_seen", snapshot.last_seen_ns),
                ("alive", True),
            ):
                a[name][:count] = values
            self._state[0] = self._state[2] = count
            kernels.rebuild(self._keys, self._slots, a["index"], a["alive"], count)
            self._frames = 3 * c.min_views  # no longer among the first frames, which are exempt from min_views
            self._stamp_ns = int(snapshot.stamp_ns)
            self._generation += 1

    def integrate(self, frame: RGBDFrame) -> MapDelta:
        """Fuse one frame.

        Args:
            frame: Posed RGB-D; a frame without depth changes nothing but the generation.

        Returns:
            What changed.
        """
        c = self.config
        depth = np.ascontiguousarray(np.nan_to_num(frame.depth, nan=0.0, posinf=0.0, neginf=0.0))
        if frame.registered:
            color, known = np.ascontiguousarray(frame.color), np.ones(depth.shape, np.bool_)
        else:
            T_color_depth = frame.T_color_depth if frame.T_color_depth is not None else np.eye(4)
            color, known = register_color_to_depth(
                frame.color, frame.color_camera or frame.depth_camera, T_color_depth, depth, frame.depth_camera, c.pixel_stride
            )
        cam = frame.depth_camera
        with self._lock:
            self._make_room(-(-depth.shape[0] // c.pixel_stride) * -(-depth.shape[1] // c.pixel_stride))
            a, frame_id = self._a, self._frames
            touched, added, rejected = kernels.fuse_frame(
                depth,
                color,
                known,
                cam.fx,
                cam.fy,
                cam.cx,
                cam.cy,
                frame.T_world_camera,
                c.voxel_size_m,
                c.min_depth_m,
                c.max_depth_m,
                float(np.cos(np.radians(c.max_grazing_angle_deg))),
                c.edge_threshold,
                c.pixel_stride,
                c.max_weight,
                c.max_voxels,
                frame_id,
                frame.stamp_ns,
                self._keys,
                self._slots,
                self._state,
                a["free"],
                a["index"],
                a["weight"],
                a["centroid"],
                a["rgb"],
                a["rgb_weight"],
                a["normal"],
                a["views"],
                a["misses"],
                a["last_frame"],
                a["last_seen"],
                a["alive"],
                a["touched"],
            )
            changed = [a["index"][a["touched"][:touched]]]
            carved = self._carve(depth, frame, frame_id, changed)
            evicted = self._evict(frame_id, changed) if rejected[kernels.BUDGET] else 0
            self._frames += 1
            self._stamp_ns = max(self._stamp_ns, frame.stamp_ns)
            self._generation += 1
            generation = self._generation
        reasons = {name: int(n) for name, n in zip(kernels.REJECTIONS, rejected, strict=True)}
        dropped = reasons.pop("budget")
        blocks = _unique_blocks(np.concatenate(changed), c.block_size)
        return MapDelta(generation, blocks, int(added), int(touched - added), carved, evicted, dropped, reasons)

    def _carve(self, depth: NDArray[np.float32], frame: RGBDFrame, frame_id: int, changed: list[NDArray[np.int32]]) -> int:
        c, a, cam = self.config, self._a, frame.depth_camera
        if c.carve_misses == 0:
            return 0
        gone = np.zeros(
            (int(self._state[2]) // c.carve_every + c.carve_every + int(self._state[0]) // c.carve_every, 3), np.int32
        )
        removed = kernels.carve_frame(
            depth,
            cam.fx,
            cam.fy,
            cam.cx,
            cam.cy,
            invert_transform(frame.T_world_camera),
            c.voxel_size_m,
            c.carve_margin_m,
            c.min_depth_m,
            c.max_depth_m,
            c.carve_misses,
            frame_id % c.carve_every,
            c.carve_every,
            frame_id,
            self._keys,
            self._state,
            a["free"],
            a["index"],
            a["centroid"],
            a["misses"],
            a["last_frame"],
            a["alive"],
            gone,
        )
        changed.append(gone[:removed])
        return int(removed)

    def _evict(self, frame_id: int, changed: list[NDArray[np.int32]]) -> int:
        """Drop the blocks unseen for the longest time until a tenth of the budget is free; blocks in view stay."""
        c, a, used = self.config, self._a, int(self._state[0])
        alive = np.nonzero(a["alive"][:used])[0]
        blocks, owner = np.unique(a["index"][alive] // c.block_size, axis=0, return_inverse=True)
        owner = owner.reshape(-1)
        newest = np.full(len(blocks), -1, np.int64)
        np.maximum.at(newest, owner, a["last_frame"][alive])
        size = np.bincount(owner, minlength=len(blocks))
        order = np.argsort(newest, kind="stable")
        order = order[newest[order] < frame_id]
        excess = int(self._state[2]) - int(0.9 * c.max_voxels)
        count = int(np.searchsorted(np.cumsum(size[order]), excess)) + 1 if excess > 0 else 0
        doomed = np.zeros(len(blocks), bool)
        doomed[order[:count]] = True
        selected = alive[doomed[owner]]
        changed.append(a["index"][selected].copy())
        kernels.release(selected, self._keys, self._state, a["free"], a["index"], a["alive"])
        return len(selected)

    def snapshot(self) -> MapSnapshot:
        """A copy of the voxels seen by at least `min_views` frames (fewer while fewer frames were fused)."""
        c = self.config
        with self._lock:
            used, a = int(self._state[0]), self._a
            need = min(c.min_views, max(1, self._frames // 3))
            rows = np.nonzero(a["alive"][:used] & (a["views"][:used] >= need))[0]
            generation, stamp = self._generation, self._stamp_ns
            picked = {name: a[name][rows] for name in ("index", "weight", "centroid", "rgb", "rgb_weight", "normal", "last_seen")}
        corner = picked["index"].astype(np.float64) * c.voxel_size_m
        centroids = (corner + picked["centroid"]).astype(np.float32)
        colors = np.where(picked["rgb_weight"][:, None] > 0, picked["rgb"], _NEUTRAL_COLOR).astype(np.float32)
        length = np.linalg.norm(picked["normal"], axis=1, keepdims=True)
        # a mean of unit normals shorter than this is made of disagreeing ones
        normals = np.where(length > 0.2, picked["normal"] / np.maximum(length, 1e-9), 0).astype(np.float32)
        return MapSnapshot(
            generation,
            stamp,
            c.voxel_size_m,
            picked["index"],
            centroids,
            colors,
            normals,
            picked["weight"],
            picked["last_seen"],
            self.up.copy(),
        )


def _unique_blocks(indices: NDArray[np.int32], block_size: int) -> NDArray[np.int32]:
    """Distinct blocks (M, 3) of voxel indices (K, 3)."""
    blocks = (indices // block_size).astype(np.int64) + (1 << 20)
    keys = np.unique(blocks[:, 0] | (blocks[:, 1] << 21) | (blocks[:, 2] << 42))
    mask = (1 << 21) - 1
    return (np.stack([keys & mask, (keys >> 21) & mask, keys >> 42], 1) - (1 << 20)).astype(np.int32)
