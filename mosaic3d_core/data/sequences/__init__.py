"""Posed RGB-D sequences from disk, bags and generated rooms, all as `RGBDFrame`s."""

from mosaic3d_core.data.sequences.base import FolderSequence, RGBDSequence
from mosaic3d_core.data.sequences.opening import open_sequence, reader_options

__all__ = ["FolderSequence", "RGBDSequence", "open_sequence", "reader_options"]
