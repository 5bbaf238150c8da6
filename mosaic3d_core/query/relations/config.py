"""Settings of the relations, each with its unit and reason."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class RelationConfig:
    """When a relation holds. Pairs are (value with grade 1, value with grade 0); the grade falls linearly between them.

    Distances are metres between the nearest voxels of two things unless stated otherwise; up is the map's up axis (z, REP-103).

    Attributes:
        near_m: "near", "close to": within a step, and not across a room.
        beside_m: "next to": less than what a person would walk through.
        beside_overlap: "next to" also asks that heights overlap, as a share of the lower one: a lamp on a table is not beside it.
        far_m: "far from"; the first number is the larger one.
        support_gap_m: "on": from the lowest voxel of the thing down (or up) to the highest voxel of the anchor below it. The
            lowest centimetres of small things are often taken for what carries them.
        support_share: "on": share of the lowest part of the thing above the anchor.
        support_layer_m: Height of that lowest part, and of the anchor's layer that carries it.
        mounted_gap_m: "on" of a wall: distance between the thing's median voxel and the wall's plane.
        mounted_height_m: "on" of a wall: least height of the thing above the wall's lower end; what stands lower stands on the
            floor.
        column_m: "under", "above": horizontal distance between the centre of one and the outline of the other, which is 0 within;
            of both ways the shorter one. A radiator under a window, a sofa under a picture stand in front of it.
        level_tolerance_m: "under", "above": how far the two may overlap in height.
        inside_share: "in": share of the thing's voxels within the anchor's box.
        against_m: "against": touching, up to noise and a shadow.
        direction_deg: "left of" and the like: angle between the direction and the way from the anchor's outline to the thing's
            centre, horizontally.
        direction_reach_m: ... and the length of that way.
        between_deg: "between": angle at the thing's centre between the ways to both anchors; 180 is right between them. The
            first number is the larger one.
        same_share: Two answers are one thing when they share this much of the smaller one's voxels; nothing is related to itself.
        max_relations: Most relations and orders in one text.
    """

    near_m: tuple[float, float] = (0.5, 1.5)
    beside_m: tuple[float, float] = (0.25, 0.8)
    beside_overlap: tuple[float, float] = (0.3, 0.0)
    far_m: tuple[float, float] = (3.0, 1.5)
    support_gap_m: tuple[float, float] = (0.06, 0.20)
    support_share: tuple[float, float] = (0.5, 0.1)
    support_layer_m: float = 0.10
    mounted_gap_m: tuple[float, float] = (0.10, 0.30)
    mounted_height_m: float = 0.3
    column_m: tuple[float, float] = (0.05, 0.40)
    level_tolerance_m: float = 0.05
    inside_share: tuple[float, float] = (0.9, 0.5)
    against_m: tuple[float, float] = (0.10, 0.30)
    direction_deg: tuple[float, float] = (35.0, 65.0)
    direction_reach_m: tuple[float, float] = (1.5, 5.0)
    between_deg: tuple[float, float] = (150.0, 100.0)
    same_share: float = 0.5
    max_relations: int = 8

    def __post_init__(self) -> None:
        falling = {"beside_overlap", "far_m", "support_share", "inside_share", "between_deg"}
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, tuple):
                if not 0 < value < float("inf"):
                    raise ValueError(f"{field.name} must be positive, got {value}")
                continue
            full, none = value
            if not (min(full, none) >= 0 and max(full, none) < float("inf")):
                raise ValueError(f"{field.name} must be two numbers >= 0, got {value}")
            if (full <= none) if field.name in falling else (full >= none):
                order = "above" if field.name in falling else "below"
                raise ValueError(f"{field.name}: the value with grade 1 must lie {order} that with grade 0, got {value}")
