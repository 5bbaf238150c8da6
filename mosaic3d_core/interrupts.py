"""Recognising Ctrl-C wherever it struck."""

from __future__ import annotations


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
