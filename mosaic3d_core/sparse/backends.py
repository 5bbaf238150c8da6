"""Backends of the sparse layers by name.

"torch" runs everywhere and is the one that the layers use. "spconv" runs whole nets on the CUDA kernels of that library
(``models/spconv_unet.py``); where it cannot run, asking for it by name is an error and not a silent change to another backend.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch

from mosaic3d_core.errors import MissingDependencyError


def _check_torch(device: torch.device) -> None:
    """Any device that torch has."""


def _check_spconv(device: torch.device) -> None:
    if device.type != "cuda":
        raise MissingDependencyError(
            'backend "spconv" runs on CUDA only (its CPU build gives wrong results with several threads); '
            'use backend "torch" on the CPU'
        )
    if importlib.util.find_spec("spconv") is None:
        raise MissingDependencyError('backend "spconv" needs the package: pip install spconv-cu120, or use backend "torch"')


_BACKENDS: dict[str, Callable[[torch.device], None]] = {"torch": _check_torch, "spconv": _check_spconv}


def choose_backend(name: str, device: torch.device) -> str:
    """The backend for a device.

    Args:
        name: "auto", "torch" or "spconv".
        device: Where the layers will run.

    Returns:
        Name of the backend; "auto" takes "spconv" on CUDA where it is installed, else "torch".

    Raises:
        ValueError: If the name is unknown.
        MissingDependencyError: If the backend cannot run there; the message says what to install or to use.
    """
    if name == "auto":
        return "spconv" if device.type == "cuda" and importlib.util.find_spec("spconv") is not None else "torch"
    if name not in _BACKENDS:
        raise ValueError(f'unknown backend "{name}"; choose auto, {", ".join(_BACKENDS)}')
    _BACKENDS[name](device)
    return name
