"""``mosaic3d segment``: label a coloured point cloud with words."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from mosaic3d_core.cli import console

if TYPE_CHECKING:
    from mosaic3d_core.query import Labelling

_EPILOG = """\
examples:
  mosaic3d segment scan.ply --text chair --text table --out labelled.ply
  mosaic3d segment scan.ply --out labelled.ply                  with the built-in vocabulary
  mosaic3d segment scan.ply --text "office chair" --up y --scale 0.001 --out labelled.ply

The input is a PLY file (ascii or binary) with x, y, z and colours; coordinates are metres unless --scale says
otherwise. The output has x y z red green blue label(ushort) instance(uint) score(float) per point;
label 65535 is none, and header comments give the word behind each number.
"""
_AXES = {
    "x": (1.0, 0, 0), "y": (0, 1.0, 0), "z": (0, 0, 1.0),
    "-x": (-1.0, 0, 0), "-y": (0, -1.0, 0), "-z": (0, 0, -1.0),
}  # fmt: skip


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser = commands.add_parser(
        "segment",
        help="label a coloured point cloud with words",
        description=console.describe(__doc__),
        epilog=_EPILOG,
    )
    parser.add_argument("cloud", metavar="CLOUD.ply", help="coloured point cloud")
    parser.add_argument("--text", action="append", metavar="WORD", help="a label; repeat for more")
    parser.add_argument("--out", required=True, metavar="FILE.ply", help="labelled cloud to write")
    parser.add_argument(
        "--up",
        default="auto",
        choices=["auto", *_AXES],
        help="up axis of the cloud; --up=-z for a negative one (default: auto)",
    )
    parser.add_argument("--scale", type=console.positive_float, default=1.0, metavar="S", help="metres per unit (default: 1)")
    parser.add_argument("--voxel-size", type=console.positive_float, default=0.02, metavar="M", help="metres (default: 0.02)")
    parser.add_argument(
        "--colors",
        choices=("labels", "original"),
        default="labels",
        help="colours to write (default: labels)",
    )
    console.add_model_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Read, encode, label, write."""
    from mosaic3d_core.errors import Mosaic3DError
    from mosaic3d_core.mapping import MapSnapshot
    from mosaic3d_core.query import DEFAULT_VOCABULARY, QueryConfig
    from mosaic3d_core.query.engine import check_texts
    from mosaic3d_core.visualization.ply import read_ply, write_labelled_ply

    words = arguments.text or list(DEFAULT_VOCABULARY)
    check_texts(words, QueryConfig())
    target = Path(arguments.out)
    console.check_writable(target)
    with console.err.status("reading the cloud"):
        cloud = read_ply(arguments.cloud)
        if len(cloud.points) == 0:
            raise Mosaic3DError(f"{arguments.cloud} has no points")
        points = cloud.points * np.float32(arguments.scale)
        _check_extent(points, arguments)
        up = _up_axis(points, cloud.normals, arguments)
        snapshot, voxel_of_point = MapSnapshot.from_points_with_inverse(
            points, cloud.colors, arguments.voxel_size, cloud.normals, up
        )
    feature_map = console.encode(snapshot, arguments)
    engine = console.engine_for(feature_map, arguments)
    labelling = engine.label(feature_map, words, console.instances_for(feature_map, engine, arguments))
    labels = labelling.labels[voxel_of_point]
    colors = cloud.colors if arguments.colors == "original" else _label_colors(labelling, cloud.colors, labels)
    comments = [f"label {k} {word}" for k, word in enumerate(labelling.vocabulary)]
    write_labelled_ply(
        target,
        cloud.points,
        colors,
        labels,
        labelling.instances[voxel_of_point],
        labelling.scores[voxel_of_point],
        tuple(comments),
    )
    console.out.print(_table(labelling, labels))
    console.out.print(f"{target}: {len(labels):,} points", soft_wrap=True)
    return 0


def _check_extent(points: np.ndarray, arguments: argparse.Namespace) -> None:
    """Refuse clouds that are plainly not in metres, where every label would be nonsense."""
    from mosaic3d_core.errors import Mosaic3DError

    extent = float(np.ptp(np.quantile(points, [0.01, 0.99], axis=0), axis=0).max())
    if extent > 500 or (len(points) > 100 and extent < 5 * arguments.voxel_size):
        raise Mosaic3DError(
            f"the cloud is {extent:.3g} m across, which is no room; "
            "if its unit is not the metre, give --scale (0.001 for millimetres)"
        )


def _up_axis(points: np.ndarray, normals: np.ndarray | None, arguments: argparse.Namespace) -> np.ndarray:
    if arguments.up != "auto":
        return np.array(_AXES[arguments.up])
    from mosaic3d_core.cli.up_axis import estimate_up_axis

    name = estimate_up_axis(points, normals, _AXES)
    console.err.print(f"up axis: {name} (estimated; --up overrides)")
    return np.array(_AXES[name])


def _label_colors(labelling: Labelling, colors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from mosaic3d_core.visualization.palette import NO_LABEL_COLOR, label_colors

    palette = np.vstack([label_colors(labelling.vocabulary), [NO_LABEL_COLOR]]).astype(np.float32)
    number = np.minimum(labels, len(palette) - 1)
    # A third of the true colour keeps the scene readable.
    return np.where((labels < len(palette))[:, None], 0.75 * palette[number] + 0.25 * colors, 0.4 * colors + 90)


def _table(labelling: Labelling, labels: np.ndarray) -> Table:
    """Points and objects per label, most points first."""
    table = Table()
    table.add_column("label", no_wrap=True)
    for name in ("points", "share", "objects"):
        table.add_column(name, justify="right")
    counts = np.bincount(np.minimum(labels, len(labelling.vocabulary)), minlength=len(labelling.vocabulary) + 1)
    names = [*labelling.vocabulary, "(none)"]
    words = [*labelling.vocabulary, ""]
    objects = [sum(thing.text == word for thing in labelling.objects) for word in words]
    for k in np.argsort(-counts, kind="stable"):
        if counts[k]:
            table.add_row(names[k], f"{counts[k]:,}", f"{counts[k] / len(labels):.1%}", str(objects[k] or ""))
    return table
