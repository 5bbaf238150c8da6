"""Recognising Ctrl-C wherever it struck, and losing none."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_AGAIN_S = 0.05


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
def lasting_interrupts() -> Iterator[None]:
    """Let Ctrl-C strike again, 50 ms later, where Python could only ignore it.

    Compiled code (numba, while it is being loaded), finalisers and other callbacks from C cannot hand an exception on: Python
    reports it as ignored and goes on, and whoever pressed Ctrl-C waits for nothing.
    """
    before = sys.unraisablehook

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        if not is_interrupt(ignored.exc_value):
            before(ignored)
            return
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], None]]:
    """Note the first Ctrl-C, for the function that is handed out to raise between two pieces of work; a second one strikes.

    An exception in the middle of compiled code that is being loaded (numba) can get lost without a word, or crash the process.
    What was noted and not raised yet is raised at the end of the block; main thread only.
    """
    struck = False
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # a shell that starts this in the background keeps Ctrl-C from it
        yield lambda: None
        return

    def note(_number: int, _frame: object) -> None:
        nonlocal struck
        struck = True
        signal.signal(signal.SIGINT, before)

    def check() -> None:
        if struck:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
    check()


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
