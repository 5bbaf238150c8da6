"""The voxel map: fusion of RGB-D frames, snapshots, and map files."""

from mosaic3d_core.mapping.config import VoxelMapConfig
from mosaic3d_core.mapping.map_file import load_map, save_map
from mosaic3d_core.mapping.snapshot import MapSnapshot
from mosaic3d_core.mapping.voxel_map import MapDelta, VoxelMap

__all__ = ["MapDelta", "MapSnapshot", "VoxelMap", "VoxelMapConfig", "load_map", "save_map"]
