"""Fixtures of the viewer's tests; they share the small map of the command line's tests."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cli")]

from cli_scenes import command, encoded_map_file  # noqa: E402, F401
