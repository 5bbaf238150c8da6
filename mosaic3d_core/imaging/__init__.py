"""Images as cameras and recordings send them, to arrays: encodings, compression, calibration. No ROS needed."""

from mosaic3d_core.imaging.frame_reader import DEFAULT_READER, FrameReader

__all__ = ["DEFAULT_READER", "FrameReader"]
