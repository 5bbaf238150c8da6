"""Start perception_node, and RViz if asked.

Show the arguments: ros2 launch mosaic3d_ros perception.launch.py --show-args
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

CONFIG = Path(get_package_share_directory("mosaic3d_ros")) / "config"

ARGUMENTS = {
    "params_file": (str(CONFIG / "perception.yaml"), "YAML file with the parameters of perception_node"),
    "namespace": ("", "Namespace of the node and of its relative topics"),
    "use_sim_time": ("false", "Take the time from /clock (bags, simulators)"),
    "rviz": ("false", "Start RViz with the shipped view"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "checkpoint": ("", "Checkpoint file of the 3D encoder; empty = that of params_file"),
    "map_frame": ("", "Fixed frame of the map; empty = that of params_file"),
    "pose_source": ("", "tf, pose (PoseStamped) or odom (Odometry); empty = that of params_file"),
    "rgb": ("rgb/image", "Colour images"),
    "rgb_info": ("rgb/camera_info", "Calibration of the colour camera"),
    "depth": ("depth/image", "Depth images, 16UC1 (mm) or 32FC1 (m)"),
    "depth_info": ("depth/camera_info", "Calibration of the depth camera"),
    "pose": ("pose", "PoseStamped of the depth camera, with pose_source:=pose"),
    "odom": ("odom", "Odometry, with pose_source:=odom"),
    "query_service": ("query_objects", "Name of the query service"),
}

REMAPPINGS = {
    "rgb/image": "rgb",
    "rgb/camera_info": "rgb_info",
    "depth/image": "depth",
    "depth/camera_info": "depth_info",
    "pose": "pose",
    "odom": "odom",
    "query_objects": "query_service",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, with the arguments that were given on top of the parameter file."""
    overrides: dict[str, object] = {"use_sim_time": LaunchConfiguration("use_sim_time").perform(context).lower() == "true"}
    for name in ("checkpoint", "map_frame", "pose_source"):
        value = LaunchConfiguration(name).perform(context)
        if value:
            overrides[name] = value
    node = Node(
        package="mosaic3d_ros",
        executable="perception_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), overrides],
        remappings=[(name, LaunchConfiguration(argument)) for name, argument in REMAPPINGS.items()],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    """Arguments, the Fast DDS profile unless one is set, the node, RViz."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    profile = SetEnvironmentVariable(
        "FASTDDS_DEFAULT_PROFILES_FILE",
        EnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", default_value=str(CONFIG / "fastdds.xml")),
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(CONFIG / "perception.rviz")],
        condition=IfCondition(LaunchConfiguration("rviz")),
        output="screen",
    )
    return LaunchDescription([*declared, profile, OpaqueFunction(function=start), rviz])
