"""The benchmark of the 3D view runs in its quick form and keeps what the docs promise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("viser", reason="the 3D view needs viser (extra 'viewer')")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.alone
def test_points_cost_nine_bytes_and_come_in_small_messages(tmp_path):
    command = [sys.executable, "benchmarks/viewer.py", "--quick", "--json", str(tmp_path / "viewer.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (row,) = json.loads((tmp_path / "viewer.json").read_text())["viewer"]
    assert 9.0 <= row["bytes_per_voxel"] < 9.4  # three half floats, three bytes of colour, the panel and names of nodes
    assert row["largest_megabytes"] < 2.5  # a window of 1 MB is closed by the chunk that fills it
    assert row["update_megabytes"] < 0.6 * row["megabytes"]  # colours only, of the blocks in that corner
    assert row["show_ms"] < 20  # one assignment; room for other work on the machine
