#!/usr/bin/env python3
"""Write config/perception.yaml and docs/parameters.md from what the nodes declare.

    .venv/bin/python scripts/write_parameters.py

A test compares both files with what this would write.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mosaic3d_ros.parameters import PLAYER, ParameterSpec, perception_specs  # noqa: E402

YAML, TABLES = ROOT / "config" / "perception.yaml", ROOT / "docs" / "parameters.md"
_WIDTH = 120


def meaning(spec: ParameterSpec, quote: str = "") -> str:
    """Description with choices and range."""
    text = spec.description
    if spec.choices:
        text += f" One of {', '.join(quote + choice + quote for choice in spec.choices)}."
    if spec.low is not None and spec.high is not None:
        text += f" Range {spec.low:g} to {spec.high:g}."
    return text


def yaml_value(value: Any) -> str:
    """A default as YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(yaml_value(one) for one in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def yaml_text(specs: Iterable[ParameterSpec]) -> str:
    """The YAML file: groups by the part of the name before the dot."""
    lines = [
        "# Parameters of perception_node: all of them, with their defaults, written by scripts/write_parameters.py.",
        "# Start the node with: --ros-args --params-file perception.yaml",
        "/**:",
        "  ros__parameters:",
    ]
    group = ""
    for spec in specs:
        prefix, _, name = spec.name.rpartition(".")
        if prefix != group:
            lines += ["", f"    {prefix}:"]
            group = prefix
        indent = " " * (6 if prefix else 4)
        lines += [f"{indent}# {line}" for line in textwrap.wrap(meaning(spec), _WIDTH - len(indent) - 2)]
        lines.append(f"{indent}{name}: {yaml_value(spec.default)}")
    return "\n".join(lines) + "\n"


def table(specs: Iterable[ParameterSpec]) -> list[str]:
    """Rows of a Markdown table."""
    rows = ["| name | default | meaning | at run time |", "|---|---|---|---|"]
    for spec in specs:
        default = str(spec.default).lower() if isinstance(spec.default, bool) else repr(spec.default)
        text = meaning(spec, "`").replace("|", "\\|")
        rows.append(f"| `{spec.name}` | `{default}` | {text} | {'yes' if spec.dynamic else ''} |")
    return rows


def tables_text() -> str:
    """The page with all parameters."""
    lines = [
        "# Parameters",
        "",
        "Written by `scripts/write_parameters.py` from what the nodes declare; `ros2 param describe` shows the same. Those",
        'with a "yes" can be set while the node runs; the others are read when it starts. `config/perception.yaml` holds them',
        "all with their defaults.",
        "",
        "## perception_node",
        "",
        *table(perception_specs()),
        "",
        "## rgbd_player",
        "",
        *table(PLAYER),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write both files."""
    YAML.write_text(yaml_text(perception_specs()))
    TABLES.write_text(tables_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
