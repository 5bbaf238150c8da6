"""Child processes of the demo: start, watch, and end with Ctrl-C as a person would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mosaic3d_ros.locations import config_file

_LAST_LINES = 15
_FIRST_DOMAIN, _DOMAINS = 40, 60


class ChildDiedError(RuntimeError):
    """A child process ended before its work was done; the text has its last output."""


def isolate_environment() -> None:
    """Set this process's (and so its children's) environment: a domain of its own on this machine, large shared memory."""
    os.environ["ROS_DOMAIN_ID"] = str(_FIRST_DOMAIN + os.getpid() % _DOMAINS)
    if os.environ.get("ROS_DISTRO") == "humble":  # later releases replace it, and warn about it
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    else:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(config_file("fastdds.xml"))


class Child:
    """A node in a process of its own, its output in a file.

    Args:
        name: Name of the log file.
        module: Python module to run.
        arguments: Command line.
        folder: Folder of the log file.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as output:
            # A session of its own: Ctrl-C reaches the demo only, which then ends its children in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def process_id(self) -> int:
        """Process id."""
        return self._process.pid

    def running(self) -> bool:
        """Whether it still runs.

        Raises:
            ChildDiedError: If it ended with an error.
        """
        code = self._process.poll()
        if code:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
            raise ChildDiedError(f"{self.name} ended with exit code {code}. Its last output ({self.log}):\n" + "\n".join(lines))
        return code is None

    def stop(self, timeout_s: float = 15.0) -> int:
        """Interrupt it, wait, and only then force it; returns the exit code."""
        for sign, patience in ((signal.SIGINT, timeout_s), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            if self._process.poll() is not None:
                break
            self._process.send_signal(sign)
            deadline = time.monotonic() + patience
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
        return self._process.wait()
