"""Generators of furniture: each returns an `ObjectModel` of random shape, size, colour and material.

Object coordinates: origin on the floor (or at the mounting point) in the middle of the footprint, z up, +y towards the room
(the front). `MAKERS` maps a class name to its generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from mosaic3d_core.data.synthetic.furniture import appliances, bathroom, bedroom, decor, fixtures, seating, storage, tables
from mosaic3d_core.data.synthetic.furniture.model import ObjectModel

Maker = Callable[[np.random.Generator], ObjectModel]

MAKERS: Mapping[str, Maker] = MappingProxyType(
    {
        "bed": bedroom.make_bed,
        "pillow": bedroom.make_pillow,
        "nightstand": bedroom.make_nightstand,
        "wardrobe": storage.make_wardrobe,
        "sofa": seating.make_sofa,
        "armchair": seating.make_armchair,
        "chair": seating.make_chair,
        "office chair": seating.make_office_chair,
        "stool": seating.make_stool,
        "table": tables.make_table,
        "coffee table": tables.make_coffee_table,
        "desk": tables.make_desk,
        "bookshelf": storage.make_bookshelf,
        "cabinet": storage.make_cabinet,
        "tv": decor.make_tv,
        "monitor": decor.make_monitor,
        "lamp": decor.make_lamp,
        "plant": decor.make_plant,
        "refrigerator": appliances.make_refrigerator,
        "stove": appliances.make_stove,
        "kitchen counter": appliances.make_kitchen_counter,
        "washing machine": appliances.make_washing_machine,
        "toilet": bathroom.make_toilet,
        "bathtub": bathroom.make_bathtub,
        "trash can": decor.make_trash_can,
        "rug": decor.make_rug,
        "box": decor.make_box,
        "suitcase": decor.make_suitcase,
        "piano": decor.make_piano,
        "picture": fixtures.make_picture,
        "whiteboard": fixtures.make_whiteboard,
        "radiator": fixtures.make_radiator,
        "curtain": fixtures.make_curtain,
        "door": fixtures.make_door,
        "window": fixtures.make_window,
    }
)

__all__ = ["MAKERS", "Maker", "ObjectModel"]
