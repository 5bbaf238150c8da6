"""Numbers of things, each given once."""

from __future__ import annotations

import threading


class IdCounter:
    """1, 2, ...; safe to use from threads."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __next__(self) -> int:
        with self._lock:
            self._last += 1
            return self._last

    def skip_past(self, number: int) -> None:
        """Give only larger numbers from now on."""
        with self._lock:
            self._last = max(self._last, number)
