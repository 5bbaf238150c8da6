"""Sparse 3D convolution: coordinate sets with cached kernel maps, and the layers that use them."""

from mosaic3d_core.sparse.coordinates import CoordinateSet
from mosaic3d_core.sparse.modules import PointwiseLinear, SparseConv3d, SparseInverseConv3d, SubMConv3d
from mosaic3d_core.sparse.tensor import SparseTensor

__all__ = [
    "CoordinateSet",
    "PointwiseLinear",
    "SparseConv3d",
    "SparseInverseConv3d",
    "SparseTensor",
    "SubMConv3d",
]
