"""Rooms that change: a thing is taken away or moved, with what stands on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mosaic3d_core.data.synthetic.scene import RoomScene


def without_instance(scene: RoomScene, number: int) -> RoomScene:
    """The room after a thing was taken away; ids of all others stay.

    Args:
        scene: The room.
        number: Instance id.

    Raises:
        ValueError: If the room has no such instance.
    """
    kept = ~_triangles_of(scene, number)
    return replace(
        scene,
        triangles=scene.triangles[kept],
        triangle_instance=scene.triangle_instance[kept],
        triangle_material=scene.triangle_material[kept],
    )


def with_instance_moved(scene: RoomScene, number: int, offset: ArrayLike) -> RoomScene:
    """The room after a thing was moved.

    Args:
        scene: The room.
        number: Instance id.
        offset: World metres (3,).

    Raises:
        ValueError: If the room has no such instance.
    """
    shift = np.asarray(offset, np.float64)
    vertices = scene.vertices.copy()
    vertices[np.unique(scene.triangles[_triangles_of(scene, number)])] += shift.astype(np.float32)  # things share no vertices
    moved = set(_with_what_stands_on_it(scene, number))
    instances = tuple(
        replace(one, position=one.position + shift, bounds=one.bounds + shift) if one.id in moved else one
        for one in scene.instances
    )
    return replace(scene, vertices=vertices, instances=instances)


def _triangles_of(scene: RoomScene, number: int) -> NDArray[np.bool_]:
    return np.isin(scene.triangle_instance + 1, _with_what_stands_on_it(scene, number))


def _with_what_stands_on_it(scene: RoomScene, number: int) -> list[int]:
    if not 1 <= number <= len(scene.instances):
        raise ValueError(f"room {scene.name} has no instance {number}: ids go from 1 to {len(scene.instances)}")
    found = [number]
    for one in scene.instances:  # parents come before what stands on them
        if one.parent in found:
            found.append(one.id)
    return found
