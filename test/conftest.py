"""Shared fixtures."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A shell that starts the suite in the background makes it ignore Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and none fails for the time it takes beside other work.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(items):
    """What talks over ROS 2 runs alone: graphs on one machine see each other, and a busy one loses best-effort images."""
    for item in items:
        if item.get_closest_marker("ros"):
            item.add_marker("alone")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real RGB-D sequences beside the repository; tests that need it skip without."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real RGB-D data (../shared/data) is not here")
    return folder
