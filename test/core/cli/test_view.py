"""``mosaic3d view``: what it prints, how it refuses bad input, and that Ctrl-C ends it at once."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from cli_scenes import ROOT

pytest.importorskip("viser", reason="the 3D view needs viser (extra 'viewer')")


class Running:
    """``mosaic3d view`` as a process, with what it has printed so far."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mosaic3d_core.cli", "view", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "2"},
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def text(self):
        return "".join(self.lines)

    def wait_for(self, pattern, timeout_s=120):
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = re.search(pattern, self.text)
            if found:
                return found
            assert self.process.poll() is None, self.text
            time.sleep(0.02)
        raise AssertionError(self.text)

    def end(self, number):
        """Send a signal; exit code and seconds until it had ended."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        seconds = time.monotonic() - began
        self._reader.join(5)
        return code, seconds


@pytest.fixture
def view():
    started = []

    def start(*arguments):
        started.append(Running(*arguments))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


@pytest.mark.alone
@pytest.mark.parametrize(
    ("number", "expected", "at_most_s"),
    [
        (signal.SIGINT, 130, 2.0),
        (signal.SIGTERM, 0, 5.0),  # with the usual end of Python and its libraries, on a machine with other work
    ],
)
def test_view_serves_the_page_until_it_is_told_to_stop(view, encoded_map_file, number, expected, at_most_s):
    running = view(encoded_map_file, "--port", 0, "--label", "chair", "--label", "box", "--decoder", "components")
    url, port = running.wait_for(r"voxels at (http://127\.0\.0\.1:(\d+)) \(Ctrl-C ends it\)").groups()
    running.wait_for("all there")
    with urllib.request.urlopen(url, timeout=10) as reply:
        assert reply.status == 200
        assert b"<html" in reply.read(1000)
    with socket.create_connection(("127.0.0.1", int(port))):  # as browsers do, for later
        code, seconds = running.end(number)
    assert code == expected
    assert seconds < at_most_s
    assert "Traceback" not in running.text
    assert "viser" not in running.text  # its greeting would only tell the address again


@pytest.mark.alone
def test_ctrl_c_while_the_map_is_read_is_an_interruption(view, encoded_map_file):
    running = view(encoded_map_file, "--port", 0)
    running.wait_for("Ctrl-C ends it")
    code, seconds = running.end(signal.SIGINT)
    assert code == 130
    assert seconds < 2.0
    assert "Traceback" not in running.text


def test_a_port_in_use_is_one_sentence(command, encoded_map_file):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = command("view", encoded_map_file, "--port", port)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines() == [
        f"mosaic3d view: error: port {port} of 127.0.0.1 is in use; choose another one, or end the program that has it"
    ]


def test_bad_input_is_one_sentence(command, encoded_map_file, tmp_path):
    for arguments, says in (
        ((tmp_path / "none.m3dmap",), "does not exist"),
        ((encoded_map_file, "--port", "70000"), "must lie between 0 and 65535"),
        ((encoded_map_file, "--label", "  "), "is empty"),
    ):
        result = command("view", *arguments)
        assert result.returncode == 2
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, result.stderr
        assert says in lines[0]


def test_without_viser_it_says_what_to_install(encoded_map_file):
    """A module set to None in sys.modules is one that cannot be imported."""
    code = (
        "import sys; sys.modules['viser'] = None\n"
        "from mosaic3d_core.cli import main\n"
        f"sys.exit(main(['view', {str(encoded_map_file)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "mosaic3d view: error: the 3D view needs viser: pip install 'viser>=1.1.1,<1.2' (extra 'viewer')"
    ]


def test_help_tells_a_newcomer_what_to_do(command):
    text = command("view", "--help").stdout
    for words in ("examples:", "Press Enter".lower(), "Ctrl-C ends it", "no password", "127.0.0.1", "pip install"):
        assert words in text or words in text.lower()
