"""The ``mosaic3d`` command: maps, queries, segmentation and pictures without ROS."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 fine, 2 bad input, 130 interrupted)."""
    from mosaic3d_core.cli.app import run

    return run(argv)
