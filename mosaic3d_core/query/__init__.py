"""Language queries over encoded maps: scores, instances, boxes and stable ids."""

from mosaic3d_core.query.boxes import OrientedBox, fit_upright_box, iou_3d
from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.query.engine import QueryEngine
from mosaic3d_core.query.instance_map import InstanceMap, InstanceMapConfig, MapInstance
from mosaic3d_core.query.instance_view import InstanceView
from mosaic3d_core.query.results import NO_LABEL, DetectedObject, Labelling, QueryResult
from mosaic3d_core.query.tracker import InstanceTracker
from mosaic3d_core.query.vocabulary import DEFAULT_VOCABULARY

__all__ = [
    "DEFAULT_VOCABULARY",
    "NO_LABEL",
    "DetectedObject",
    "InstanceMap",
    "InstanceMapConfig",
    "InstanceTracker",
    "InstanceView",
    "Labelling",
    "MapInstance",
    "OrientedBox",
    "QueryConfig",
    "QueryEngine",
    "QueryResult",
    "fit_upright_box",
    "iou_3d",
]
