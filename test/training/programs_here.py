"""training/train.py and eval.py without a process of their own: most of a short call is the start of Python and torch."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parents[2]


def composed(program: ModuleType, *arguments: object) -> DictConfig:
    """The configuration that the program makes of its arguments."""
    with initialize_config_dir(str(ROOT / "config" / "training"), version_base="1.3"):
        return compose(Path(str(program.__file__)).stem, [str(one) for one in arguments])


def exit_code(program: ModuleType, *arguments: object) -> int:
    """Run the program and return what its process would."""
    config = composed(program, *arguments)
    threads = torch.get_num_threads()
    try:
        program.main.__wrapped__(config)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        torch.set_num_threads(threads)
    return 0


def refusal(capsys: pytest.CaptureFixture[str], program: ModuleType, *arguments: object) -> str:
    """What the program says of arguments that it refuses, with the exit code for that."""
    capsys.readouterr()
    assert exit_code(program, *arguments) == 2
    return capsys.readouterr().err
