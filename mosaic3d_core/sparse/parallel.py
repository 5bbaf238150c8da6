"""Threads of the CPU backend: one worker per torch thread, each running whole chunks on its own.

Splitting by chunk instead of inside every operation keeps a chunk's buffer in one core's cache and costs one
hand-over per worker instead of several per chunk.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_threads = 0
_local = threading.local()


def _forget_pool() -> None:
    global _pool, _lock  # threads do not survive a fork: the child starts its own
    _pool = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_pool)


def _get_pool(threads: int) -> ThreadPoolExecutor:
    global _pool, _pool_threads
    with _lock:
        if _pool is None or _pool_threads != threads:
            barrier = threading.Barrier(threads)

            def start() -> None:
                torch.set_num_threads(1)  # holds for the calling thread: each worker multiplies alone
                barrier.wait()

            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool = ThreadPoolExecutor(threads, thread_name_prefix="mosaic3d-sparse", initializer=start)
            for future in [_pool.submit(barrier.wait) for _ in range(threads)]:
                future.result()
            torch.set_num_threads(
                threads
            )  # torch takes the last value set as the default of threads still to come
            _pool_threads = threads
        return _pool


def for_each_chunk(rows: int, chunk: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` for consecutive ranges that cover ``rows``, on as many threads as torch.

    Args:
        rows: Number of rows; 0 does nothing.
        chunk: Most rows per call, > 0.
        work: Called from several threads at once in inference mode; ranges do not overlap.
    """
    threads = torch.get_num_threads()
    pieces = -(-rows // chunk)
    if pieces <= 1 or threads == 1:
        with torch.inference_mode():
            for start in range(0, rows, chunk):
                work(start, min(rows, start + chunk))
        return
    starts = itertools.count(0, chunk)  # next() on it is atomic: workers take chunks as they become free

    def run() -> None:
        with torch.inference_mode():
            for start in starts:
                if start >= rows:
                    return
                work(start, min(rows, start + chunk))

    for future in [_get_pool(threads).submit(run) for _ in range(min(threads, pieces))]:
        future.result()


def scratch(name: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """A reusable uninitialised buffer (rows, columns) of this thread, valid until its next call."""
    buffers: dict[tuple[str, torch.dtype], Tensor] = _local.__dict__.setdefault("buffers", {})
    buffer = buffers.get((name, dtype))
    if buffer is None or buffer.numel() < rows * columns:
        buffer = buffers[name, dtype] = torch.empty(rows * columns, dtype=dtype)
    return buffer[: rows * columns].view(rows, columns)
