"""What the ROS tests share: an isolated domain, a small checkpoint, and nodes as processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (make setup installs it)")
pytest.importorskip("mosaic3d_msgs", reason="needs the built message package (make setup builds it)")

ROOT = Path(__file__).resolve().parents[2]
os.environ["ROS_DOMAIN_ID"] = str(20 + os.getpid() % 20)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small encoder with random weights: what the nodes do does not depend on how good it is."""
    import torch

    from mosaic3d_core.models import build_sparse_unet, save_checkpoint

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    channels = ["color", "occupancy", "verticality", "height"]
    metadata = {"text_encoder": "minilm", "voxel_size_m": 0.04, "input_channels": channels, "logit_scale": 20.0}
    save_checkpoint(path, build_sparse_unet("narrow", in_channels=6), metadata)
    return path


class NodeProcess:
    """A node in a process of its own."""

    def __init__(self, module, log, *arguments):
        self.log = log
        with log.open("wb") as output:
            command = [sys.executable, "-m", module, "--ros-args", *arguments]
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)

    def output(self):
        return self.log.read_text(errors="replace")

    def interrupt(self):
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def end(self):
        if self.process.poll() is not None:
            return
        # Interrupted, it says goodbye; a killed node is there for the others for another twenty seconds, and gets their requests.
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def start_node(tmp_path_factory):
    started = []

    def start(module, *arguments):
        log = tmp_path_factory.mktemp("log") / "output.txt"
        started.append(NodeProcess(module, log, *arguments))
        return started[-1]

    yield start
    for node in started:
        node.end()


def wait_until(condition, spin, timeout_s=60.0, what="the condition"):
    """Spin until something holds; fails with its name otherwise."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return
        spin()
    pytest.fail(f"{what} did not happen within {timeout_s:.0f} s")
