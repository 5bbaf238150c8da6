"""``mosaic3d checkpoints``: the published encoders, and what is in a checkpoint file."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mosaic3d_core.cli import console
from mosaic3d_core.errors import CheckpointError

_EPILOG = """\
examples:
  mosaic3d checkpoints list
  mosaic3d checkpoints download spunet34c
  mosaic3d checkpoints inspect spunet34c.ckpt
  mosaic3d segment scan.ply --text chair --checkpoint spunet34c.ckpt --out labelled.ply
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "checkpoints", help="list, fetch and inspect encoders", description=console.describe(__doc__), epilog=_EPILOG
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="the published encoders, and which of them are here")
    fetch = actions.add_parser("download", help="fetch published encoders (2.6 to 3.6 GB each; goes on where it stopped)")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="such as spunet34c; see 'mosaic3d checkpoints list'")
    look = actions.add_parser("inspect", help="architecture, size, conditions and text encoder of a file")
    look.add_argument("file", metavar="FILE", help=".safetensors or .ckpt file, or a published name")
    look.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """List, download or inspect."""
    actions = {"list": _list, "download": _download, "inspect": _inspect}
    return actions[arguments.action](arguments)


def _list(_: argparse.Namespace) -> int:
    from mosaic3d_core.models.published import PUBLISHED, REPOSITORY, download

    table = Table(box=SIMPLE_HEAD)
    for name in ("name", "net", "here"):
        table.add_column(name, no_wrap=True)
    table.add_column("GB", justify="right")
    table.add_column("f-mIoU ScanNet200, reported (%)", justify="right", max_width=17)
    for one in PUBLISHED.values():
        try:
            here = bool(download(one.name, only_cached=True))
        except CheckpointError:
            here = False
        table.add_row(one.name, one.architecture, "yes" if here else "no", f"{one.size_gb:.2f}", f"{one.reported_f_miou:.1f}")
    console.out.print(table)
    console.out.print(f"from {REPOSITORY}; the encoder that ships with this package needs no download", soft_wrap=True)
    return 0


def _download(arguments: argparse.Namespace) -> int:
    from mosaic3d_core.models.published import PUBLISHED, download

    unknown = [name for name in arguments.names if name not in PUBLISHED]
    if unknown:  # before gigabytes of the others
        download(unknown[0])
    for name in arguments.names:
        console.out.print(str(download(name)), soft_wrap=True)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from mosaic3d_core.models.checkpoint import load_checkpoint

    with console.err.status("reading the checkpoint"):
        loaded = load_checkpoint(arguments.file)
    about = {
        "architecture": loaded.config.name,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "input_channels": list(loaded.metadata["input_channels"]),
        "feature_channels": loaded.config.feature_channels,
        "text_dim": loaded.config.out_channels,
        "conditions": list(loaded.config.conditions),
        **{k: v for k, v in loaded.metadata.items() if k != "input_channels"},
    }
    if arguments.json:
        sys.stdout.write(json.dumps(about, indent=2) + "\n")
        return 0
    for key, value in about.items():
        text = f"{value:,}" if key == "parameters" else ", ".join(value) or "none" if isinstance(value, list) else str(value)
        console.out.print(f"{key + ':':<18}{text}", soft_wrap=True, highlight=False)
    return 0
