"""Plots of studies: bars with their spread, and trends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot

from training.studies.runs import Spread

_LABEL = "f-mIoU on unseen rooms, %"


def bars(path: Path, title: str, groups: Mapping[str, Mapping[str, Spread]], label: str = _LABEL) -> None:
    """One group of bars per entry, the deviation over seeds as whiskers and every seed as a dot."""
    names = list(next(iter(groups.values())))
    figure, axes = pyplot.subplots(figsize=(2.6 + 0.75 * len(names) * len(groups), 3.4), layout="constrained")
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        spreads = [group[name] for group in groups.values()]
        x = np.arange(len(groups)) + (k - (len(names) - 1) / 2) * width
        axes.bar(
            x, [100 * s.mean for s in spreads], 0.9 * width, yerr=[100 * s.deviation for s in spreads], capsize=4, label=name
        )
        for at, s in zip(x, spreads, strict=True):
            axes.plot(np.full(len(s.values), at), 100 * np.array(s.values), "k.", markersize=4)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the bars
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def trend(path: Path, name: str, points: Sequence[tuple[int, Spread]], label: str = _LABEL) -> None:
    """A curve over a growing quantity, on a logarithmic axis."""
    trends(path, name, {"": points}, label)


def trends(path: Path, name: str, curves: Mapping[str, Sequence[tuple[int, Spread]]], label: str = _LABEL) -> None:
    """Curves over the same growing quantity, on a logarithmic axis; a legend where there are several."""
    figure, axes = pyplot.subplots(figsize=(4.6 + 1.6 * (len(curves) > 1), 3.6), layout="constrained")
    for title, points in curves.items():
        x = [value for value, _ in points]
        drawn: dict[str, Any] = {"marker": "o", "capsize": 4, "label": title}
        axes.errorbar(x, [100 * s.mean for _, s in points], yerr=[100 * s.deviation for _, s in points], **drawn)
        for value, s in points:
            axes.plot(np.full(len(s.values), value), 100 * np.array(s.values), "k.", markersize=4)
    axes.set_xscale("log")
    axes.set_xticks(x, [str(value) for value in x])
    axes.minorticks_off()
    axes.set_xlabel(name)
    axes.set_ylabel(label)
    if len(curves) > 1:
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
