"""The two threads behind the node.

One fuses frames, one encodes the newest map. Callbacks only hand work over.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from mosaic3d_core.errors import FrameError

Item = TypeVar("Item")


def lower_priority(nice: int) -> None:
    """Let the calling thread, and every thread that it starts from now on, step back for others (Linux; elsewhere nothing)."""
    if nice and hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def run_at_low_priority(job: Callable[[], object], nice: int) -> None:
    """Run a job to its end on a thread of lower priority; pools of threads that it starts have that priority, too.

    Args:
        job: The work; its error is raised here.
        nice: See :class:`Worker`.
    """
    with ThreadPoolExecutor(1, initializer=lower_priority, initargs=(nice,)) as pool:
        pool.submit(job).result()


class Worker:
    """A named thread that ends when asked and never dies of an error.

    Args:
        name: Name of the thread.
        on_error: Called with an unexpected exception; the thread goes on.
        nice: How far the thread steps back for others, 0 (not at all) to 19.
    """

    def __init__(self, name: str, on_error: Callable[[Exception], None], nice: int = 0) -> None:
        self._on_error = on_error
        self._nice = nice
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Ask the thread to end after its present work; True if it did in time."""
        self.ask_to_stop()
        return self.join(timeout_s)

    def ask_to_stop(self) -> None:
        """Let the thread end after its present work."""
        self._stopping.set()
        self._wake()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; True if it came in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        lower_priority(self._nice)
        while not self._stopping.is_set():
            try:
                self._step()
            except Exception as error:  # one bad frame or one failed encoding must not end the node
                self._on_error(error)

    def _step(self) -> None:
        """Wait for work and do one piece of it; return at once when stopping."""
        raise NotImplementedError

    def _wake(self) -> None:
        """End a wait in :meth:`_step`."""
        raise NotImplementedError


class QueueWorker(Worker, Generic[Item]):
    """Handles items in order; when more come than it can take, the oldest go.

    Args:
        name: Name of the thread.
        capacity: Most items that wait.
        handle: Does the work for one item; a ``FrameError`` drops it for its reason, any other error as ``failed``.
        on_drop: Called with (reason, sentence, item) for each item that is dropped.
        on_error: See :class:`Worker`.
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        handle: Callable[[Item], None],
        on_drop: Callable[[str, str, Item], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        super().__init__(name, on_error)
        self._capacity = capacity
        self._handle = handle
        self._on_drop = on_drop
        self._items: deque[Item] = deque()
        self._ready = threading.Condition()

    def put(self, item: Item) -> None:
        """Queue an item."""
        with self._ready:
            self._items.append(item)
            oldest = self._items.popleft() if len(self._items) > self._capacity else None
            self._ready.notify()
        if oldest is not None:
            self._on_drop("queue_full", f"Frames come faster than they can be fused ({self._capacity} wait).", oldest)

    def __len__(self) -> int:
        return len(self._items)

    def clear(self) -> list[Item]:
        """Forget what waits and return it."""
        with self._ready:
            waiting = list(self._items)
            self._items.clear()
        return waiting

    def _step(self) -> None:
        with self._ready:
            while not self._items and not self._stopping.is_set():
                self._ready.wait()
            if self._stopping.is_set():
                return
            item = self._items.popleft()
        try:
            self._handle(item)
        except FrameError as error:
            self._on_drop(error.reason, str(error), item)
        except Exception as error:
            self._on_drop("failed", f"{type(error).__name__}: {error}", item)
            raise

    def _wake(self) -> None:
        with self._ready:
            self._ready.notify_all()


class LatestWorker(Worker):
    """Does one job again and again when asked; requests that come while it runs count as one. A job that fails is tried again.

    Args:
        name: Name of the thread.
        job: The work; it reads the newest state itself.
        min_period_s: Shortest time between two starts.
        on_error: See :class:`Worker`.
        nice: See :class:`Worker`.
    """

    def __init__(
        self, name: str, job: Callable[[], None], min_period_s: float, on_error: Callable[[Exception], None], nice: int = 0
    ) -> None:
        super().__init__(name, on_error, nice)
        self._job = job
        self.min_period_s = min_period_s
        self.retry_s = 1.0
        self._requested = threading.Event()
        self._started_s = -float("inf")

    def request(self) -> None:
        """Ask for (another) run."""
        self._requested.set()

    def _step(self) -> None:
        self._requested.wait()
        rest = self._started_s + self.min_period_s - time.monotonic()
        if rest > 0:
            self._stopping.wait(rest)
        if self._stopping.is_set():
            return
        self._requested.clear()
        self._started_s = time.monotonic()
        try:
            self._job()
        except Exception:
            # what it should have done is still to be done, but not at once: the cause may need a while to pass
            self._started_s = time.monotonic() + self.retry_s - self.min_period_s
            self._requested.set()
            raise

    def _wake(self) -> None:
        self._requested.set()
