from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def state_dict_lists() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the published nets."""
    file = Path(__file__).resolve().parents[4] / "shared" / "reference" / "mosaic3d_state_dicts.json"
    if not file.is_file():
        pytest.skip("the lists of published parameter names are not here")
    lists = json.loads(file.read_text())
    return {
        name: {key: list(getattr(v, "get", lambda _, v=v: v)("shape")) for key, v in entries.items()}
        for name, entries in lists.items()
    }
