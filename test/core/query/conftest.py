"""Scenes shared by the query tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
