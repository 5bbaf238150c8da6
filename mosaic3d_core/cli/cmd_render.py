"""``mosaic3d render``: pictures of a map."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

from mosaic3d_core.cli import console

_EPILOG = """\
examples:
  mosaic3d render kitchen.m3dmap --out pictures
  mosaic3d render kitchen.m3dmap --out pictures --labels --size 1920x1080
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser = commands.add_parser("render", help="draw pictures of a map", description=console.describe(__doc__), epilog=_EPILOG)
    parser.add_argument("map", metavar="MAP", help="map file")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--view", choices=("perspective", "top", "both"), default="both", help="default: both")
    parser.add_argument("--size", type=picture_size, default=(1280, 960), metavar="WxH", help="default: 1280x960")
    parser.add_argument("--labels", action="store_true", help="also draw the map coloured by label")
    console.add_model_options(parser)
    return parser


def picture_size(text: str) -> tuple[int, int]:
    """Argument type: WIDTHxHEIGHT in pixels."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 1280x960, got {text!r}") from None
    if not (64 <= width <= 8192 and 64 <= height <= 8192):
        raise argparse.ArgumentTypeError(f"width and height must lie between 64 and 8192, got {text}")
    return width, height


def run(arguments: argparse.Namespace) -> int:
    """Draw the pictures."""
    from mosaic3d_core.mapping import load_map
    from mosaic3d_core.query import DEFAULT_VOCABULARY
    from mosaic3d_core.visualization.pictures import Scene, picture_of_labels, picture_of_map, save_picture

    folder = Path(arguments.out)
    console.check_folder(folder)
    labelling = None
    if arguments.labels:
        feature_map, kept = console.load_encoded(arguments.map, arguments)
        snapshot = feature_map.snapshot
        engine = console.engine_for(feature_map, arguments)
        instances = console.instances_for(feature_map, engine, arguments, kept)
        labelling = engine.label(feature_map, DEFAULT_VOCABULARY, instances)
    else:
        snapshot = load_map(arguments.map)
    kinds: tuple[Literal["top", "perspective"], ...] = ("perspective", "top") if arguments.view == "both" else (arguments.view,)
    for kind in kinds:
        with console.err.status(f"drawing the {kind} view"):
            scene = Scene.of(snapshot, kind, *arguments.size)
            made = [save_picture(picture_of_map(scene), folder / f"map_{kind}.png")]
            if labelling is not None:
                made.append(save_picture(picture_of_labels(scene, labelling), folder / f"labels_{kind}.png"))
        for path in made:
            console.out.print(str(path), soft_wrap=True)
    return 0
