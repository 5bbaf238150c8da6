"""ROS 2 nodes of Mosaic3D.

Parameters, conversions, synchronisation and publishing around ``mosaic3d_core``.
"""
