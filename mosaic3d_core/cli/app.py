"""Parser, dispatch and error reporting of the ``mosaic3d`` command. Subcommands are one file each."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mosaic3d_core import __version__
from mosaic3d_core.cli import cmd_checkpoints, cmd_demo, cmd_doctor, cmd_map, cmd_query, cmd_render, cmd_segment, cmd_view
from mosaic3d_core.cli.console import configure_logging
from mosaic3d_core.interrupts import is_interrupt, lasting_interrupts

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

_EPILOG = """\
examples:
  mosaic3d map room:3 --out room.m3dmap            fuse a generated room
  mosaic3d map recording/ --out kitchen.m3dmap     fuse a recorded sequence
  mosaic3d query kitchen.m3dmap "a place to sit" door
  mosaic3d view kitchen.m3dmap                     look at it in the browser, and ask it there
  mosaic3d segment scan.ply --text chair --text table --out labelled.ply
  mosaic3d render kitchen.m3dmap --out pictures
  mosaic3d doctor                                  why does nothing show?
"""


class _Parser(argparse.ArgumentParser):
    """A parser that reports a wrong command line as one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands."""
    parser = _Parser(
        prog="mosaic3d",
        description="Fuse RGB-D into a 3D map and find things in it by words.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mosaic3d {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for module in (cmd_map, cmd_query, cmd_view, cmd_segment, cmd_render, cmd_checkpoints, cmd_demo, cmd_doctor):
        sub = module.add_parser(commands)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        # Also after the subcommand, where people look for it; without a default it does not undo the first
        # one.
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")
        sub.set_defaults(run=module.run)
    return parser


def run(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn errors into one line and an exit code."""
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    configure_logging(arguments.debug)
    try:
        with lasting_interrupts():
            return int(arguments.run(arguments))
    except BrokenPipeError:
        # The reader of our output (head, less) is gone; keep Python from complaining again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, SystemError, ValueError, OSError, ImportError) as error:  # Mosaic3DError is a ValueError
        if is_interrupt(error):  # Ctrl-C in the middle of an import looks like an ImportError
            sys.stderr.write("mosaic3d: interrupted, nothing was written\n")
            return EXIT_INTERRUPTED
        if arguments.debug or isinstance(error, SystemError):
            raise
        sys.stderr.write(f"mosaic3d {arguments.command}: error: {_one_line(error)}\n")
        return EXIT_BAD_INPUT


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
