"""Which dtype an encoder computes in when nobody says."""

from __future__ import annotations

import functools
import time

import torch

from mosaic3d_core.sparse.matrix_product import multiply

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@functools.lru_cache(maxsize=1)
def bfloat16_gain() -> float:
    """How many times faster this CPU multiplies in bfloat16 than in float32, measured once per process.

    Processors with AMX or AVX512-BF16 reach 2 to 6; without such instructions bfloat16 is emulated and loses.
    """
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(1024, 1728, dtype=dtype), torch.ones(1728, 96, dtype=dtype)  # as in a layer of 64 to 96 channels
        multiply(left, right)
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            multiply(left, right)
            best = min(best, time.perf_counter() - start)
        times[dtype] = best
    return times[torch.float32] / times[torch.bfloat16]


def choose_dtype(device: torch.device, dtype: torch.dtype | str | None = None) -> torch.dtype:
    """The dtype asked for, or the fast one of the device.

    Rule where none is asked for: on the CPU bfloat16 if it multiplies at least 1.3 times as fast as float32;
    on CUDA bfloat16 if the GPU supports it (Ampere and newer); float32 elsewhere.

    Raises:
        ValueError: If the name of the dtype is unknown, or it is float16 on a CPU.
    """
    if isinstance(dtype, str):
        if dtype not in (*_DTYPES, "auto"):
            raise ValueError(f'unknown dtype "{dtype}"; choose auto, {", ".join(_DTYPES)}')
        dtype = _DTYPES.get(dtype)
    if dtype is not None:
        if dtype == torch.float16 and device.type == "cpu":
            raise ValueError("float16 is not supported on the CPU; choose bfloat16 or float32")
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu" and bfloat16_gain() >= 1.3:
        return torch.bfloat16
    return torch.float32


def choose_device(device: torch.device | str) -> torch.device:
    """A device by name; "auto" is CUDA where there is one.

    Raises:
        ValueError: If the name is not one of a device, or it is CUDA and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f'unknown device "{device}"; choose auto, cpu, cuda or cuda:N') from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError('device "cuda" was asked for but torch finds no CUDA GPU; choose cpu, or install torch for CUDA')
    return chosen
