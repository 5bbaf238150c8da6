"""``mosaic3d doctor``: say what keeps a live graph, or a bag, from becoming a map."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress, SpinnerColumn, TextColumn

from mosaic3d_core.cli import console
from mosaic3d_core.errors import MissingDependencyError

if TYPE_CHECKING:
    from mosaic3d_core.doctor import Finding, Observations, Settings

_EPILOG = """\
examples:
  mosaic3d doctor                              look at the running graph for 5 s
  mosaic3d doctor --rgb /camera/color/image_raw --depth /camera/depth/image_rect_raw
                                               look at a camera before perception_node is started
  mosaic3d doctor --namespace /robot1          the perception_node of one of several robots
  mosaic3d doctor recording.mcap               look at a bag (needs no ROS, only: pip install rosbags)
  mosaic3d doctor --json - | jq '.findings[0].remedy'

The topics, frames and limits are those of the running perception_node; options stand in where none runs, or for a bag.
Findings come first cause first; docs/troubleshooting.md explains every code. Everything is only read, nothing is changed.

exit codes: 0 all well, 1 warnings only, 3 errors, 2 nothing could be examined (bad option, no bag, no rclpy), 130 Ctrl-C
"""
# Core never imports the ROS side; the observer of a live graph is another process that happens to be installed with it.
_LIVE_MODULE = "mosaic3d_ros.doctor"
_POSE_SOURCES = ("tf", "pose", "odom")
DEFAULT_SECONDS = 5.0


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser = commands.add_parser(
        "doctor",
        help="say what is missing or mismatched in a running graph or a bag",
        description=console.describe(__doc__),
        epilog=_EPILOG,
    )
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options, which the process that observes a live graph takes, too."""
    parser.add_argument("bag", nargs="?", metavar="BAG", help="bag folder or file; without one the live graph is examined")
    parser.add_argument(
        "--seconds",
        type=console.positive_float,
        metavar="S",
        help=f"how long to watch a live graph (default: {DEFAULT_SECONDS:g}), or how much of a bag to read (default: all)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the diagnosis as JSON; - writes it to stdout and nothing else")
    node = parser.add_argument_group("live graph")
    node.add_argument("--node", metavar="NAME", help="perception_node to look at, where there are several or it has another name")
    node.add_argument("--namespace", metavar="NS", help="its namespace, such as /robot1")
    inputs = parser.add_argument_group("inputs", "where no perception_node tells")
    inputs.add_argument("--rgb", metavar="TOPIC", help="colour images")
    inputs.add_argument("--depth", metavar="TOPIC", help="depth images")
    inputs.add_argument("--rgb-info", metavar="TOPIC", help="camera_info of the colour images")
    inputs.add_argument("--depth-info", metavar="TOPIC", help="camera_info of the depth images")
    inputs.add_argument("--pose-source", choices=_POSE_SOURCES, help="where camera poses come from (default: tf)")
    inputs.add_argument("--pose", metavar="TOPIC", help="topic of the poses, with --pose-source pose or odom")
    inputs.add_argument("--map-frame", metavar="FRAME", help="fixed frame of the map (default: map)")
    inputs.add_argument("--sync-slop", type=console.positive_float, metavar="S", help="largest time between the images of a pair")


def names_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Topics that were given, by role."""
    given = {
        "rgb/image": arguments.rgb,
        "depth/image": arguments.depth,
        "rgb/camera_info": arguments.rgb_info,
        "depth/camera_info": arguments.depth_info,
        "odom" if arguments.pose_source == "odom" else "pose": arguments.pose,
    }
    return {role: name for role, name in given.items() if name}


def settings_of(arguments: argparse.Namespace, base: Settings) -> Settings:
    """What the node needs, with the options that were given."""
    given = {"map_frame": arguments.map_frame, "pose_source": arguments.pose_source, "sync_slop_s": arguments.sync_slop}
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def run(arguments: argparse.Namespace) -> int:
    """Examine and return the exit code."""
    if arguments.pose and arguments.pose_source not in ("pose", "odom"):
        raise ValueError(
            "--pose names a topic of poses: say with --pose-source whether it carries pose (PoseStamped) or odom (Odometry)"
        )
    if arguments.json not in (None, "-"):
        console.check_writable(Path(arguments.json))
    if arguments.bag is None:
        return _run_live(arguments)
    if arguments.node or arguments.namespace:
        raise ValueError("--node and --namespace choose a running node; a bag has none")
    from mosaic3d_core.doctor import Settings, examine
    from mosaic3d_core.doctor.bag import observe_bag

    with waiting(f"reading {arguments.bag}"):
        seen = observe_bag(arguments.bag, names_of(arguments), settings_of(arguments, Settings()), arguments.seconds)
    return tell(seen, examine(seen), f"bag {arguments.bag}, {seen.window_s:.1f} s", arguments.json)


def tell(seen: Observations, findings: Sequence[Finding], title: str, json_target: str | None) -> int:
    """Print the diagnosis, write it as JSON where that is wanted, and return the exit code."""
    from mosaic3d_core.doctor.report import as_json, exit_code, print_report

    text = json.dumps(as_json(seen, findings), indent=2) + "\n"
    if json_target == "-":
        sys.stdout.write(text)
    else:
        print_report(console.out, seen, findings, title)
    if json_target not in (None, "-"):
        Path(str(json_target)).write_text(text, encoding="utf-8")
    return exit_code(findings)


def waiting(text: str) -> Progress:
    """A spinner on stderr; silent where stderr is no terminal."""
    progress = Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console.err, transient=True)
    progress.disable = not console.err.is_terminal
    progress.add_task(text, total=None)
    return progress


def _run_live(arguments: argparse.Namespace) -> int:
    from mosaic3d_core.doctor.observations import SETTLING_S

    if arguments.seconds is not None and arguments.seconds < SETTLING_S:
        raise ValueError(
            f"--seconds {arguments.seconds:g} is too short to tell that something is missing; give {SETTLING_S:g} or more"
        )
    if not _available("rclpy"):
        raise MissingDependencyError(
            "a live graph is seen through ROS 2 and rclpy cannot be imported; source your ROS 2 installation or run 'make setup' "
            "first (a bag needs neither: mosaic3d doctor BAG)"
        )
    if not _available(_LIVE_MODULE):
        raise MissingDependencyError(f"{_LIVE_MODULE} is not installed beside mosaic3d_core; install the whole repository")
    with subprocess.Popen([sys.executable, "-m", _LIVE_MODULE, *_as_options(arguments)]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # it got the same Ctrl-C and cleans up
            raise


def _as_options(arguments: argparse.Namespace) -> list[str]:
    names = (
        "seconds",
        "json",
        "node",
        "namespace",
        "rgb",
        "depth",
        "rgb_info",
        "depth_info",
        "pose_source",
        "pose",
        "map_frame",
        "sync_slop",
    )
    given = {name: getattr(arguments, name) for name in names}
    # With "=", so that a value may begin with a dash (--json -).
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]


def _available(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
