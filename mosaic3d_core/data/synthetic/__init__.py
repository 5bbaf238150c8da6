"""Procedural furnished rooms, recorded with a Kinect-like sensor, with exact labels and captions."""

from mosaic3d_core.data.synthetic.scene import RoomScene, build_room
from mosaic3d_core.data.synthetic.sensor import SensorModel
from mosaic3d_core.data.synthetic.sequence import SequenceConfig, SyntheticSequence, open_room

__all__ = ["RoomScene", "SensorModel", "SequenceConfig", "SyntheticSequence", "build_room", "open_room"]
