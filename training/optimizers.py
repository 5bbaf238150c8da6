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

    AdamW moves every weight by about the rate, however small its gradient. A modulation sums over the 256 numbers of its
    condition, so its output would jump by a hundred times that: modulations and conditions get ``prompt_lr_share`` of the rate.

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
        prompt = [p for name, p in named if ".modulation." in name or "embedding_table" in name]
        chosen = {id(p) for p in prompt}
        rest = [p for _, p in named if id(p) not in chosen]
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": optim["weight_decay"]},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if prompt:
            groups.append({"params": prompt, "weight_decay": 0.0, "lr": optim["lr"] * optim.get("prompt_lr_share", 1.0)})
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
            [group["lr"] for group in optimizer.param_groups],
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
