"""What a viewer is given to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.relations import RelationalResult, Viewpoint, query_with_relations

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot
    from mosaic3d_core.models.scene_encoder import FeatureMap
    from mosaic3d_core.query import InstanceView, Labelling, QueryEngine

Ask = Callable[[str, float, NDArray[np.float64]], RelationalResult]
"""Answers a text on the map that is shown; QueryError says in one sentence what was wrong.

Its arguments are the text, the least score in [0, 1], and the pose T_world_camera (4, 4; z forward, x right, y down) of who asks.
"""


@dataclass(frozen=True, eq=False)
class ViewData:
    """A map at one moment, with what is known of it.

    Attributes:
        snapshot: The map.
        labelling: Labels and objects of the same snapshot; None while there are none.
        ask: Answers queries on the same snapshot, from several threads at once; None while it cannot be asked.
        min_score: Least score of objects that viewers start with, in [0, 1].
        live: Whether more maps will follow; the page then says how old this one is.
        note: A few words for the status line, such as what is still being worked at.
    """

    snapshot: MapSnapshot
    labelling: Labelling | None = None
    ask: Ask | None = None
    min_score: float = QueryConfig.min_score
    live: bool = True
    note: str = ""

    @classmethod
    def of(
        cls,
        features: FeatureMap,
        labelling: Labelling,
        engine: QueryEngine,
        instances: InstanceView | None = None,
        live: bool = True,
    ) -> ViewData:
        """A labelled encoding that can be asked.

        Args:
            features: The encoded map.
            labelling: Its labels.
            engine: Answers the queries.
            instances: Instances of this very encoding, whose ids the answers have.
            live: See the class.
        """

        def ask(text: str, min_score: float, T_world_camera: NDArray[np.float64]) -> RelationalResult:
            viewpoint = Viewpoint.from_pose(T_world_camera, optical=True, up=features.snapshot.up)
            return query_with_relations(engine, features, [text], min_score, instances=instances, viewpoint=viewpoint)

        return cls(features.snapshot, labelling, ask, engine.config.min_score, live)
