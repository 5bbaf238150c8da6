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
from typing import TypeVar

import torch
from torch import Tensor

_Result = TypeVar("_Result")

_lock = threading.Lock()
_pools: dict[tuple[str, int], ThreadPoolExecutor] = {}
_local = threading.local()


def _forget_pools() -> None:
    global _lock  # threads do not survive a fork: the child starts its own
    _pools.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_pools)


def _get_pool(kind: str, workers: int) -> ThreadPoolExecutor:
    """The pool of a kind and size, whose threads each multiply alone."""
    with _lock:
        if (kind, workers) not in _pools:
            threads = torch.get_num_threads()
            barrier = threading.Barrier(workers)

            def start() -> None:
                # One shared operation first. It settles this thread's number of threads, which would
                # otherwise go back to the default; and GNU OpenMP, knowing of more threads than cores, stops
                # spinning at barriers: beside busy processes that cost 4 ms per operation.
                torch.ones(1 << 20).exp_()
                torch.set_num_threads(1)  # holds for the calling thread
                barrier.wait()

            pool = ThreadPoolExecutor(workers, thread_name_prefix=f"mosaic3d-{kind}", initializer=start)
            for future in [pool.submit(barrier.wait) for _ in range(workers)]:
                future.result()
            torch.set_num_threads(threads)  # torch takes the last value set as default of threads still to come
            _pools[kind, workers] = pool
        return _pools[kind, workers]


def run_alone(work: Callable[[], _Result]) -> _Result:
    """Run small work on one thread of its own that does not share its operations among cores.

    Operations of some microseconds lose more at the barriers between threads than they gain, and wait for a
    whole time slice at each of them when other threads keep the cores busy.
    """
    return _get_pool("alone", 1).submit(work).result()


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

    pool = _get_pool("sparse", threads)
    for future in [pool.submit(run) for _ in range(min(threads, pieces))]:
        future.result()


def even_chunk(rows: int, most: int) -> int:
    """Rows per chunk, about ``most``, so that all threads get equally many chunks and a multiple of 32 rows.

    A thread with one chunk more than the others would keep them waiting; and the fewer sizes there are, the less often
    oneDNN, which prepares itself for every size that it meets, has to.
    """
    threads = torch.get_num_threads()
    rounds = max(1, -(-rows // (most * threads)))
    chunk = -(-rows // (rounds * threads))
    return max(32, -(-chunk // 32) * 32)


def scratch(name: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """A reusable uninitialised buffer (rows, columns) of this thread, valid until its next call."""
    buffers: dict[tuple[str, torch.dtype], Tensor] = _local.__dict__.setdefault("buffers", {})
    buffer = buffers.get((name, dtype))
    if buffer is None or buffer.numel() < rows * columns:
        buffer = buffers[name, dtype] = torch.empty(rows * columns, dtype=dtype)
    return buffer[: rows * columns].view(rows, columns)
