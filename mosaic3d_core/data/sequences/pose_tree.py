"""The transforms of a whole recording, looked up at the time of an image as the node does it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.transform_buffer import TransformBuffer, TransformLookupError

_ALWAYS_S = 1e9


class PoseTree:
    """All transforms of a recording.

    Args:
        max_gap_s: Moving transforms are interpolated over at most this time.
    """

    def __init__(self, max_gap_s: float = 0.5) -> None:
        self._buffer = TransformBuffer(_ALWAYS_S, _ALWAYS_S, max_gap_s)

    def add(self, parent: str, child: str, stamp_ns: int, T_parent_child: NDArray[np.float64], static: bool = False) -> None:
        """Add one transform; later ones of a static pair replace earlier ones."""
        self._buffer.set(parent, child, stamp_ns, T_parent_child, static)

    @property
    def frames(self) -> list[str]:
        """All frame names."""
        return self._buffer.frames()

    def root(self, frame: str) -> str:
        """The topmost ancestor of a frame."""
        return self._buffer.root(frame)

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """`T_target_source` (4, 4) at a time.

        Raises:
            FrameError: When no chain connects the two, the time lies outside the recording, or the transforms around it are far
                apart.
        """
        try:
            return self._buffer.lookup(target, source, stamp_ns)
        except TransformLookupError as error:
            raise FrameError(str(error), "no_pose") from error
