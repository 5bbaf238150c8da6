"""A diagnosis for people (rich) and for scripts (JSON), and its exit code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mosaic3d_core.doctor.findings import Finding
from mosaic3d_core.doctor.observations import Observations, TopicObservation

EXIT_WELL, EXIT_WARNINGS, EXIT_ERRORS = 0, 1, 3
"""2 is what every subcommand of mosaic3d returns for bad input."""

FORMAT_VERSION = 1
_PLAIN_WIDTH = 300  # no terminal: nothing is cut off, so that names can be searched for


def exit_code(findings: Sequence[Finding]) -> int:
    """0 = all well, 1 = warnings only, 3 = errors."""
    if any(finding.severity == "error" for finding in findings):
        return EXIT_ERRORS
    return EXIT_WARNINGS if findings else EXIT_WELL


def as_json(seen: Observations, findings: Sequence[Finding]) -> dict[str, Any]:
    """The diagnosis as plain values for ``json.dump``."""
    verdict = {EXIT_WELL: "well", EXIT_WARNINGS: "warnings", EXIT_ERRORS: "errors"}[exit_code(findings)]
    return {
        "version": FORMAT_VERSION,
        "source": seen.source,
        "window_s": round(seen.window_s, 3),
        "node": seen.node.name if seen.node else None,
        "verdict": verdict,
        "findings": [
            {"code": f.code, "severity": f.severity, "subject": f.subject, "problem": f.problem, "remedy": f.remedy}
            for f in findings
        ],
        "inputs": {role: _topic_as_json(topic) for role, topic in seen.topics.items()},
        "transforms": [
            {"parent": e.parent, "child": e.child, "static": e.is_static, "count": e.count, "newest_ns": e.newest_ns}
            for e in seen.edges
        ],
    }


def _topic_as_json(topic: TopicObservation) -> dict[str, Any]:
    return {
        "topic": topic.name,
        "publishers": len(topic.publishers),
        "messages": topic.count,
        "rate_hz": None if topic.rate_hz is None or not math.isfinite(topic.rate_hz) else round(topic.rate_hz, 2),
        "encodings": list(topic.encodings),
        "sizes": [list(size) for size in topic.sizes],
        "frame_ids": list(topic.frame_ids),
    }


def print_report(console: Console, seen: Observations, findings: Sequence[Finding], title: str) -> None:
    """Print what was seen, then each finding with its cure.

    Where the console is no terminal, sentences stay on one line each, so that `grep` finds them.
    """
    console.print(f"[bold]mosaic3d doctor[/bold]: {escape(title)}", soft_wrap=True)
    if seen.topics:
        wide = console if console.is_terminal else Console(file=console.file, width=_PLAIN_WIDTH, highlight=False)
        wide.print(_table(seen, plain=not console.is_terminal))
    for finding in findings:
        color = "red" if finding.severity == "error" else "yellow"
        console.print(
            f"\n[bold {color}]{finding.severity.upper()}[/bold {color}] [bold]{finding.code}[/bold]  {escape(finding.subject)}",
            soft_wrap=True,
        )
        for line in (escape(finding.problem), f"[green]->[/green] {escape(finding.remedy)}"):
            if console.is_terminal:
                console.print(f"  {line}")
            else:
                console.print(f"  {line}", soft_wrap=True)
    console.print("\n" + _summary(findings), soft_wrap=True)


def _summary(findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    if not findings:
        return "[bold green]All well.[/bold green]"
    parts = [f"{count} {word}{'s' if count > 1 else ''}" for count, word in ((errors, "error"), (warnings, "warning")) if count]
    return f"[bold]{', '.join(parts)}[/bold]; the first is the first cause. docs/troubleshooting.md explains every code."


def _table(seen: Observations, plain: bool) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="" if plain else "dim", padding=(0, 2, 0, 0))
    for column in ("input", "topic", "publishers", "messages", "Hz", "what", "frame"):
        table.add_column(
            column, no_wrap=plain, overflow="fold", justify="right" if column in ("publishers", "messages", "Hz") else "left"
        )
    for topic in seen.topics.values():
        size = " ".join(f"{w}x{h}" for w, h in topic.sizes)
        if topic.calibration:
            width, height = topic.calibration.size
            size = f"{width}x{height} fx {topic.calibration.fx:.1f}"
        what = " ".join(filter(None, [*topic.encodings, size]))
        rate = "" if topic.rate_hz is None else f"{topic.rate_hz:.1f}"
        cells = (topic.role, topic.name, str(len(topic.publishers)), str(topic.count), rate, what, " ".join(topic.frame_ids))
        table.add_row(*(escape(cell) for cell in cells))
    return table
