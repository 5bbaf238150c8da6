"""Placing furniture in a rectangular room without collisions.

Room coordinates: x in [0, width], y in [0, depth], z up from the floor, metres. Walls are numbered counter-clockwise from
the one at y = 0; an object at a wall has its back to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.synthetic.furniture.model import ObjectModel
from mosaic3d_core.data.synthetic.mesh import rotation_z

Rect = tuple[float, float, float, float]


@dataclass(frozen=True)
class Placement:
    """An object with its pose in the room: `rotation` (3, 3) about z, `position` (3,) metres; `parent` = index it stands on."""

    model: ObjectModel
    rotation: NDArray[np.float64]
    position: NDArray[np.float64]
    wall: int | None = None
    parent: int | None = None

    @property
    def footprint(self) -> Rect:
        """Axis-aligned bounds (x0, x1, y0, y1) of the reserved footprint."""
        w, d, _ = self.model.size
        corners = np.array([[sx * w / 2, sy * d / 2, 0] for sx in (-1, 1) for sy in (-1, 1)]) @ self.rotation.T + self.position
        return float(corners[:, 0].min()), float(corners[:, 0].max()), float(corners[:, 1].min()), float(corners[:, 1].max())


@dataclass(frozen=True)
class Opening:
    """A rectangular hole in wall `wall`: along-wall span (s0, s1) and height span (z0, z1)."""

    wall: int
    s0: float
    s1: float
    z0: float
    z1: float


def _overlap(a: Rect, b: Rect, margin: float) -> bool:
    return a[0] < b[1] + margin and b[0] < a[1] + margin and a[2] < b[3] + margin and b[2] < a[3] + margin


@dataclass
class RoomPlan:
    """A room being furnished."""

    width: float
    depth: float
    height: float
    rng: np.random.Generator
    placements: list[Placement] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    _blocked: list[Rect] = field(default_factory=list)
    _keep_clear: list[Rect] = field(default_factory=list)
    _on_wall: list[Opening] = field(default_factory=list)

    def wall_length(self, wall: int) -> float:
        """Length of a wall in metres."""
        return self.width if wall % 2 == 0 else self.depth

    def wall_frame(self, wall: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(origin, direction along, inward normal) of a wall, each (3,)."""
        w, d = self.width, self.depth
        origin = [(0, 0), (w, 0), (w, d), (0, d)][wall]
        along = [(1, 0), (0, 1), (-1, 0), (0, -1)][wall]
        inward = [(0, 1), (-1, 0), (0, -1), (1, 0)][wall]
        return np.array([*origin, 0.0]), np.array([*along, 0.0]), np.array([*inward, 0.0])

    def at_wall(
        self, model: ObjectModel, wall: int, s: float, gap: float, z: float = 0.0, parent: int | None = None
    ) -> Placement:
        """The pose of `model` with its back `gap` metres from the wall, centred at `s` along it."""
        origin, along, inward = self.wall_frame(wall)
        rotation = np.stack([along, inward, [0, 0, 1.0]], axis=1)
        return Placement(model, rotation, origin + along * s + inward * gap + [0, 0, z], wall, parent)

    def _inside(self, r: Rect) -> bool:
        return r[0] >= 0 and r[1] <= self.width and r[2] >= 0 and r[3] <= self.depth

    def _free(self, r: Rect, margin: float, clear: bool = True) -> bool:
        blocked = self._blocked + (self._keep_clear if clear else [])
        return self._inside(r) and not any(_overlap(r, b, margin) for b in blocked)

    def _wall_free(self, span: Opening, margin: float = 0.05) -> bool:
        return not any(
            o.wall == span.wall
            and o.s0 < span.s1 + margin
            and span.s0 < o.s1 + margin
            and o.z0 < span.z1 + 0.02
            and span.z0 < o.z1 + 0.02
            for o in self._on_wall
        )

    def commit(self, placement: Placement, solid: bool = True) -> int:
        """Add a placement; returns its index. `solid` blocks its footprint."""
        self.placements.append(placement)
        if solid:
            self._blocked.append(placement.footprint)
        return len(self.placements) - 1

    def add_opening(self, model: ObjectModel, z: float = 0.0, prefer: int | None = None) -> int | None:
        """Put a door or window into a wall where there is room; returns its index, None when it does not fit."""
        w, h = model.size[0], model.size[2]
        for _ in range(30):
            wall = prefer if prefer is not None else int(self.rng.integers(4))
            length = self.wall_length(wall)
            if w + 0.3 > length or z + h > self.height - 0.05:
                continue
            s = float(self.rng.uniform(w / 2 + 0.12, length - w / 2 - 0.12))
            span = Opening(wall, s - w / 2, s + w / 2, z, z + h)
            if not self._wall_free(span, 0.12):
                continue
            self._on_wall.append(span)
            self.openings.append(span)
            index = self.commit(self.at_wall(model, wall, s, 0.0, z), solid=False)
            if z == 0.0:  # keep the swing of a door free
                origin, along, inward = self.wall_frame(wall)
                a, b = origin + along * (s - w / 2), origin + along * (s + w / 2) + inward * 0.8
                self._keep_clear.append((min(a[0], b[0]), max(a[0], b[0]), min(a[1], b[1]), max(a[1], b[1])))
            return index
        return None

    def hang(self, model: ObjectModel, z: float, wall: int | None = None, s: float | None = None) -> int | None:
        """Mount a thing on a free piece of wall with its lower edge at height z."""
        w, _, h = model.size
        for _ in range(30):
            k = int(self.rng.integers(4)) if wall is None else wall
            length = self.wall_length(k)
            if w + 0.1 > length or z + h > self.height - 0.02:
                continue
            along = float(self.rng.uniform(w / 2 + 0.05, length - w / 2 - 0.05)) if s is None else s
            span = Opening(k, along - w / 2, along + w / 2, z, z + h)
            if along - w / 2 < 0.0 or along + w / 2 > length or not self._wall_free(span):
                if s is not None:
                    return None
                continue
            self._on_wall.append(span)
            return self.commit(self.at_wall(model, k, along, 0.0, z), solid=False)
        return None

    def stand_at_wall(
        self, model: ObjectModel, wall: int | None = None, s: float | None = None, gap: float | None = None, tries: int = 40
    ) -> int | None:
        """Stand a thing on the floor with its back to a wall; returns its index or None."""
        w, d, h = model.size
        for _ in range(tries):
            k = int(self.rng.integers(4)) if wall is None else wall
            length = self.wall_length(k)
            if w + 0.1 > length:
                continue
            along = float(self.rng.uniform(w / 2 + 0.02, length - w / 2 - 0.02)) if s is None else s
            back = float(self.rng.uniform(0.01, 0.06)) if gap is None else gap
            place = self.at_wall(model, k, along, back + d / 2)
            span = Opening(k, along - w / 2, along + w / 2, 0.0, h)
            if self._free(place.footprint, 0.03) and self._wall_free(span, 0.0):
                self._on_wall.append(span)
                return self.commit(place)
            if s is not None:
                return None
        return None

    def stand_free(
        self, model: ObjectModel, margin: float = 0.12, solid: bool = True, near: Rect | None = None, yaw: float | None = None
    ) -> int | None:
        """Stand a thing anywhere on the free floor (inside `near` when given), at a random or given yaw."""
        for _ in range(40):
            x0, x1, y0, y1 = near if near is not None else (0.0, self.width, 0.0, self.depth)
            angle = float(self.rng.uniform(0, 2 * np.pi)) if yaw is None else yaw
            place = Placement(model, rotation_z(angle), np.array([self.rng.uniform(x0, x1), self.rng.uniform(y0, y1), 0.0]))
            if not solid and self._inside(place.footprint):
                return self.commit(place, solid=False)
            if solid and self._free(place.footprint, margin):
                return self.commit(place)
        return None

    def put(self, placement: Placement, margin: float = 0.0, solid: bool = True) -> int | None:
        """Put a thing at a given pose when it fits there."""
        if not self._inside(placement.footprint) or (solid and not self._free(placement.footprint, margin, clear=False)):
            return None
        return self.commit(placement, solid)

    def relative(
        self, index: int, model: ObjectModel, dx: float, dy: float, yaw: float, z: float = 0.0, parent: bool = False
    ) -> Placement:
        """The pose of `model` at (dx, dy, z) and `yaw` in the frame of placement `index`."""
        base = self.placements[index]
        position = base.position + base.rotation @ np.array([dx, dy, z])
        return Placement(model, base.rotation @ rotation_z(yaw), position, None, index if parent else None)

    def on_top(self, index: int, model: ObjectModel, face_front: bool = True) -> int | None:
        """Put a thing on a surface of placement `index` where nothing stands yet."""
        base = self.placements[index]
        taken = [p for p in self.placements if p.parent == index]
        for _ in range(12):
            if not base.model.surfaces:
                return None
            x0, x1, y0, y1, z = base.model.surfaces[int(self.rng.integers(len(base.model.surfaces)))]
            hw = model.size[0] / 2
            if x1 - x0 < 0.02:
                return None
            low, high = min(x0 + hw, (x0 + x1) / 2), max(x1 - hw, (x0 + x1) / 2)
            x = float(self.rng.uniform(low, high))
            y = float(self.rng.uniform(y0, y1)) if y1 > y0 else y0
            yaw = float(self.rng.normal(0, 0.12)) if face_front else float(self.rng.uniform(0, 2 * np.pi))
            place = self.relative(index, model, x, y, yaw, z, parent=True)
            if all(not _overlap(place.footprint, t.footprint, 0.01) for t in taken):
                return self.commit(place, solid=False)
        return None

    def free_cells(self, cell_m: float = 0.1, clearance_m: float = 0.28) -> NDArray[np.float64]:
        """Centres (K, 2) of floor cells where a person can stand."""
        xs, ys = np.arange(0.35, self.width - 0.3, cell_m), np.arange(0.35, self.depth - 0.3, cell_m)
        grid = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1).reshape(-1, 2)
        ok = np.ones(len(grid), bool)
        for x0, x1, y0, y1 in self._blocked:
            dx = np.maximum(np.maximum(x0 - grid[:, 0], grid[:, 0] - x1), 0)
            dy = np.maximum(np.maximum(y0 - grid[:, 1], grid[:, 1] - y1), 0)
            ok &= np.hypot(dx, dy) > clearance_m
        return grid[ok]
