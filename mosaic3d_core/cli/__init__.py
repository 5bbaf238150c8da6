"""The ``mosaic3d`` command: maps, queries, segmentation and pictures without ROS."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 fine, 2 bad input), or ends the process with 130 after Ctrl-C."""
    try:
        from mosaic3d_core.cli.app import run

        code = run(argv)
    except KeyboardInterrupt:  # so early that nothing has begun
        sys.stderr.write("mosaic3d: interrupted, nothing was written\n")
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        # Libraries that were interrupted while they loaded change the exit code, or print their worries, when they are torn down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
