"""``mosaic3d view``: look at a map in the browser and ask it by words."""

from __future__ import annotations

import argparse
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mosaic3d_core.cli import console

if TYPE_CHECKING:
    from mosaic3d_core.visualization.viewer import MapViewer

_EPILOG = """\
examples:
  mosaic3d view kitchen.m3dmap                       then open the address that it prints
  mosaic3d view kitchen.m3dmap --label chair --label table --label plant
  mosaic3d view kitchen.m3dmap --host 0.0.0.0        for browsers on other machines, too (there is no password)

In the page: type words, press Enter, and the map shows where they are; a button per object flies there. Drag to turn,
right drag to move, wheel to come closer. "Show" chooses true colours, labels or the heat of your words. Every browser
that looks has its own question. From another machine over ssh: ssh -L 8080:127.0.0.1:8080 ROBOT, then http://127.0.0.1:8080.
Ctrl-C ends it. Needs viser: pip install 'viser>=1.1.1,<1.2'.
"""
_INTERRUPTED = 130


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser = commands.add_parser(
        "view", help="look at a map in the browser and ask it by words", description=console.describe(__doc__), epilog=_EPILOG
    )
    parser.add_argument("map", metavar="MAP", help="map file")
    parser.add_argument("--port", type=port_number, default=8080, metavar="N", help="port of the page (default: 8080; 0: any)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at (default: 127.0.0.1, this machine only; 0.0.0.0: all that can reach it)",
    )
    parser.add_argument(
        "--label", action="append", metavar="WORD", help="a word of the labels; repeat for more (default: built-in)"
    )
    parser.add_argument(
        "--max-points",
        type=console.positive_int,
        default=1_000_000,
        metavar="N",
        help="most points a browser is sent (default: 1000000)",
    )
    console.add_model_options(parser)
    return parser


def port_number(text: str) -> int:
    """Argument type: a TCP port, or 0."""
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 65535, got {text}")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Show the map, encode and label it, and stay until Ctrl-C."""
    from mosaic3d_core.mapping import load_map
    from mosaic3d_core.query import DEFAULT_VOCABULARY, QueryConfig
    from mosaic3d_core.query.engine import check_texts
    from mosaic3d_core.visualization.viewer import MapViewer, ViewData

    words = check_texts(arguments.label or list(DEFAULT_VOCABULARY), QueryConfig())
    with console.err.status("reading the map"):
        snapshot = load_map(arguments.map)
    viewer = MapViewer(arguments.port, arguments.host, max_points=arguments.max_points)
    try:
        viewer.show(ViewData(snapshot, live=False, note="reading what it holds"))
        console.out.print(f"{arguments.map}: {len(snapshot):,} voxels at {viewer.url} (Ctrl-C ends it)", soft_wrap=True)
        _encode_and_label(viewer, arguments, words)
        return _wait(viewer)
    finally:
        viewer.close()


def _encode_and_label(viewer: MapViewer, arguments: argparse.Namespace, words: tuple[str, ...]) -> None:
    """Let the page answer as soon as it can, at first from voxels alone: finding the objects of a large map takes a while."""
    from mosaic3d_core.visualization.viewer import ViewData

    feature_map, kept = console.load_encoded(arguments.map, arguments)
    engine = console.engine_for(feature_map, arguments)
    with console.err.status("labelling"):
        early = ViewData.of(feature_map, engine.label(feature_map, words), engine, live=False)
    viewer.show(replace(early, note="finding objects"))
    instances = console.instances_for(feature_map, engine, arguments, kept)
    with console.err.status("labelling"):
        viewer.show(ViewData.of(feature_map, engine.label(feature_map, words, instances), engine, instances, live=False))
    console.err.print("all there")


def _wait(viewer: MapViewer) -> int:
    """Until Ctrl-C or SIGTERM, which is no failure here; the exit code."""
    ended = threading.Event()
    got: list[int] = []

    def end(number: int, _frame: object) -> None:
        got.append(number)
        ended.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    console.err.print(f"closed ({viewer.viewers} looking)")
    return _INTERRUPTED if got[0] == signal.SIGINT else 0
