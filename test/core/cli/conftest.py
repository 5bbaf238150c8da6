"""Fixtures of the command-line tests; the module has a name of its own so that tests can import from it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cli_scenes import checkpoint, command, encoded_map_file, map_file  # noqa: F401
