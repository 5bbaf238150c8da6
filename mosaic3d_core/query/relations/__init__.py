"""Relations in queries: "the chair near the window", "on the table", "nearest to me"."""

from mosaic3d_core.query.relations.config import RelationConfig
from mosaic3d_core.query.relations.grammar import Thing, parse
from mosaic3d_core.query.relations.region import RegionBox
from mosaic3d_core.query.relations.resolve import RelationalResult, query_with_relations
from mosaic3d_core.query.relations.viewpoint import Viewpoint, is_optical_name

__all__ = [
    "RegionBox",
    "RelationConfig",
    "RelationalResult",
    "Thing",
    "Viewpoint",
    "is_optical_name",
    "parse",
    "query_with_relations",
]
