"""Where one stands and looks to: what "left of", "in front of" and "me" mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.query.boxes import ground_basis

# A view is taken for vertical when less than this of its direction is horizontal (about 6 degrees from plumb).
_VERTICAL = 0.1


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A place and two horizontal directions, in a frame with z up.

    Attributes:
        position: Shape (3,), metres.
        forward: Horizontal unit vector (2,).
        left: Horizontal unit vector (2,), a quarter turn from ``forward``.
    """

    position: NDArray[np.float64]
    forward: NDArray[np.float64]
    left: NDArray[np.float64]

    @classmethod
    def from_pose(cls, T_map_viewer: NDArray[np.float64], optical: bool, up: NDArray[np.float64]) -> Viewpoint:
        """The viewpoint of a frame.

        Args:
            T_map_viewer: Pose of the frame in the map (4, 4).
            optical: True for z forward, x right, y down; False for x forward, y left, z up (both REP-103).
            up: Direction against gravity in the map (3,).

        Returns:
            Its heading in the plane. Of a camera that looks straight up or down, the upper side of the picture is forward.
        """
        basis = ground_basis(up)
        turn = basis.T @ T_map_viewer[:3, :3]
        ahead, left = (turn[:, 2], -turn[:, 0]) if optical else (turn[:, 0], turn[:, 1])
        forward = ahead[:2]
        if np.linalg.norm(forward) < _VERTICAL:  # left is horizontal then
            forward = np.array([left[1], -left[0]])
        forward = forward / np.linalg.norm(forward)
        return cls(basis.T @ T_map_viewer[:3, 3], forward, np.array([-forward[1], forward[0]]))


def is_optical_name(frame: str) -> bool:
    """Whether a frame is optical by its name: REP-103 asks for the suffix ``_optical`` or ``_optical_frame``."""
    return frame.lower().removesuffix("_frame").endswith("optical")
