#!/usr/bin/env bash
# Runs a command in the environment of ROS and of the built workspace.
set -e
# shellcheck disable=SC1090,SC1091
source "/opt/ros/${ROS_DISTRO}/setup.bash"
# shellcheck disable=SC1091
source /ws/install/setup.bash
# Large images and clouds need more shared memory than Fast DDS takes by itself; the camera driver needs the same profile.
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-/ws/install/mosaic3d_ros/share/mosaic3d_ros/config/fastdds.xml}"
exec "$@"
