"""Pairs colour and depth images by time.

A depth image is paired with the colour image nearest in time. Equal stamps pair at once; otherwise the pair
waits until a later colour image shows that no nearer one can come.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(order=True)
class Stamped:
    """A message and its time in nanoseconds."""

    stamp_ns: int
    message: Any = field(compare=False)


class PairSynchronizer:
    """Approximate-time pairing of two streams, each with a bounded queue. Their rates may differ.

    Args:
        slop_s: Largest time difference of a pair, in seconds.
        queue_size: Messages kept per stream while their partner is awaited.
        on_pair: Called with (depth message, colour message), in the order of time.
        on_drop: Called with a reason for every depth image that stays without partner (``no_color``).
        on_unused: Called for every colour image that no depth image was paired with.

    Not thread-safe: call it from one mutually exclusive callback group or under a lock.
    """

    def __init__(
        self,
        slop_s: float,
        queue_size: int,
        on_pair: Callable[[Any, Any], None],
        on_drop: Callable[[str], None],
        on_unused: Callable[[], None] = lambda: None,
    ) -> None:
        self._slop_ns = round(slop_s * 1e9)
        self._queue_size = queue_size
        self._on_pair = on_pair
        self._on_drop = on_drop
        self._on_unused = on_unused
        self._depth: list[Stamped] = []
        self._color: list[Stamped] = []

    @property
    def waiting(self) -> tuple[int, int]:
        """Depth and colour images that wait for a partner."""
        return len(self._depth), len(self._color)

    def clear(self, reason: str) -> None:
        """Drop everything that waits (after a jump back in time), depth images for the given reason."""
        depth, color = self._depth, self._color
        self._depth, self._color = [], []
        for _ in depth:
            self._on_drop(reason)
        for _ in color:
            self._on_unused()

    def add_depth(self, stamp_ns: int, message: Any) -> None:
        """Take a depth message."""
        insort(self._depth, Stamped(stamp_ns, message))
        if len(self._depth) > self._queue_size:
            self._depth.pop(0)
            self._on_drop("no_color")
        self._match()

    def add_color(self, stamp_ns: int, message: Any) -> None:
        """Take a colour message."""
        insort(self._color, Stamped(stamp_ns, message))
        if len(self._color) > self._queue_size:
            self._color.pop(0)
            self._on_unused()
        self._match()

    def _match(self) -> None:
        while self._depth and self._color:
            depth = self._depth[0]
            nearest = min(self._color, key=lambda entry: abs(entry.stamp_ns - depth.stamp_ns))
            gap = abs(nearest.stamp_ns - depth.stamp_ns)
            decided = gap == 0 or self._color[-1].stamp_ns >= depth.stamp_ns
            if not decided:
                return
            if gap > self._slop_ns:
                if self._color[-1].stamp_ns <= depth.stamp_ns + self._slop_ns:
                    return
                self._depth.pop(0)
                self._on_drop("no_color")
                continue
            self._depth.pop(0)
            # Colour images up to the partner cannot serve a later depth image better.
            later = [entry for entry in self._color if entry.stamp_ns > nearest.stamp_ns]
            unused = len(self._color) - len(later) - 1
            self._color = later
            for _ in range(unused):
                self._on_unused()
            self._on_pair(depth.message, nearest.message)
