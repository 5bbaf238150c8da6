"""Start perception_node; with it, if asked, the player of a bag and RViz.

Show the arguments: ros2 launch mosaic3d_ros perception.launch.py --show-args
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

CONFIG = Path(get_package_share_directory("mosaic3d_ros")) / "config"
PRESETS = {file.stem: file for file in sorted((CONFIG / "presets").glob("*.yaml"))}
# The player waits this long before each round, so that discovery is over when the first message is sent.
BAG_DELAY_S = 2.0

TRUTH = ["true", "false", "True", "False"]
ARGUMENTS: dict[str, tuple[str, str, list[str] | None]] = {
    "params_file": (str(CONFIG / "perception.yaml"), "YAML file with the parameters of perception_node", None),
    "namespace": ("", "Namespace of the node and of its relative topics", None),
    "namespaced_tf": ("false", "Transforms on tf and tf_static in the namespace, for several robots", TRUTH),
    "use_sim_time": ("", "Take the time from /clock; empty = as the bag or the preset needs it, else false", ["", *TRUTH]),
    "autostart": (
        "",
        "Whether the node configures and activates itself (false: a lifecycle manager does it); empty = that of params_file",
        ["", *TRUTH],
    ),
    "rviz": ("false", "Start RViz with the shipped view", TRUTH),
    "viewer_port": ("", "Port of the 3D view in the browser; empty = that of params_file", None),
    "log_level": ("info", "How much is logged", ["debug", "info", "warn", "error", "fatal"]),
    "device": ("", "Where the 3D encoder runs: cpu, or cuda, cuda:1 ...; empty = that of params_file", None),
    "checkpoint": ("", "Checkpoint file of the 3D encoder; empty = that of params_file", None),
    "map_frame": ("", "Fixed frame of the map; empty = that of params_file", None),
    "pose_source": (
        "",
        "Where poses come from: tf, pose (PoseStamped), odom (Odometry) or static; empty = that of params_file",
        ["", "tf", "pose", "odom", "static"],
    ),
    "camera": ("", f"Preset with topics and parameters of a camera driver: {', '.join(PRESETS)}; empty = none", None),
    "rgb": ("", "Colour images; empty = those of the preset, else rgb/image", None),
    "rgb_info": ("", "Calibration of the colour camera; empty = that of the preset, else rgb/camera_info", None),
    "depth": ("", "Depth images, 16UC1 (mm) or 32FC1 (m); empty = those of the preset, else depth/image", None),
    "depth_info": ("", "Calibration of the depth camera; empty = that of the preset, else depth/camera_info", None),
    "pose": ("pose", "PoseStamped of the camera, with pose_source:=pose", None),
    "odom": ("odom", "Odometry, with pose_source:=odom", None),
    "query_service": ("query_objects", "Name of the query service", None),
    "bag": ("", "Bag that is played once the node is active (ros2 bag play --clock); empty = none", None),
    "bag_rate": ("1.0", "How fast the bag is played, times real time", None),
    "bag_loop": ("false", "Play the bag again and again", TRUTH),
}

# Name in the node -> argument.
IMAGES = {"rgb/image": "rgb", "rgb/camera_info": "rgb_info", "depth/image": "depth", "depth/camera_info": "depth_info"}
NAMES = {"pose": "pose", "odom": "odom", "query_objects": "query_service"}


class Given:
    """The arguments as the user gave them, with the preset behind them.

    Args:
        context: Of the launch.

    Raises:
        RuntimeError: A sentence for a person, if an argument makes no sense.
    """

    def __init__(self, context: LaunchContext) -> None:
        self.values = {name: LaunchConfiguration(name).perform(context).strip() for name in ARGUMENTS}
        self.preset: dict[str, Any] = self._preset()

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def _preset(self) -> dict[str, Any]:
        name = self["camera"]
        if not name:
            return {"topics": {}, "parameters": {}}
        if name not in PRESETS:
            raise RuntimeError(f"camera:={name} is no preset: use one of {', '.join(PRESETS)}, or name the topics with rgb:= ...")
        return dict(yaml.safe_load(PRESETS[name].read_text(encoding="utf-8")))

    def is_true(self, name: str) -> bool:
        """A truth value; empty is false."""
        return self[name].lower() == "true"

    def number(self, name: str, low: float, high: float) -> float:
        """A number within a range."""
        try:
            value = float(self[name])
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise RuntimeError(f"{name}:={self[name]} is not possible: give a number from {low:g} to {high:g}.")
        return value

    def remappings(self) -> list[tuple[str, str]]:
        """Topics and the service: what was given, else what the preset says, else the node's own names."""
        topics = self.preset["topics"]
        images = [(name, self[argument] or topics.get(argument, name)) for name, argument in IMAGES.items()]
        named = images + [(name, self[argument] or name) for name, argument in NAMES.items()]
        if self.is_true("namespaced_tf"):
            named += [("/tf", "tf"), ("/tf_static", "tf_static")]
        return [(name, topic) for name, topic in named if topic != name]

    def parameters(self) -> dict[str, Any]:
        """What goes over the parameter file: the preset, and over it what was given."""
        merged = dict(self.preset["parameters"])
        merged.update({name: self[name] for name in ("checkpoint", "device", "map_frame", "pose_source") if self[name]})
        if self["autostart"]:
            merged["autostart"] = self.is_true("autostart")
        if self["viewer_port"]:
            merged["viewer_port"] = int(self.number("viewer_port", 0, 65535))
        if self["use_sim_time"]:
            merged["use_sim_time"] = self.is_true("use_sim_time")
        if self["bag"]:
            merged["use_sim_time"] = True
        merged.setdefault("use_sim_time", False)
        return merged


def bag_player(given: Given) -> ExecuteProcess:
    """`ros2 bag play` with what a map needs: the clock, a latched /tf_static, and nothing lost at the end."""
    bag = Path(given["bag"]).expanduser()
    if not bag.exists():
        raise RuntimeError(f"bag:={bag} does not exist: give the folder or the .mcap or .db3 file of a ROS 2 bag.")
    command = ["ros2", "bag", "play", str(bag), "--clock", "--delay", str(BAG_DELAY_S)]
    command += ["--rate", str(given.number("bag_rate", 0.001, 1000.0)), "--wait-for-all-acked", "5000"]
    command += ["--qos-profile-overrides-path", str(CONFIG / "bag_qos.yaml"), "--disable-keyboard-controls"]
    if given.is_true("bag_loop"):
        command.append("--loop")
    return ExecuteProcess(cmd=command, name="bag", output="screen")


def bag_ended(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Say how the bag ended; the node goes on."""
    if context.is_shutdown:
        return []
    if event.returncode == 0:
        return [LogInfo(msg="The bag has ended; the map stays and is answered from.")]
    text = f"'ros2 bag play' ended with code {event.returncode}: see its output above; 'ros2 bag info' checks the bag."
    return [LogInfo(msg=text)]


def node_and_bag(given: Given, **node: Any) -> list[LaunchDescriptionEntity]:
    """The node, and the bag from the moment on in which the node takes frames: none is missed while its model loads.

    The node manages itself (parameter autostart); as a LifecycleNode, launch hears of its states.
    """
    player, perception = bag_player(given), LifecycleNode(**node)
    active = OnStateTransition(target_lifecycle_node=perception, goal_state="active", entities=[player], handle_once=True)
    ended = OnProcessExit(target_action=player, on_exit=bag_ended)
    return [RegisterEventHandler(active), RegisterEventHandler(ended), perception]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Everything that depends on the values of the arguments."""
    given = Given(context)
    parameters, remappings = given.parameters(), given.remappings()
    node: dict[str, Any] = {
        "package": "mosaic3d_ros",
        "executable": "perception_node",
        "name": "perception_node",
        "namespace": given["namespace"],
        "parameters": [given["params_file"], parameters],
        "remappings": remappings,
        "arguments": ["--ros-args", "--log-level", given["log_level"]],
        "output": "screen",
    }
    entities: list[LaunchDescriptionEntity] = []
    if "driver" in given.preset and not given["bag"]:
        entities.append(LogInfo(msg=f"Preset {given['camera']} expects the topics of: {given.preset['driver']}"))
    entities += node_and_bag(given, **node) if given["bag"] else [Node(**node)]
    if given.is_true("rviz"):
        entities.append(rviz(given, parameters["use_sim_time"], remappings))
    return entities


def rviz(given: Given, use_sim_time: bool, remappings: list[tuple[str, str]]) -> Node:
    """Start RViz in the node's namespace and with its remappings: relative names in the view then mean the same topics."""
    frame = ["-f", given["map_frame"]] if given["map_frame"] else []
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=given["namespace"],
        parameters=[{"use_sim_time": use_sim_time}],
        remappings=remappings,
        arguments=["-d", str(CONFIG / "perception.rviz"), *frame],
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    """Arguments, the Fast DDS profile unless one is set, and all that :func:`start` makes of the arguments."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
        for name, (default, description, choices) in ARGUMENTS.items()
    ]
    profile = SetEnvironmentVariable(
        "FASTDDS_DEFAULT_PROFILES_FILE",
        EnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", default_value=str(CONFIG / "fastdds.xml")),
    )
    return LaunchDescription([*declared, profile, OpaqueFunction(function=start)])
