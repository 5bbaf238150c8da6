"""A furnished room as one triangle soup with exact labels.

Deterministic: the same seed and split give the same room. Train and test rooms draw from different seed streams, so they
never share one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.synthetic.classes import CLASS_ID
from mosaic3d_core.data.synthetic.furniture.model import ObjectModel
from mosaic3d_core.data.synthetic.layout import Opening, RoomPlan
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS, WOOD_COLORS, Material, jitter_color, pick, plain
from mosaic3d_core.data.synthetic.mesh import Mesh, rotation_z
from mosaic3d_core.data.synthetic.recipes import AREA_M2, RECIPES, furnish

#: Each split mixes its own constant into the seed.
SPLITS: Mapping[str, int] = MappingProxyType({"train": 0x7A31, "val": 0x51C2, "test": 0xE93D})


@dataclass(frozen=True)
class Instance:
    """One labelled thing of a room.

    Attributes:
        id: Positive instance id; 0 means "nothing" in label images.
        class_name: Canonical class name.
        model: Its generator's output (words for captions, size).
        rotation: Object-to-world rotation (3, 3).
        position: Object origin in the world, metres (3,).
        parent: Id of the instance it stands on, 0 for the floor or the wall.
        bounds: World axis-aligned bounds, (2, 3) metres.
    """

    id: int
    class_name: str
    model: ObjectModel
    rotation: NDArray[np.float64]
    position: NDArray[np.float64]
    parent: int
    bounds: NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """A point light: world position (3,) metres, colour times power (3,)."""

    position: NDArray[np.float64]
    power: NDArray[np.float64]


@dataclass(frozen=True)
class RoomScene:
    """A room ready for ray casting.

    Attributes:
        vertices: (V, 3) float32 world metres, z up.
        triangles: (F, 3) uint32.
        triangle_instance: (F,) int32 index into `instances` (id = index + 1).
        triangle_material: (F,) int32 row of `materials`.
        materials: (M, 10) float32, see `Material.row`.
        instances: All labelled things, walls, floor and ceiling included.
        lights: Point lights.
        ambient: (3,) ambient light.
        free_cells: (K, 2) world x, y where a person can stand.
        kind: Room kind ("kitchen", ...).
        name: "split-seed".
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.uint32]
    triangle_instance: NDArray[np.int32]
    triangle_material: NDArray[np.int32]
    materials: NDArray[np.float32]
    instances: tuple[Instance, ...]
    lights: tuple[Light, ...]
    ambient: NDArray[np.float64]
    free_cells: NDArray[np.float64]
    bounds: NDArray[np.float64]
    kind: str
    name: str

    @property
    def class_ids(self) -> NDArray[np.int16]:
        """Class id per instance id, (I + 1,); entry 0 ("nothing") is -1."""
        return np.array([-1] + [CLASS_ID[i.class_name] for i in self.instances], np.int16)

    @property
    def class_names_present(self) -> tuple[str, ...]:
        """Sorted names of the classes in the room."""
        return tuple(sorted({i.class_name for i in self.instances}))


def room_rng(seed: int, split: str, stream: int = 0) -> np.random.Generator:
    """The generator of one room. Different splits and streams are independent."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    return np.random.default_rng([SPLITS[split], int(seed), stream])


def build_room(seed: int, split: str = "test", kind: str | None = None) -> RoomScene:
    """Generate a furnished room.

    Args:
        seed: Any non-negative integer; one room per seed and split.
        split: "train", "val" or "test".
        kind: Room kind, random when None.

    Raises:
        ValueError: For an unknown split or kind, or a negative seed.
    """
    if seed < 0:
        raise ValueError(f"room seed must be >= 0, got {seed}")
    rng = room_rng(seed, split)
    kinds = tuple(RECIPES)
    kind = kinds[int(rng.choice(len(kinds), p=[0.16, 0.16, 0.16, 0.14, 0.08, 0.12, 0.18]))] if kind is None else kind
    if kind not in RECIPES:
        raise ValueError(f"unknown room kind {kind!r}: expected one of {', '.join(kinds)}")
    low, high = AREA_M2[kind]
    area, aspect = rng.uniform(low, high), rng.uniform(1.0, 1.5)
    plan = RoomPlan(float(np.sqrt(area * aspect)), float(np.sqrt(area / aspect)), float(rng.uniform(2.35, 2.9)), rng)
    furnish(plan, kind)
    return assemble_room(plan, kind, f"{split}-{seed}", rng)


def assemble_room(plan: RoomPlan, kind: str, name: str, rng: np.random.Generator) -> RoomScene:
    """Build a furnished plan.

    Args:
        plan: The room with its openings and placements; the last ``len(plan.placements)`` instances are these, in their order.
        kind: Room kind, which decides about floor and tiles.
        name: Name of the scene.
        rng: Draws orientation, walls, floor and light.
    """
    yaw = rotation_z(float(rng.uniform(-0.35, 0.35)))
    shift = -yaw @ np.array([plan.width / 2, plan.depth / 2, 0.0])
    models: list[tuple[ObjectModel, NDArray[np.float64], NDArray[np.float64], int | None]] = [
        (m, np.eye(3), np.zeros(3), None) for m in _shell(plan, kind, rng)
    ]
    first = len(models)
    for p in plan.placements:
        models.append((p.model, p.rotation, p.position, p.parent))
    vertices, triangles, owner, material, rows, instances = [], [], [], [], [], []
    count, mats = 0, 0
    for k, (model, rotation, position, parent) in enumerate(models):
        v, f, m = model.mesh.merged()
        r, t = yaw @ rotation, yaw @ position + shift
        world = v @ r.T + t
        vertices.append(world)
        triangles.append(f + count)
        owner.append(np.full(len(f), k))
        material.append(m + mats)
        rows += [mat.row() for mat in model.mesh.materials]
        count, mats = count + len(v), mats + len(model.mesh.materials)
        parent_id = 0 if parent is None else first + parent + 1
        instances.append(Instance(k + 1, model.class_name, model, r, t, parent_id, np.stack([world.min(0), world.max(0)])))
    lights, ambient = _lights(plan, yaw, shift, rng)
    cells = plan.free_cells()
    cells_world = np.concatenate([cells, np.zeros((len(cells), 1))], 1) @ yaw.T + shift
    all_vertices = np.concatenate(vertices)
    return RoomScene(
        all_vertices.astype(np.float32),
        np.concatenate(triangles).astype(np.uint32),
        np.concatenate(owner).astype(np.int32),
        np.concatenate(material).astype(np.int32),
        np.stack(rows),
        tuple(instances),
        lights,
        ambient,
        cells_world[:, :2],
        np.stack([all_vertices.min(0), all_vertices.max(0)]),
        kind,
        name,
    )


def _lights(
    plan: RoomPlan, yaw: NDArray[np.float64], shift: NDArray[np.float64], rng: np.random.Generator
) -> tuple[tuple[Light, ...], NDArray[np.float64]]:
    warm = np.array([1.0, rng.uniform(0.86, 1.0), rng.uniform(0.70, 1.0)])
    lights = [
        Light(
            yaw @ np.array([plan.width * rng.uniform(0.35, 0.65), plan.depth * rng.uniform(0.35, 0.65), plan.height - 0.2])
            + shift,
            warm * rng.uniform(0.5, 0.9),
        )
    ]
    for opening in plan.openings:
        if opening.z0 > 0.1:  # daylight through a window
            origin, along, inward = plan.wall_frame(opening.wall)
            p = origin + along * (opening.s0 + opening.s1) / 2 + inward * 0.25 + [0, 0, (opening.z0 + opening.z1) / 2]
            lights.append(Light(yaw @ p + shift, np.array([0.9, 0.97, 1.05]) * rng.uniform(0.15, 0.45)))
    return tuple(lights[:3]), np.array([0.30, 0.30, 0.31]) * rng.uniform(0.8, 1.4)


def _floor_material(kind: str, rng: np.random.Generator) -> tuple[str, str, Material]:
    choice = rng.random()
    if (kind in ("bathroom", "kitchen") and choice < 0.65) or choice < 0.12:
        name, color = pick(OBJECT_COLORS, rng, ("white", "grey", "beige", "brown", "blue"))
        return name, "tiled", Material("tiles", color, jitter_color((0.6, 0.6, 0.58), rng, 0.2), float(rng.uniform(0.15, 0.45)))
    if choice < 0.78:
        color = pick(WOOD_COLORS, rng)[1]
        return "", "wooden", Material("planks", color, tuple(c * 0.6 for c in color), float(rng.uniform(0.09, 0.18)))  # type: ignore[arg-type]
    name, color = pick(OBJECT_COLORS, rng, ("grey", "beige", "blue", "green", "brown", "red"))
    return name, "carpeted", Material("carpet", color, jitter_color(color, rng, 0.1), 0.012)


def _shell(plan: RoomPlan, kind: str, rng: np.random.Generator) -> list[ObjectModel]:
    """Floor, ceiling and the four walls with their openings cut out."""
    w, d, h = plan.width, plan.depth, plan.height
    color, word, floor_material = _floor_material(kind, rng)
    floor = Mesh()
    floor.quad(np.array([[0, 0, 0], [w, 0, 0], [w, d, 0], [0, d, 0]]), floor_material)
    ceiling = Mesh()
    white = plain(jitter_color((0.93, 0.93, 0.91), rng, 0.03), rng)
    ceiling.quad(np.array([[0, 0, h], [w, 0, h], [w, d, h], [0, d, h]]), white)
    shell = [ObjectModel("floor", floor, (w, d, 0), color, word), ObjectModel("ceiling", ceiling, (w, d, 0), "white", "")]
    name, rgb = pick(
        OBJECT_COLORS, rng, ("white", "white", "beige", "grey", "blue", "green", "yellow", "pink", "orange", "turquoise")
    )
    pale = tuple(0.45 * c + 0.5 for c in rgb)
    base = Material("noise", (pale[0], pale[1], pale[2]), tuple(c * 0.93 for c in pale), float(rng.uniform(0.05, 0.3)))  # type: ignore[arg-type]
    if kind == "bathroom" and rng.random() < 0.7:
        base = Material("tiles", (pale[0], pale[1], pale[2]), (0.7, 0.7, 0.7), float(rng.uniform(0.12, 0.3)))
    accent = base if rng.random() < 0.7 else plain(pick(OBJECT_COLORS, rng)[1], rng)
    special = int(rng.integers(4))
    skirting = plain((0.9, 0.89, 0.86), rng) if rng.random() < 0.6 else None
    for k in range(4):
        mesh = Mesh()
        _wall(mesh, plan, k, accent if k == special else base, skirting)
        shell.append(ObjectModel("wall", mesh, (plan.wall_length(k), 0.0, h), name, ""))
    return shell


def _wall(mesh: Mesh, plan: RoomPlan, wall: int, material: Material, skirting: Material | None) -> None:
    origin, along, inward = plan.wall_frame(wall)
    up = np.array([0, 0, 1.0])

    def at(s: float, z: float, depth: float = 0.0) -> NDArray[np.float64]:
        return origin + along * s + up * z - inward * depth

    def panel(s0: float, s1: float, z0: float, z1: float) -> None:
        if s1 - s0 > 1e-6 and z1 - z0 > 1e-6:
            mesh.quad([at(s0, z0), at(s1, z0), at(s1, z1), at(s0, z1)], material)

    length, h = plan.wall_length(wall), plan.height
    x = 0.0
    spans: list[Opening] = sorted((o for o in plan.openings if o.wall == wall), key=lambda o: o.s0)
    doors: list[tuple[float, float]] = []
    for o in spans:
        panel(x, o.s0, 0, h)
        panel(o.s0, o.s1, 0, o.z0)
        panel(o.s0, o.s1, o.z1, h)
        depth = 0.16 if o.z0 > 0.05 else 0.10
        corners = [(o.s0, o.z0), (o.s1, o.z0), (o.s1, o.z1), (o.s0, o.z1)]
        for (s0, z0), (s1, z1) in zip(corners, corners[1:] + corners[:1], strict=True):
            mesh.quad([at(s0, z0), at(s1, z1), at(s1, z1, depth), at(s0, z0, depth)], material)
        if o.z0 <= 0.05:
            doors.append((o.s0, o.s1))
        x = o.s1
    panel(x, length, 0, h)
    if skirting is None:
        return
    x = 0.0
    for s0, s1 in [*doors, (length, length)]:
        if s0 - x > 0.02:
            middle = at((x + s0) / 2, 0.04, -0.007)
            size = np.abs(along) * (s0 - x) + np.abs(inward) * 0.014 + up * 0.08
            mesh.box(middle, size, skirting)
        x = s1
