"""A 3D view of a map in the browser."""

from mosaic3d_core.visualization.viewer.app import MAX_POINTS, MapViewer, ViewerError
from mosaic3d_core.visualization.viewer.view_data import ViewData

__all__ = ["MAX_POINTS", "MapViewer", "ViewData", "ViewerError"]
