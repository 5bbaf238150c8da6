"""Compiled inner loops of the voxel map: hash table, per-pixel fusion, carving.

All state lives in arrays owned by `VoxelMap`; the kernels release the GIL, so that ROS callbacks stay alive meanwhile.
"""
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201, ANN202, C901

from __future__ import annotations

import numba
import numpy as np

EMPTY = np.int64(-1)
TOMBSTONE = np.int64(-2)
_BIAS = 1 << 20
_MASK = (1 << 21) - 1

# rows of the rejection counters
OUT_OF_RANGE, EDGE, GRAZING, BUDGET = 0, 1, 2, 3
REJECTIONS = ("no_depth_or_range", "depth_edge", "grazing", "budget")


@numba.njit(cache=True, nogil=True, inline="always")
def pack_key(x, y, z):
    """One int64 key of a voxel index; 21 bits per axis."""
    return ((x + _BIAS) & _MASK) | (((y + _BIAS) & _MASK) << 21) | (((z + _BIAS) & _MASK) << 42)


@numba.njit(cache=True, nogil=True, inline="always")
def _hash(key, mask):
    h = key * np.int64(-7046029254386353131)
    h ^= (h >> 29) & np.int64(0x7FFFFFFFF)
    h *= np.int64(-4658895280553007687)
    h ^= (h >> 32) & np.int64(0xFFFFFFFF)
    return h & mask


@numba.njit(cache=True, nogil=True)
def find(keys, slots, key):
    """Slot of a key, -1 when it is not in the table."""
    mask = len(keys) - 1
    h = _hash(key, mask)
    while keys[h] != EMPTY:
        if keys[h] == key:
            return slots[h]
        h = (h + 1) & mask
    return -1


@numba.njit(cache=True, nogil=True)
def insert(keys, slots, key, slot):
    """Put a key that is not in the table yet; returns 1 if a tombstone was reused."""
    mask = len(keys) - 1
    h = _hash(key, mask)
    while keys[h] != EMPTY and keys[h] != TOMBSTONE:
        h = (h + 1) & mask
    reused = 1 if keys[h] == TOMBSTONE else 0
    keys[h] = key
    slots[h] = slot
    return reused


@numba.njit(cache=True, nogil=True)
def remove(keys, key):
    """Delete a key."""
    mask = len(keys) - 1
    h = _hash(key, mask)
    while keys[h] != EMPTY:
        if keys[h] == key:
            keys[h] = TOMBSTONE
            return
        h = (h + 1) & mask


@numba.njit(cache=True, nogil=True)
def rebuild(keys, slots, index, alive, count):
    """Fill an empty table from the slots in use."""
    for s in range(count):
        if alive[s]:
            insert(keys, slots, pack_key(np.int64(index[s, 0]), np.int64(index[s, 1]), np.int64(index[s, 2])), s)


@numba.njit(cache=True, nogil=True)
def fuse_frame(
    depth,
    color,
    color_known,
    fx,
    fy,
    cx,
    cy,
    T,
    voxel,
    z_min,
    z_max,
    cos_min,
    edge,
    stride,
    max_weight,
    budget,
    frame_id,
    stamp,
    keys,
    slots,
    state,
    free,
    index,
    weight,
    centroid,
    rgb,
    rgb_weight,
    normal,
    views,
    misses,
    last_frame,
    last_seen,
    alive,
    touched,
):
    """Fuse one frame. `state` = [slots used, free slots, alive, tombstones]. Returns (touched, added, rejections (4,))."""
    h, w = depth.shape
    rejected = np.zeros(4, np.int64)
    n_touched, added = 0, 0
    inv_voxel = 1.0 / voxel
    # gap of the central difference for normals: about 3 px in a 640 px wide image
    gap = max(1, (w * 3 + 320) // 640)
    last_key = np.int64(-3)
    slot = np.int64(-1)
    for v in range(0, h, stride):
        yn = (v - cy) / fy
        for u in range(0, w, stride):
            z = depth[v, u]
            if not (z >= z_min and z <= z_max):
                rejected[OUT_OF_RANGE] += 1
                continue
            limit = edge * z
            mixed = False
            if (
                (u > 0 and abs(depth[v, u - 1] - z) > limit and depth[v, u - 1] > 0)
                or (u < w - 1 and abs(depth[v, u + 1] - z) > limit and depth[v, u + 1] > 0)
                or (v > 0 and abs(depth[v - 1, u] - z) > limit and depth[v - 1, u] > 0)
                or (v < h - 1 and abs(depth[v + 1, u] - z) > limit and depth[v + 1, u] > 0)
            ):
                mixed = True
            if mixed:
                rejected[EDGE] += 1
                continue
            xn = (u - cx) / fx
            # normal from the depth on both sides; unknown at borders, holes and edges
            nx, ny, nz = 0.0, 0.0, 0.0
            if u >= gap and u < w - gap and v >= gap and v < h - gap:
                zl, zr, zu, zd = depth[v, u - gap], depth[v, u + gap], depth[v - gap, u], depth[v + gap, u]
                wide = limit * 2
                if (
                    zl > 0
                    and zr > 0
                    and zu > 0
                    and zd > 0
                    and abs(zl - z) < wide
                    and abs(zr - z) < wide
                    and abs(zu - z) < wide
                    and abs(zd - z) < wide
                ):
                    ax = (u + gap - cx) / fx * zr - (u - gap - cx) / fx * zl
                    ay, az = yn * (zr - zl), zr - zl
                    bx = xn * (zd - zu)
                    by = (v + gap - cy) / fy * zd - (v - gap - cy) / fy * zu
                    bz = zd - zu
                    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
                    length = np.sqrt(nx * nx + ny * ny + nz * nz)
                    if length > 0:
                        nx, ny, nz = nx / length, ny / length, nz / length
                        facing = (nx * xn + ny * yn + nz) / np.sqrt(xn * xn + yn * yn + 1.0)
                        if facing > 0:
                            nx, ny, nz = -nx, -ny, -nz
                            facing = -facing
                        if -facing < cos_min:
                            rejected[GRAZING] += 1
                            continue
            x, y = xn * z, yn * z
            px = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]
            py = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
            pz = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
            ix, iy, iz = (
                np.int64(np.floor(px * inv_voxel)),
                np.int64(np.floor(py * inv_voxel)),
                np.int64(np.floor(pz * inv_voxel)),
            )
            key = pack_key(ix, iy, iz)
            if key != last_key:
                last_key = key
                slot = find(keys, slots, key)
                if slot < 0:
                    if state[2] >= budget:
                        rejected[BUDGET] += 1
                        last_key = np.int64(-3)
                        continue
                    if state[1] > 0:
                        state[1] -= 1
                        slot = free[state[1]]
                    else:
                        slot = state[0]
                        state[0] += 1
                    state[2] += 1
                    state[3] -= insert(keys, slots, key, slot)
                    index[slot, 0], index[slot, 1], index[slot, 2] = ix, iy, iz
                    weight[slot] = 0
                    rgb_weight[slot] = 0
                    views[slot] = 0
                    for k in range(3):
                        centroid[slot, k] = 0
                        rgb[slot, k] = 0
                        normal[slot, k] = 0
                    last_frame[slot] = -1
                    alive[slot] = True
                    added += 1
                if last_frame[slot] != frame_id:
                    last_frame[slot] = frame_id
                    last_seen[slot] = stamp
                    misses[slot] = 0
                    if views[slot] < 65535:
                        views[slot] += 1
                    touched[n_touched] = slot
                    n_touched += 1
            elif slot < 0:
                continue
            total = min(weight[slot] + 1.0, max_weight)
            a = 1.0 / total
            weight[slot] = total
            # centroid relative to the voxel corner: float32 stays exact far from the origin
            centroid[slot, 0] += (px - ix * voxel - centroid[slot, 0]) * a
            centroid[slot, 1] += (py - iy * voxel - centroid[slot, 1]) * a
            centroid[slot, 2] += (pz - iz * voxel - centroid[slot, 2]) * a
            if nx != 0 or ny != 0 or nz != 0:
                normal[slot, 0] += (T[0, 0] * nx + T[0, 1] * ny + T[0, 2] * nz - normal[slot, 0]) * a
                normal[slot, 1] += (T[1, 0] * nx + T[1, 1] * ny + T[1, 2] * nz - normal[slot, 1]) * a
                normal[slot, 2] += (T[2, 0] * nx + T[2, 1] * ny + T[2, 2] * nz - normal[slot, 2]) * a
            if color_known[v, u]:
                ct = min(rgb_weight[slot] + 1.0, max_weight)
                rgb_weight[slot] = ct
                for k in range(3):
                    rgb[slot, k] += (color[v, u, k] - rgb[slot, k]) / ct
    return n_touched, added, rejected


@numba.njit(cache=True, nogil=True)
def carve_frame(
    depth,
    fx,
    fy,
    cx,
    cy,
    T_camera_world,
    voxel,
    margin,
    z_min,
    z_max,
    misses_needed,
    phase,
    every,
    frame_id,
    keys,
    state,
    free,
    index,
    centroid,
    misses,
    last_frame,
    alive,
    removed_index,
):
    """Count voxels that the frame sees through and remove those seen through often enough.

    A voxel counts as seen through only where the 5 x 5 px around its projection (every second pixel) all measured a depth
    clearly behind it: holes, edges and thin things never carve. Returns the number removed; their indices go to `removed_index`.
    """
    h, w = depth.shape
    removed = 0
    for s in range(phase, state[0], every):
        if not alive[s] or last_frame[s] == frame_id:
            continue
        px, py, pz = (
            index[s, 0] * voxel + centroid[s, 0],
            index[s, 1] * voxel + centroid[s, 1],
            index[s, 2] * voxel + centroid[s, 2],
        )
        z = T_camera_world[2, 0] * px + T_camera_world[2, 1] * py + T_camera_world[2, 2] * pz + T_camera_world[2, 3]
        if z < z_min or z > z_max:
            continue
        u = int(
            np.floor(
                (T_camera_world[0, 0] * px + T_camera_world[0, 1] * py + T_camera_world[0, 2] * pz + T_camera_world[0, 3])
                / z
                * fx
                + cx
                + 0.5
            )
        )
        v = int(
            np.floor(
                (T_camera_world[1, 0] * px + T_camera_world[1, 1] * py + T_camera_world[1, 2] * pz + T_camera_world[1, 3])
                / z
                * fy
                + cy
                + 0.5
            )
        )
        if u < 2 or v < 2 or u >= w - 2 or v >= h - 2:
            continue
        need = z + margin + 0.02 * z * z
        through = True
        for dv in range(-2, 3, 2):
            for du in range(-2, 3, 2):
                if not depth[v + dv, u + du] > need:
                    through = False
                    break
            if not through:
                break
        if not through:
            continue
        misses[s] += 1
        if misses[s] >= misses_needed:
            remove(keys, pack_key(np.int64(index[s, 0]), np.int64(index[s, 1]), np.int64(index[s, 2])))
            alive[s] = False
            free[state[1]] = s
            state[1] += 1
            state[2] -= 1
            state[3] += 1
            removed_index[removed, 0], removed_index[removed, 1], removed_index[removed, 2] = (
                index[s, 0],
                index[s, 1],
                index[s, 2],
            )
            removed += 1
    return removed


@numba.njit(cache=True, nogil=True)
def release(selected, keys, state, free, index, alive):
    """Remove the selected slots (K,) from the map."""
    for i in range(len(selected)):
        s = selected[i]
        remove(keys, pack_key(np.int64(index[s, 0]), np.int64(index[s, 1]), np.int64(index[s, 2])))
        alive[s] = False
        free[state[1]] = s
        state[1] += 1
        state[2] -= 1
        state[3] += 1
