"""Mosaic3D core: RGB-D fusion, language-aligned sparse 3D encoding and text queries. Knows nothing of ROS."""

__version__ = "0.1.0"
