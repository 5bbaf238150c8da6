"""A furnished room whose relations are known, as the query engine sees it."""

from __future__ import annotations

import numpy as np
from scenes import SceneBuilder, WordEncoder

from mosaic3d_core.query import QueryConfig, QueryEngine
from mosaic3d_core.query.instance_map import PRESENT, MapInstance


def furnished() -> tuple[SceneBuilder, dict[str, int]]:
    """A 6 x 5 m room with z up, x to the east; numbers of its things by name."""
    scene, things = SceneBuilder(), {}

    def add(name, word, *args, **kwargs):
        things[name] = scene.add_box(word, *args, **kwargs)

    add("floor", "floor", (0, 0, 0), (6, 5, 0), (180, 170, 160), faces="+z")
    add("wall", "wall", (0, 2.5, 1.3), (6, 0, 2.5), (230, 230, 225), faces="-y")
    add("window", "window", (1.5, 2.44, 1.5), (1.2, 0.04, 1.0), (150, 200, 250), faces="-y")
    add("picture", "picture", (-1.5, 2.42, 1.5), (0.6, 0.04, 0.5), (200, 40, 40), faces="-y")
    add("radiator", "radiator", (1.5, 2.3, 0.45), (1.0, 0.12, 0.5), (240, 240, 240))
    add("table", "table", (-1.5, 0.0, 0.75), (1.4, 0.8, 0.06), (140, 90, 50))
    add("leg", "table", (-1.5, 0.0, 0.36), (0.1, 0.1, 0.72), (140, 90, 50))
    add("lamp", "lamp", (-1.2, 0.1, 0.98), (0.16, 0.16, 0.36), (250, 240, 120))
    add("box", "box", (-1.9, 0.0, 0.22), (0.36, 0.36, 0.36), (180, 140, 100))
    add("near chair", "chair", (1.4, 1.6, 0.45), (0.45, 0.45, 0.85), (60, 60, 160))
    add("far chair", "chair", (1.6, -1.8, 0.45), (0.45, 0.45, 0.85), (160, 60, 60))
    add("sofa", "sofa", (-1.5, -1.9, 0.35), (2.0, 0.9, 0.6), (90, 90, 90))
    return scene, things


class Room:
    """The room encoded, with one instance per piece of furniture."""

    def __init__(self):
        builder, self.things = furnished()
        self.encoder = WordEncoder()
        self.features, self.owner = builder.build(self.encoder)
        self.engine = QueryEngine(self.encoder, QueryConfig(min_object_voxels=10))
        names = [name for name in self.things if name not in ("floor", "wall", "leg")]
        self.ids = {name: 100 + number for number, name in enumerate(names)}
        instances = [
            MapInstance(self.ids[name], self.cells(name), np.zeros(4, np.float32), 0.9, 5, 0, 0, PRESENT) for name in names
        ]
        self.view = self.engine.view(self.features, instances)
        self.name_of = {number: name for name, number in self.ids.items()}

    def cells(self, name):
        numbers = [self.things[name], *([self.things["leg"]] if name == "table" else [])]
        return np.flatnonzero(np.isin(self.owner, numbers))

    def names(self, answer, text=None):
        """What answered, as names of things."""
        objects = answer.result.objects if text is None else answer.result.of(text)
        return [self.name_of.get(one.id, one.text) for one in objects]
