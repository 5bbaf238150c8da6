"""The ROS layer stays within its share of a core."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (make setup installs it)")

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.ros]


def test_a_30_hz_vga_stream_costs_at_most_35_percent_of_a_core(tmp_path):
    file = tmp_path / "intake.json"
    command = [sys.executable, "benchmarks/intake.py", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {row["stream"]: row for row in json.loads(file.read_text())["rows"]}
    assert set(rows) == {"rgb8 + 16UC1", "jpeg + compressedDepth rvl"}
    for row in rows.values():
        assert row["frames_per_s"] > 0
        assert row["converting_ms_per_frame"] > 0
        # measured 9 and 17 % on a machine busy with other work: processor time, not wall time
        assert row["cpu_percent_at_30_hz"] <= 35
