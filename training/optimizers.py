"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mosaic3d_core.errors import Mosaic3DError


def build_optimizer(module: nn.Module, optim: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW without weight decay on vectors and scalars, or SGD with weight decay on everything, as published.

    Raises:
        Mosaic3DError: If the kind is unknown.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if optim["kind"] == "sgd":
        return torch.optim.SGD(
            [p for _, p in named],
            lr=optim["lr"],
            momentum=optim["momentum"],
            nesterov=optim["nesterov"],
            weight_decay=optim["weight_decay"],
        )
    if optim["kind"] == "adamw":
        groups = [
            {"params": [p for _, p in named if p.ndim > 1], "weight_decay": optim["weight_decay"]},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=optim["lr"])
    raise Mosaic3DError(f"optim.kind {optim['kind']} is unknown: choose adamw or sgd")


def build_schedule(
    optimizer: torch.optim.Optimizer, optim: dict[str, Any], steps: int, progress: Callable[[], float]
) -> torch.optim.lr_scheduler.LRScheduler:
    """OneCycle over all steps, as published, or warm-up and cosine decay over ``progress()``, which goes from 0 to 1.

    Raises:
        Mosaic3DError: If the schedule is unknown.
    """
    if optim["schedule"] == "onecycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            optim["lr"],
            total_steps=max(steps, 2),
            pct_start=optim["pct_start"],
            div_factor=optim["div_factor"],
            final_div_factor=optim["final_div_factor"],
            cycle_momentum=optim["cycle_momentum"],
        )
    if optim["schedule"] == "cosine":
        warm, final = optim["warmup_share"], optim["final_share"]

        def rate(step: int) -> float:
            done = progress()
            if done < warm:
                return max(done / warm, 0.02)
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))

        return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    raise Mosaic3DError(f"optim.schedule {optim['schedule']} is unknown: choose cosine or onecycle")
