"""Play a generated room (or a recorded sequence) into perception_node, and show it in RViz.

Ask while it runs: ros2 service call /query_objects mosaic3d_msgs/srv/QueryObjects "{texts: ['a place to sit']}"
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = Path(get_package_share_directory("mosaic3d_ros"))

ARGUMENTS = {
    "sequence": ("room:7", "Generated room (room:SEED), or a folder or bag with posed RGB-D frames"),
    "rate": ("15.0", "Frames per second"),
    "loop": ("true", "Start anew after the last frame"),
    "rviz": ("false", "Start RViz with the shipped view"),
    "namespace": ("", "Namespace of both nodes"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "checkpoint": ("", "Checkpoint file of the 3D encoder; empty = the one that comes with the package"),
    "viewer_port": ("", "Port of the 3D view in the browser; empty = no view"),
}


def generate_launch_description() -> LaunchDescription:
    """perception.launch.py with a player in front of it."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    forwarded = ("rviz", "namespace", "log_level", "checkpoint", "viewer_port")
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "perception.launch.py")),
        launch_arguments={name: LaunchConfiguration(name) for name in forwarded}.items(),
    )
    player = Node(
        package="mosaic3d_ros",
        executable="rgbd_player",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {
                "sequence": LaunchConfiguration("sequence"),
                "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
                "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
                "wait_for_subscribers_s": 60.0,
            }
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return LaunchDescription([*declared, perception, player])
