"""Where to stand to reach an object: a place on the floor, in free space, facing it.

The map is seen from above in cells. A cell is floor where a voxel of the floor was seen in it. An obstacle is any voxel between
the floor and the robot's top. A goal lies on seen floor, with no obstacle within the robot's radius, connected to the robot over
passable cells where its place is known. Of all goals the one with the least cost is taken::

    cost = distance_weight * |distance to the object - wanted distance|
         + travel_weight * distance to the robot
         + clearance_weight * max(0, comfortable clearance - clearance)
         + hidden_weight, where something as high as the object's middle blocks the way to it

All distances are horizontal, in metres.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve
from scipy.spatial import cKDTree

from mosaic3d_core.errors import QueryError
from mosaic3d_core.mapping import MapSnapshot
from mosaic3d_core.models.encoder_input import estimate_floor_height
from mosaic3d_core.query.boxes import ground_basis

# Largest grid that is made, cells: 200 m x 200 m of 5 cm.
_MOST_CELLS = 16_000_000
_LARGEST_ROBOT_M, _LONGEST_M = 5.0, 50.0
# The way to the object is looked at in this many places.
_SIGHT_SAMPLES = 48
# The object is faced where it is near: the middle of what lies within this much more than its nearest voxel, metres.
_FACED_M = 0.3


@dataclass(frozen=True)
class ApproachConfig:
    """The robot and the weights of the cost.

    Attributes:
        robot_radius_m: Radius of the circle around the robot.
        robot_height_m: What begins higher above the floor is no obstacle.
        distance_m: Wanted distance between the robot's centre and the object's nearest voxel; 0 = the radius and 0.3 m.
        max_extra_m: A goal is at most this much farther from the object than wanted.
        cell_m: Edge of a cell.
        floor_band_m: A voxel this close to the floor's height is floor ...
        floor_clearance_m: ... and one this much above it or higher is an obstacle. Rugs and noise lie between.
        bridge_m: Gaps in the seen floor up to about this wide are passable; goals never lie in them.
        footprint_share: Least share of the robot's circle at a goal that lies on passable floor; the rest was not seen.
        blind_m: Unseen floor this close to the robot is passable where nothing stands on it: cameras do not see the floor below
            them. Goals never lie in it.
        comfortable_m: A clearance beyond the radius that is as good as any larger one.
        distance_weight: See the module.
        travel_weight: See the module.
        clearance_weight: See the module.
        hidden_weight: See the module.
        floor_height_m: Height of the floor along the map's up axis; None to estimate it from the map.

    Raises:
        ValueError: If a number is not finite or out of its range.
    """

    robot_radius_m: float = 0.25
    robot_height_m: float = 1.0
    distance_m: float = 0.0
    max_extra_m: float = 1.0
    cell_m: float = 0.05
    floor_band_m: float = 0.06
    floor_clearance_m: float = 0.08
    bridge_m: float = 0.2
    footprint_share: float = 0.6
    blind_m: float = 1.5
    comfortable_m: float = 0.3
    distance_weight: float = 1.0
    travel_weight: float = 0.15
    clearance_weight: float = 1.0
    hidden_weight: float = 2.0
    floor_height_m: float | None = None

    def __post_init__(self) -> None:
        positive = {"robot_radius_m", "robot_height_m", "cell_m", "floor_band_m", "floor_clearance_m"}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "floor_height_m":
                if value is not None and not np.isfinite(value):
                    raise ValueError(f"floor_height_m must be finite or None, got {value}")
            elif not (np.isfinite(value) and (value > 0 if field.name in positive else value >= 0)):
                raise ValueError(f"{field.name} must be {'positive' if field.name in positive else '0 or more'}, got {value}")
        for name, most in (("robot_radius_m", _LARGEST_ROBOT_M), ("distance_m", _LONGEST_M), ("max_extra_m", _LONGEST_M)):
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most:g} m, got {getattr(self, name):g}")
        if self.robot_height_m <= self.floor_clearance_m:
            raise ValueError(
                f"robot_height_m must be above floor_clearance_m ({self.floor_clearance_m}), got {self.robot_height_m}"
            )

    @property
    def wanted_m(self) -> float:
        """The wanted distance, never so small that the robot would touch the object."""
        return max(self.distance_m or self.robot_radius_m + 0.3, self.robot_radius_m)


@dataclass(frozen=True, eq=False)
class Approach:
    """A goal.

    Attributes:
        T_map_goal: Pose (4, 4): origin on the floor, x towards the object, z up.
        clearance_m: Horizontal distance to the nearest obstacle's voxel; infinite where there is none.
        distance_m: Horizontal distance to the object's nearest voxel.
        reachable: Whether it is known to be connected to the robot.
        cost: See the module.
    """

    T_map_goal: NDArray[np.float64]
    clearance_m: float
    distance_m: float
    reachable: bool
    cost: float


@dataclass(frozen=True, eq=False)
class FloorPlan:
    """The map from above, for a robot of one height.

    Attributes:
        origin: Lower corner of the grid, level frame (2,), metres.
        cell_m: Edge of a cell.
        floor_m: Height of the floor.
        seen: Cells in which floor was seen. (X, Y), bool.
        obstacles: Voxels that a robot would touch, level frame. (K, 2), metres.
        free: Cells of passable floor that the robot's centre may be in. (X, Y), bool.
        goals: Seen cells of those with enough floor around them. (X, Y), bool.
    """

    origin: NDArray[np.float64]
    cell_m: float
    floor_m: float
    seen: NDArray[np.bool_]
    obstacles: NDArray[np.float64]
    free: NDArray[np.bool_]
    goals: NDArray[np.bool_]

    def cell_of(self, places: NDArray[np.float64]) -> NDArray[np.int64]:
        """Cells (P, 2) of places (P, 2); they may lie outside the grid."""
        return np.asarray(np.floor((places - self.origin) / self.cell_m), np.int64)

    def center_of(self, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """Centres (P, 2) of cells (P, 2), metres."""
        return self.origin + (cells + 0.5) * self.cell_m

    def marked(self, places: NDArray[np.float64]) -> NDArray[np.bool_]:
        """A grid that is true where places (P, 2) within it are."""
        grid = np.zeros(self.seen.shape, bool)
        cells = self.cell_of(places)
        inside = ((cells >= 0) & (cells < grid.shape)).all(axis=1)
        grid[tuple(cells[inside].T)] = True
        return grid


def make_floor_plan(
    level: NDArray[np.float64], floor_m: float, config: ApproachConfig, start: NDArray[np.float64] | None = None
) -> FloorPlan:
    """Where the robot may be.

    Args:
        level: Voxel centroids with z up (N, 3), metres.
        floor_m: Height of the floor.
        config: The robot.
        start: Where the robot is (2,), metres, or None.

    Raises:
        QueryError: If no floor was seen, or the map is larger than a grid may be.
    """
    height = level[:, 2] - floor_m
    floor = level[np.abs(height) <= config.floor_band_m, :2]
    if len(floor) == 0:
        raise QueryError(f"no floor was seen at height {floor_m:.2f} m; let the camera see the floor around the object")
    obstacles = level[(height > config.floor_clearance_m) & (height < config.robot_height_m), :2]
    low, high = floor.min(axis=0), floor.max(axis=0)
    if start is not None:
        low, high = np.minimum(low, start - config.blind_m), np.maximum(high, start + config.blind_m)
    origin = np.floor(low / config.cell_m) * config.cell_m - config.cell_m
    size = np.ceil((high - origin) / config.cell_m) + 1
    if not size.prod() <= _MOST_CELLS:
        raise QueryError(
            f"floor and robot span {size[0]:.0f} x {size[1]:.0f} cells, at most {_MOST_CELLS} are searched;"
            " check robot_frame and stray voxels of the map"
        )
    shape = (int(size[0]), int(size[1]))
    empty = np.zeros(shape, bool)
    plan = FloorPlan(origin, config.cell_m, floor_m, empty, obstacles, empty, empty)
    seen = plan.marked(floor)
    bridge = round(config.bridge_m / 2 / config.cell_m)
    passable = ndimage.binary_closing(np.pad(seen, bridge + 1), _disc(bridge))[bridge + 1 : -bridge - 1, bridge + 1 : -bridge - 1]
    disc = _disc(round(config.robot_radius_m / config.cell_m))
    wide = (
        fftconvolve(passable.astype(np.float32), disc.astype(np.float32), mode="same")
        >= config.footprint_share * disc.sum() - 0.1
    )
    if start is not None:
        x, y = (origin[k] + (np.arange(shape[k]) + 0.5) * config.cell_m - start[k] for k in range(2))
        passable |= x[:, None] ** 2 + y[None] ** 2 <= config.blind_m**2
    free = _roomy(plan, passable, config.robot_radius_m)
    return replace(plan, seen=seen, free=free, goals=free & seen & wide)


def _disc(radius: int) -> NDArray[np.bool_]:
    x, y = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x**2 + y**2 <= radius**2 + 0.5)


def _roomy(plan: FloorPlan, passable: NDArray[np.bool_], radius_m: float) -> NDArray[np.bool_]:
    """Passable cells whose centre is farther than the radius from every obstacle, also from those outside the grid."""
    if len(plan.obstacles) == 0:
        return passable
    cells = np.argwhere(passable)
    # one voxel per tenth of a cell is enough; what is lost by that is added to the radius
    fine = plan.cell_m / 10
    thin = (np.unique(np.floor(plan.obstacles / fine).astype(np.int64), axis=0) + 0.5) * fine
    apart, _ = cKDTree(thin).query(plan.center_of(cells), distance_upper_bound=radius_m + plan.cell_m)
    free = np.zeros(passable.shape, bool)
    free[tuple(cells[apart > radius_m + fine].T)] = True
    return free


def find_approach(
    snapshot: MapSnapshot,
    target: NDArray[np.integer],
    robot: NDArray[np.float64] | None = None,
    config: ApproachConfig | None = None,
) -> Approach:
    """The best place to approach an object from.

    Args:
        snapshot: The map.
        target: Rows of the object's voxels (K,).
        robot: Place of the robot in the map (3,), metres; None where unknown: reachability is not looked at then.
        config: The robot.

    Returns:
        The goal.

    Raises:
        QueryError: If there is no such place; one sentence says why.
    """
    config = config or ApproachConfig()
    if len(target) == 0:
        raise QueryError("the object has no voxels; ask for it again")
    basis = ground_basis(snapshot.up)
    level = snapshot.centroids.astype(np.float64) @ basis
    floor_m = config.floor_height_m
    if floor_m is None:
        floor_m = estimate_floor_height(snapshot.centroids, snapshot.normals, snapshot.up)
    start = None if robot is None else (np.asarray(robot, np.float64) @ basis)[:2]
    plan = make_floor_plan(level, floor_m, config, start)
    goals = plan.goals if start is None else plan.goals & _connected(plan, start, config)
    cells = np.argwhere(goals)
    places = plan.center_of(cells)
    aim = level[target]
    apart, _ = cKDTree(aim[:, :2]).query(places, distance_upper_bound=config.wanted_m + config.max_extra_m)
    near = np.isfinite(apart) & (apart >= config.robot_radius_m)
    if not near.any():
        raise QueryError(_why_not(plan, aim, start, config))
    places, apart = places[near], apart[near]
    clearance = _clearance(plan, places)
    cost = config.distance_weight * np.abs(apart - config.wanted_m)
    cost += config.clearance_weight * np.maximum(0.0, config.robot_radius_m + config.comfortable_m - clearance)
    cost += config.hidden_weight * _hidden(plan, level, target, places)
    if start is not None:
        cost += config.travel_weight * np.linalg.norm(places - start, axis=1)
    best = int(np.argmin(cost))
    pose = _facing(places[best], aim[:, :2], float(apart[best]), floor_m, basis)
    return Approach(pose, float(clearance[best]), float(apart[best]), start is not None, float(cost[best]))


def _connected(plan: FloorPlan, start: NDArray[np.float64], config: ApproachConfig) -> NDArray[np.bool_]:
    """Free cells that the robot can go to. It may stand nearer to something than its radius, by noise or a cell."""
    parts, _ = ndimage.label(plan.free, structure=[[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    cells = np.argwhere(plan.free)
    apart = np.linalg.norm(plan.center_of(cells) - start, axis=1) if len(cells) else np.zeros(0)
    if len(cells) == 0 or apart.min() > config.robot_radius_m + 2 * plan.cell_m:
        raise QueryError(
            "the robot stands within its radius of an obstacle; check robot_frame and robot_radius, or drive it free"
        )
    reached = np.asarray(parts == parts[tuple(cells[int(apart.argmin())])])
    if not (reached & plan.seen).any():
        raise QueryError(
            f"no free floor was seen within {config.blind_m:.1f} m of the robot; check robot_frame, or let the camera see the"
            " floor in front of the robot"
        )
    return reached


def _clearance(plan: FloorPlan, places: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(plan.obstacles) == 0:
        return np.full(len(places), np.inf)
    return np.asarray(cKDTree(plan.obstacles).query(places)[0], np.float64)


def _hidden(
    plan: FloorPlan, level: NDArray[np.float64], target: NDArray[np.integer], places: NDArray[np.float64]
) -> NDArray[np.float64]:
    """1 where other things of the object's height stand between a place and the object, else 0. Shape (P,)."""
    aim = level[target]
    low, high = np.quantile(aim[:, 2], [0.25, 0.75])
    others = np.ones(len(level), bool)
    others[target] = False
    others &= (
        (level[:, 2] >= low - plan.cell_m) & (level[:, 2] <= high + plan.cell_m) & (level[:, 2] > plan.floor_m + plan.cell_m)
    )
    blocked = plan.marked(level[others, :2]) & ~plan.marked(aim[:, :2])
    nearest = aim[cKDTree(aim[:, :2]).query(places)[1], :2]
    share = (np.arange(_SIGHT_SAMPLES) + 0.5) / _SIGHT_SAMPLES
    line = places[:, None] + share[None, :, None] * (nearest - places)[:, None]
    cells = plan.cell_of(line.reshape(-1, 2))
    inside = ((cells >= 0) & (cells < plan.seen.shape)).all(axis=1)
    hit = np.zeros(len(cells), bool)
    hit[inside] = blocked[tuple(cells[inside].T)]
    return np.asarray(hit.reshape(len(places), -1).any(axis=1), np.float64)


def _facing(
    place: NDArray[np.float64], aim: NDArray[np.float64], apart: float, floor_m: float, basis: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pose in the map of a robot that looks at the near part of the object."""
    part = aim[np.linalg.norm(aim - place, axis=1) <= apart + _FACED_M]
    ahead = part.mean(axis=0) - place
    ahead /= np.linalg.norm(ahead)
    pose = np.eye(4)
    pose[:2, 0], pose[:2, 1] = ahead, (-ahead[1], ahead[0])
    pose[:3, 3] = (*place, floor_m)
    pose[:3, :3] = basis @ pose[:3, :3]
    pose[:3, 3] = basis @ pose[:3, 3]
    return pose


def _why_not(plan: FloorPlan, aim: NDArray[np.float64], start: NDArray[np.float64] | None, config: ApproachConfig) -> str:
    reach = config.wanted_m + config.max_extra_m

    def any_near(cells: NDArray[np.bool_]) -> bool:
        places = plan.center_of(np.argwhere(cells))
        return len(places) > 0 and bool(np.isfinite(cKDTree(aim[:, :2]).query(places, distance_upper_bound=reach)[0]).any())

    if not any_near(plan.seen):
        return f"no floor was seen within {reach:.2f} m of the object; let the camera see the floor around it, or raise distance"
    if not any_near(plan.goals):
        radius = config.robot_radius_m
        return (
            f"no place within {reach:.2f} m of the object has room for a robot of radius {radius:.2f} m;"
            " lower robot_radius or raise distance"
        )
    return "the free floor around the object is not connected to the robot over floor that was seen; explore the way to it"
