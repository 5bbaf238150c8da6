"""Processes that share out independent work, and end with who asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context


@contextmanager
def worker_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes to submit work to.

    When the block fails or is interrupted, what has not begun is dropped, and what has begun is waited for.

    Args:
        count: Processes at a time.
    """
    # spawn: threads of torch and numba do not survive a fork
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:
            # With waiting: a pool that is let go of, or shut down once more, before its thread has looked forgets to cancel.
            pool.shutdown(cancel_futures=True)
            raise
