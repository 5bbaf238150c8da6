"""The ``mosaic3d`` command: maps, queries, segmentation and pictures without ROS."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 fine, 2 bad input, 130 interrupted)."""
    try:
        from mosaic3d_core.cli.app import run

        return run(argv)
    except KeyboardInterrupt:  # so early that nothing has begun
        sys.stderr.write("mosaic3d: interrupted, nothing was written\n")
        return 130
