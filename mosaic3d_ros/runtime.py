"""Start and end of a node process."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import rclpy
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node

from mosaic3d_core.interrupts import is_interrupt

# A query is many short calls; at Python's 5 ms, each may wait that long for the thread that labels a map.
_SWITCH_INTERVAL_S = 0.0005


class Closable:
    """What a node with threads of its own adds to rclpy's.

    Attributes:
        unfinished: Whether a thread goes on after `close`, in the middle of something that cannot be stopped.
    """

    unfinished = False

    def begin(self) -> None:
        """Called once the executor is about to spin."""

    def close(self) -> None:
        """End the threads; called before the node is destroyed."""
        raise NotImplementedError

    @property
    def exit_code(self) -> int:
        """Exit code of the process after a clean end."""
        return 0


class ClosableNode(Closable, Node):
    """A plain node with threads of its own."""


class ClosableLifecycleNode(Closable, LifecycleNode):
    """A lifecycle node with threads of its own."""


class RosLogHandler(logging.Handler):
    """Sends the core library's log records to the node's logger."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one record at its level."""
        text = f"{record.name}: {record.getMessage()}"
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


def install_log_handler(node: Node) -> None:
    """Route ``mosaic3d_core`` logging into ROS logging, once per process."""
    core = logging.getLogger("mosaic3d_core")
    core.handlers = [RosLogHandler(node)]
    core.setLevel(logging.INFO)
    core.propagate = False


def _spin(executor: Executor, node: Node) -> None:
    """Spin until told to end; a callback that fails is told of and must not end the process."""
    while rclpy.ok():
        try:
            executor.spin()
            return
        except (KeyboardInterrupt, ExternalShutdownException):
            raise
        except Exception as error:
            if is_interrupt(error) or not rclpy.ok():
                return
            node.get_logger().error(f"A callback failed:\n{traceback.format_exc()}")


def _release_shared_memory() -> None:
    """Remove Fast DDS's segments of this process (128 MB each), which else stay behind when it ends without ceremony."""
    descriptors = Path("/proc/self/fd")
    for number in list(descriptors.iterdir()) if descriptors.is_dir() else []:
        with contextlib.suppress(OSError):
            held = Path(os.readlink(number))  # the lock file that the owner of a segment holds
            if held.parent == Path("/dev/shm") and held.name.startswith("fastdds_") and held.name.endswith("_el"):
                held.with_name(held.name.removesuffix("_el")).unlink(missing_ok=True)
                held.unlink()


def run_node(create: Callable[[], ClosableNode | ClosableLifecycleNode], arguments: Sequence[str] | None, threads: int) -> int:
    """Spin a node until it is told to end.

    The order at the end matters: executor, its threads, the node, then rclpy. Any other order can end the process with
    "terminate called without an active exception".

    Args:
        create: Makes the node (a Node with ``close``).
        arguments: Command line; None = that of the process.
        threads: Threads for callbacks.

    Returns:
        Exit code: the node's after a clean end (Ctrl-C included), 2 when it cannot start with its settings.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    rclpy.init(args=None if arguments is None else list(arguments))
    code, unfinished = 0, False
    try:
        try:
            node = create()
        except (ValueError, ImportError, OSError) as error:
            print(f"Cannot start: {error}", file=sys.stderr, flush=True)
            return 2
        executor = MultiThreadedExecutor(num_threads=threads) if threads > 1 else SingleThreadedExecutor()
        executor.add_node(node)
        try:
            node.begin()
            _spin(executor, node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            # `ros2 launch` without a terminal interrupts twice; the second must not break the orderly end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            node.close()
            code, unfinished = node.exit_code, node.unfinished
            executor.shutdown()
            node.destroy_node()
    except (KeyboardInterrupt, SystemError) as error:
        if not is_interrupt(error):
            raise
    finally:
        if rclpy.ok():
            rclpy.shutdown()
        # Nothing is left to be released; without this the interpreter walks through some 300,000 objects of torch and
        # numba at its end, long enough on a busy machine for `ros2 launch` to lose patience and kill the process.
        gc.freeze()
        _release_shared_memory()  # for the same reason rclpy's context, which would do it, stays
    if unfinished:
        # An interpreter that ends under a thread in the middle of torch aborts.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
