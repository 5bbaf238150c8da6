"""Transforms recorded over time between named frames, looked up along the chain that connects two of them."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError
from mosaic3d_core.geometry.transforms import interpolate_pose, invert_transform


@dataclass
class _Edge:
    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    poses: list[NDArray[np.float64]] = field(default_factory=list)


class PoseTree:
    """All transforms of a recording.

    Args:
        max_gap_ns: Moving transforms are interpolated over at most this time.
    """

    def __init__(self, max_gap_ns: int = 500_000_000) -> None:
        self._edges: dict[str, _Edge] = {}
        self._max_gap_ns = max_gap_ns

    def add(self, parent: str, child: str, stamp_ns: int, T_parent_child: NDArray[np.float64], static: bool = False) -> None:
        """Add one transform; later ones of a static pair replace earlier ones."""
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent:
            edge = self._edges[child] = _Edge(parent, static)
        if static:
            edge.stamps, edge.poses = [stamp_ns], [T_parent_child]
            return
        at = bisect.bisect(edge.stamps, stamp_ns)
        edge.stamps.insert(at, stamp_ns)
        edge.poses.insert(at, T_parent_child)

    @property
    def frames(self) -> list[str]:
        """All frame names."""
        return sorted({*self._edges, *(e.parent for e in self._edges.values())})

    def root(self, frame: str) -> str:
        """The topmost ancestor of a frame."""
        seen = set()
        while frame in self._edges and frame not in seen:
            seen.add(frame)
            frame = self._edges[frame].parent
        return frame

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """`T_target_source` (4, 4) at a time.

        Raises:
            FrameError: When no chain connects the two, or the time lies outside the recording.
        """
        up_source, up_target = self._chain(source), self._chain(target)
        shared = next((f for f in up_source if f in up_target), None)
        if shared is None:
            raise FrameError(
                f"no transforms connect '{target}' and '{source}'; the recording has {', '.join(self.frames) or 'none'}",
                "no_pose",
            )
        T_shared_source = self._climb(up_source[: up_source.index(shared)], stamp_ns)
        T_shared_target = self._climb(up_target[: up_target.index(shared)], stamp_ns)
        return invert_transform(T_shared_target) @ T_shared_source

    def _chain(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._edges and self._edges[chain[-1]].parent not in chain:
            chain.append(self._edges[chain[-1]].parent)
        return chain

    def _climb(self, children: list[str], stamp_ns: int) -> NDArray[np.float64]:
        out = np.eye(4)
        for child in children:
            out = self._at(child, stamp_ns) @ out
        return out

    def _at(self, child: str, stamp_ns: int) -> NDArray[np.float64]:
        edge = self._edges[child]
        if edge.static:
            return edge.poses[-1]
        k = bisect.bisect_left(edge.stamps, stamp_ns)
        if k < len(edge.stamps) and edge.stamps[k] == stamp_ns:
            return edge.poses[k]
        if k == 0 or k == len(edge.stamps) or edge.stamps[k] - edge.stamps[k - 1] > self._max_gap_ns:
            raise FrameError(f"no transform of '{child}' around {stamp_ns / 1e9:.3f} s", "no_pose")
        t0, t1 = edge.stamps[k - 1], edge.stamps[k]
        return interpolate_pose(edge.poses[k - 1], edge.poses[k], (stamp_ns - t0) / (t1 - t0))
