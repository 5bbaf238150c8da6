"""Recognising Ctrl-C wherever it struck."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an exception is Ctrl-C, or was caused by it.

    Compiled code that is interrupted while it is being loaded (numba) reports a SystemError, with the KeyboardInterrupt as
    its cause.
    """
    seen = 0
    while error is not None and seen < 32:
        if isinstance(error, KeyboardInterrupt):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


@contextmanager
def later_interrupts() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back for as long as the block runs, then let it strike; main thread only.

    For what must not be torn apart, such as starting a process and noting that it was started.
    """
    held: list[int] = []
    before = {number: signal.signal(number, lambda got, _frame: held.append(got)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])
