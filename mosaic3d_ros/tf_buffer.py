"""The transform buffer under its old name; it lives in :mod:`mosaic3d_core.geometry.transform_buffer`."""

from mosaic3d_core.geometry.transform_buffer import TransformBuffer, TransformLookupError

__all__ = ["TransformBuffer", "TransformLookupError"]
