"""What the subcommands share: consoles, progress, checks of outputs, and the encoded map behind a file."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from mosaic3d_core.mapping import MapSnapshot
    from mosaic3d_core.models.scene_encoder import FeatureMap
    from mosaic3d_core.query import InstanceView, QueryEngine
    from mosaic3d_core.query.instance_map import MapInstance

#: Results go to stdout, everything about the work to stderr.
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def configure_logging(debug: bool) -> None:
    """Send log records of the package to stderr: warnings, or everything with ``--debug``."""
    handler = RichHandler(console=err, show_path=debug, show_time=debug)
    logger = logging.getLogger("mosaic3d_core")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.propagate = False


def describe(doc: str | None) -> str:
    """The sentence after the command name in a subcommand's module docstring, for its help."""
    sentence = (doc or "").split(": ", 1)[-1].strip()
    return sentence[:1].upper() + sentence[1:]


def progress() -> Progress:
    """A progress bar on stderr; silent where stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options that choose the encoder."""
    group = parser.add_argument_group("encoder")
    group.add_argument("--checkpoint", metavar="FILE", help="encoder checkpoint (default: the one that ships)")
    group.add_argument(
        "--condition", metavar="NAME", help="condition of a checkpoint trained on several datasets (default: its first)"
    )
    group.add_argument(
        "--decoder",
        default="",
        metavar="FILE",
        help="mask decoder that finds the objects, or 'components' (default: objects kept in the map file, if any; else the one "
        "that ships where it fits, else components)",
    )
    group.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, cuda:N or auto (default: cpu)")
    group.add_argument("--text-encoder", metavar="NAME", help="text encoder (default: the one the checkpoint names)")
    group.add_argument(
        "--text-cache", metavar="DIR", help="folder that keeps text vectors; filled once, the text encoder is not needed again"
    )


def positive_float(text: str) -> float:
    """Argument type: a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def positive_int(text: str) -> int:
    """Argument type: a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return value


def check_writable(path: Path) -> None:
    """Make sure a file can be written at ``path`` before long work starts.

    Raises:
        OSError: If its folder cannot be made or written, or the path is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(21, "is a folder, expected a file name", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Make a folder if needed and make sure files can be written there; OSError if not."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(error.errno, "cannot write files there, choose another folder", str(folder)) from error


def encode(snapshot: MapSnapshot, arguments: argparse.Namespace) -> FeatureMap:
    """Encode a map with the chosen checkpoint, with a spinner."""
    from mosaic3d_core.models.scene_encoder import SceneEncoder

    with err.status("loading the encoder"):
        encoder = SceneEncoder.from_checkpoint(arguments.checkpoint, arguments.device, condition=arguments.condition)
    with err.status(f"encoding {len(snapshot):,} voxels"):
        return encoder.encode(snapshot)


def load_encoded(
    path: str | os.PathLike[str], arguments: argparse.Namespace
) -> tuple[FeatureMap, tuple[MapInstance, ...] | None]:
    """The encoded map of a file, and the instances that it keeps: of stored features, else encoded now and without."""
    from mosaic3d_core.mapping import load_map
    from mosaic3d_core.query.feature_store import unpack_features
    from mosaic3d_core.query.instance_store import unpack_instances

    with err.status("reading the map"):
        snapshot, metadata, extras = load_map(path, with_extras=True)
        stored = None if arguments.checkpoint else unpack_features(snapshot, metadata, extras)
        kept = None if stored is None else unpack_instances(stored, extras)
    return (encode(snapshot, arguments), None) if stored is None else (stored, kept)


def engine_for(feature_map: FeatureMap, arguments: argparse.Namespace) -> QueryEngine:
    """A query engine with the text encoder that the features are aligned with, ready to answer."""
    from mosaic3d_core.models.text import check_text_encoder, get_text_encoder
    from mosaic3d_core.query import QueryEngine

    encoder = get_text_encoder(arguments.text_encoder or feature_map.text_encoder_name, cache_dir=arguments.text_cache)
    check_text_encoder(feature_map, encoder)
    engine = QueryEngine(encoder)
    with err.status("loading the text encoder"):
        engine.warm_up()
    return engine


def instances_for(
    feature_map: FeatureMap, engine: QueryEngine, arguments: argparse.Namespace, kept: tuple[MapInstance, ...] | None = None
) -> InstanceView:
    """The objects of the map: those it keeps, under their ids, unless a decoder is chosen; else found now."""
    from mosaic3d_core.query.sources import instances_kept, instances_of

    if kept is not None and not arguments.decoder:
        return instances_kept(feature_map, engine, kept)
    with err.status("finding objects"):
        return instances_of(feature_map, engine, arguments.decoder, arguments.device)
