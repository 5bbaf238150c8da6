"""Text encoders behind one protocol. Nothing heavy is imported before the first text is encoded."""

from mosaic3d_core.models.text.base import TextEncoder, check_text_encoder
from mosaic3d_core.models.text.cache import CachedTextEncoder
from mosaic3d_core.models.text.registry import get_text_encoder

__all__ = ["CachedTextEncoder", "TextEncoder", "check_text_encoder", "get_text_encoder"]
