"""The process behind ``mosaic3d doctor``: observes the live graph, then tells like the command does."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mosaic3d_core.cli import cmd_doctor
from mosaic3d_core.doctor import examine, transport_of
from mosaic3d_core.interrupts import is_interrupt

if TYPE_CHECKING:
    from mosaic3d_ros.doctor.live import Wanted

_EXIT_BAD_INPUT, _EXIT_INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the options of ``mosaic3d doctor``."""
    parser = argparse.ArgumentParser(prog="mosaic3d doctor")
    cmd_doctor.add_options(parser)
    arguments = parser.parse_args(argv)
    try:
        return _observe_and_tell(arguments)
    except (KeyboardInterrupt, SystemError, ValueError, OSError) as error:
        if is_interrupt(error):
            return _EXIT_INTERRUPTED
        if isinstance(error, SystemError):
            raise
        sys.stderr.write(f"mosaic3d doctor: error: {error}\n")
        return _EXIT_BAD_INPUT


def wanted_from(arguments: argparse.Namespace) -> Wanted:
    """What the options of the command ask for."""
    from mosaic3d_ros.doctor.live import Wanted

    return Wanted(
        arguments.node,
        arguments.namespace,
        cmd_doctor.names_of(arguments),
        lambda settings: cmd_doctor.settings_of(arguments, settings),
        arguments.seconds or cmd_doctor.DEFAULT_SECONDS,
    )


def _observe_and_tell(arguments: argparse.Namespace) -> int:
    transport = transport_of()
    if transport.segment_bytes is not None and not transport.profile:
        # What the terminal lacks is told; the observer itself must not lose large messages for it.
        from mosaic3d_ros.locations import config_file

        os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(config_file("fastdds.xml"))
    import rclpy

    from mosaic3d_ros.doctor.live import LiveObserver

    wanted = wanted_from(arguments)
    rclpy.init(args=[])
    try:
        node = rclpy.create_node(f"mosaic3d_doctor_{os.getpid()}", start_parameter_services=False)
        observer = LiveObserver(node, transport)
        try:
            with cmd_doctor.waiting(f"watching the graph for {wanted.seconds:g} s"):
                seen = observer.observe(wanted)
        finally:
            observer.close()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
    title = f"{seen.node.name if seen.node else 'no perception_node'}, watched for {seen.window_s:.0f} s ({seen.domain})"
    return cmd_doctor.tell(seen, examine(seen), title, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
