"""``mosaic3d demo``: the whole chain over ROS 2 processes in a generated room."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from typing import Any

from mosaic3d_core.cli import console
from mosaic3d_core.errors import MissingDependencyError

_EPILOG = """\
examples:
  mosaic3d demo
  mosaic3d demo -- --help          options of the demo itself
"""
# Core never imports the ROS side; the demo is another process that happens to be installed with it.
_DEMO_MODULE = "mosaic3d_ros.demo"


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser = commands.add_parser(
        "demo",
        help="run the whole chain over ROS 2 in a generated room",
        description=console.describe(__doc__),
        epilog=_EPILOG,
    )
    parser.add_argument("options", nargs="*", metavar="OPTION", help="options of the demo, after --")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Start the demo and return its exit code."""
    if not _available("rclpy"):
        raise MissingDependencyError(
            "the demo runs on ROS 2 and rclpy cannot be imported; run 'make demo', which installs it, "
            "or source your ROS 2 installation first"
        )
    if not _available(_DEMO_MODULE):
        raise MissingDependencyError(
            f"{_DEMO_MODULE} is not installed beside mosaic3d_core; install the whole repository, or run 'make demo'"
        )
    command = [sys.executable, "-m", _DEMO_MODULE, *arguments.options]
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # it got the same Ctrl-C and cleans up
            raise


def _available(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
