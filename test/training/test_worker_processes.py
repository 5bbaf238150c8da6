"""Work that is shared out among processes ends when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import os, pathlib, signal, sys, time
from training.worker_processes import worker_processes

def work(number, folder):
    pathlib.Path(folder, str(number)).write_text(str(os.getpid()))
    time.sleep(0.2)

def main(folder):
    with worker_processes(2) as pool:
        for job in [pool.submit(work, number, folder) for number in range(500)]:
            job.result()

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_that_is_stopped_drops_what_has_not_begun_and_leaves_no_process(tmp_path, number):
    (tmp_path / "done").mkdir()
    script = tmp_path / "work.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "done")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while len(list((tmp_path / "done").iterdir())) < 4:
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)  # to the one that waits alone, as a supervisor sends it
    assert process.wait(20) == 130  # the 500 pieces would take 50 s
    done = list((tmp_path / "done").iterdir())
    assert len(done) < 100
    workers = {int(file.read_text()) for file in done}
    assert not any(Path("/proc", str(worker)).exists() for worker in workers)
