"""The ROS side of ``mosaic3d doctor``: an observer of a live graph."""
