"""training/train.py and eval.py without a process of their own: most of a short call is the start of Python and torch."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parents[2]


def composed(program: ModuleType, *arguments: object) -> DictConfig:
    """The configuration that the program makes of its arguments."""
    with initialize_config_dir(str(ROOT / "config" / "training"), version_base="1.3"):
        return compose(Path(str(program.__file__)).stem, [str(one) for one in arguments])


class Ended(NamedTuple):
    """What a process would have left."""

    returncode: int
    stdout: str
    stderr: str


def here(program: ModuleType, *arguments: object) -> Ended:
    """Run the program as its command does, in this process; what it does not expect is raised."""
    config = composed(program, *arguments)
    threads, code = torch.get_num_threads(), 0
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        try:
            program.main.__wrapped__(config)
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            torch.set_num_threads(threads)
    return Ended(code, out.getvalue(), err.getvalue())


def refusal(program: ModuleType, *arguments: object) -> str:
    """What the program says of arguments that it refuses, with the exit code for that."""
    done = here(program, *arguments)
    assert done.returncode == 2, done
    return done.stderr
