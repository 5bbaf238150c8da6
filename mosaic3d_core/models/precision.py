"""Which dtype an encoder computes in when nobody says."""

from __future__ import annotations

import torch

from mosaic3d_core.sparse.matrix_product import has_onednn
from mosaic3d_core.sparse.processor import this_processor

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_dtype(device: torch.device, dtype: torch.dtype | str | None = None) -> torch.dtype:
    """The dtype asked for, or the fast one of the device.

    Rule where none is asked for: on the CPU bfloat16 if it has instructions for its products (AVX512-BF16, AMX: 2 to 6
    times as fast); on CUDA bfloat16 if the GPU supports it (Ampere and newer); float32 elsewhere.

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
    if device.type == "cpu" and this_processor().multiplies_bfloat16 and has_onednn():
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
