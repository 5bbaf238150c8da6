"""The launch files: they compile everywhere, and describe themselves where launch is installed."""

import runpy
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
FILES = sorted(LAUNCH.glob("*.launch.py"))


def test_both_launch_files_are_there():
    assert [file.name for file in FILES] == ["demo.launch.py", "perception.launch.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_launch_file_compiles(file):
    compile(file.read_text(encoding="utf-8"), str(file), "exec")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_argument_has_a_description(file):
    pytest.importorskip("launch_ros.actions", reason="launch and launch_ros come with a ROS 2 installation")
    description = runpy.run_path(str(file))["generate_launch_description"]()
    arguments = description.get_launch_arguments()
    names = {argument.name for argument in arguments}
    assert all(argument.description and argument.description != "no description given" for argument in arguments)
    wanted = {"namespace", "rviz", "checkpoint", "log_level"}
    if file.name.startswith("perception"):
        wanted |= {"params_file", "use_sim_time", "rgb", "depth", "rgb_info", "depth_info", "map_frame", "pose_source"}
    assert wanted <= names
