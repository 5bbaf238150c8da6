"""training/eval.py without a process of its own: half of a refusal is the start of Python and torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import training.eval as program

ROOT = Path(__file__).resolve().parents[2]


def composed(*arguments: object) -> DictConfig:
    """The configuration that the program makes of its arguments."""
    with initialize_config_dir(str(ROOT / "config" / "training"), version_base="1.3"):
        return compose("eval", [str(one) for one in arguments])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the program says of arguments that it refuses, with the exit code for that."""
    config = composed(*arguments)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        program.main.__wrapped__(config)
    assert ended.value.code == 2
    return capsys.readouterr().err
