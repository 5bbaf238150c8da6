"""The mask decoder of Mosaic3D: from voxel features to objects, their masks and their place in text space."""

from mosaic3d_core.models.mask_decoder.config import MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.decoder import DecoderOutput, MaskDecoder

__all__ = ["DecoderOutput", "MaskDecoder", "MaskDecoderConfig"]
