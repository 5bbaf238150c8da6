"""The launch files: they compile everywhere; where launch is installed, what they would start is looked at."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from mosaic3d_ros.parameters import perception_specs

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
FILES = sorted(LAUNCH.glob("*.launch.py"))
PRESETS = sorted((ROOT / "config" / "presets").glob("*.yaml"))
IMAGES = ("rgb", "rgb_info", "depth", "depth_info")


def test_both_launch_files_are_there():
    assert [file.name for file in FILES] == ["demo.launch.py", "perception.launch.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_launch_file_compiles(file):
    compile(file.read_text(encoding="utf-8"), str(file), "exec")


# Presets -----------------------------------------------------------------------------------------------------


def test_there_is_a_preset_for_every_camera_that_the_docs_name():
    assert [file.stem for file in PRESETS] == ["azure_kinect", "oak_d", "orbbec", "realsense_d4xx", "simulated", "zed"]


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_a_preset_is_topics_and_parameters_of_the_node_and_says_where_it_was_read(file):
    text = file.read_text(encoding="utf-8")
    preset = yaml.safe_load(text)
    assert set(preset) == {"driver", "topics", "parameters"}
    assert preset["driver"].startswith("ros2 launch ")
    assert "https://" in text
    assert set(preset["topics"]) == set(IMAGES)
    for topic in preset["topics"].values():
        assert re.fullmatch(r"(/[A-Za-z][A-Za-z0-9_]*)+", topic), topic
    specs = {spec.name: spec for spec in perception_specs()}
    for name, value in preset["parameters"].items():
        if name == "use_sim_time":
            assert value is True
            continue
        assert isinstance(value, type(specs[name].default)), name
        assert not specs[name].choices or value in specs[name].choices


# Descriptions, where launch is ---------------------------------------------------------------------------------


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """An installed package as ament finds it: index entry, launch files, config, an executable."""
    pytest.importorskip("launch_ros.actions", reason="launch and launch_ros come with a ROS 2 installation")
    share = tmp_path / "share" / "mosaic3d_ros"
    share.mkdir(parents=True)
    (share / "config").symlink_to(ROOT / "config")
    (share / "launch").symlink_to(LAUNCH)
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "mosaic3d_ros").touch()
    binary = tmp_path / "lib" / "mosaic3d_ros" / "perception_node"
    binary.parent.mkdir(parents=True)
    binary.touch(mode=0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    return tmp_path


def described(name):
    return runpy.run_path(str(LAUNCH / f"{name}.launch.py"))["generate_launch_description"]()


@pytest.mark.parametrize("name", ["demo", "perception"])
def test_every_argument_has_a_description(prefix, name):
    arguments = described(name).get_launch_arguments()
    assert all(argument.description and argument.description != "no description given" for argument in arguments)
    wanted = {"namespace", "rviz", "checkpoint", "log_level", "viewer_port"}
    if name == "perception":
        wanted |= {"params_file", "use_sim_time", "map_frame", "pose_source", "camera", "autostart", "device"}
        wanted |= {*IMAGES, "pose", "odom", "query_service", "bag", "bag_rate", "bag_loop"}
    assert wanted <= {argument.name for argument in arguments}


class Started:
    """What perception.launch.py would start with these arguments."""

    def __init__(self, **arguments):
        from launch.actions import DeclareLaunchArgument, OpaqueFunction

        from launch import LaunchContext

        self.context = LaunchContext()
        self.context.launch_configurations.update(arguments)
        self.entities = []
        for entity in described("perception").entities:
            if isinstance(entity, DeclareLaunchArgument):
                entity.execute(self.context)
            elif isinstance(entity, OpaqueFunction):
                self.entities += entity.execute(self.context)

    def of(self, kind):
        return [entity for entity in self.entities if type(entity).__name__ == kind]

    @property
    def node(self):
        (node,) = self.of("Node") + self.of("LifecycleNode")
        return node

    def remappings(self, node=None):
        text = self.context.perform_substitution
        # what `ros2 launch` hands to the process; private in launch_ros, and the only place where it can be read
        return {text(a[0]): text(b[0]) for a, b in (node or self.node)._Node__remappings or ()}

    def parameters(self):
        from launch_ros.utilities import evaluate_parameters

        file, values = evaluate_parameters(self.context, self.node._Node__parameters)
        return file, values


def test_without_arguments_the_node_has_its_own_names_and_the_shipped_parameters(prefix):
    started = Started()
    file, values = started.parameters()
    assert Path(file) == prefix / "share" / "mosaic3d_ros" / "config" / "perception.yaml"
    assert values == {"use_sim_time": False}
    assert started.remappings() == {}
    assert len(started.entities) == 1


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_a_preset_remaps_the_inputs_and_sets_its_parameters(prefix, file):
    preset = yaml.safe_load(file.read_text(encoding="utf-8"))
    started = Started(camera=file.stem)
    topics = preset["topics"]
    assert started.remappings() == {
        "rgb/image": topics["rgb"],
        "rgb/camera_info": topics["rgb_info"],
        "depth/image": topics["depth"],
        "depth/camera_info": topics["depth_info"],
    }
    assert started.parameters()[1] == {"use_sim_time": False, **preset["parameters"]}
    (hint,) = started.of("LogInfo")
    assert preset["driver"] in "".join(part.perform(started.context) for part in hint.msg)


def test_what_the_user_gives_counts_more_than_the_preset(prefix):
    started = Started(camera="simulated", depth="/other/depth", use_sim_time="false", map_frame="odom", autostart="false")
    assert started.remappings()["depth/image"] == "/other/depth"
    assert started.remappings()["rgb/image"] == "/rgbd_camera/image"
    values = started.parameters()[1]
    assert values == {"images_are": "rectified", "use_sim_time": False, "map_frame": "odom", "autostart": False}


def test_robots_of_a_fleet_can_have_transforms_of_their_own(prefix):
    assert Started(namespace="robot1", namespaced_tf="true").remappings() == {"/tf": "tf", "/tf_static": "tf_static"}


def test_the_viewers_port_and_the_device_become_parameters_only_when_given(prefix):
    assert Started(viewer_port="8080", device="cuda").parameters()[1] == {
        "use_sim_time": False,
        "viewer_port": 8080,
        "device": "cuda",
    }


def test_a_bag_is_played_with_the_clock_once_the_node_is_active(prefix, tmp_path):
    bag = tmp_path / "drive.mcap"
    bag.touch()
    started = Started(bag=str(bag), bag_rate="2", bag_loop="true", use_sim_time="false")
    assert started.parameters()[1]["use_sim_time"] is True  # the stamps of a bag are of another time
    player = started.of("RegisterEventHandler")[0].event_handler.entities[0]
    command = [started.context.perform_substitution(part[0]) for part in player.cmd]
    assert command[:5] == ["ros2", "bag", "play", str(bag), "--clock"]
    assert command[command.index("--rate") + 1] == "2.0"
    assert "--loop" in command
    profile = command[command.index("--qos-profile-overrides-path") + 1]
    assert yaml.safe_load(Path(profile).read_text(encoding="utf-8"))["/tf_static"]["durability"] == "transient_local"
    assert type(started.node).__name__ == "LifecycleNode"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"camera": "kinect3"}, "camera:=kinect3 is no preset: use one of azure_kinect, oak_d"),
        ({"bag": "/nowhere/drive.mcap"}, "bag:=/nowhere/drive.mcap does not exist"),
        ({"viewer_port": "http"}, "viewer_port:=http is not possible: give a number from 0 to 65535"),
        ({"rviz": "maybe"}, 'Argument "rviz" provided value "maybe" is not valid'),
        ({"pose_source": "gps"}, 'Argument "pose_source" provided value "gps" is not valid'),
    ],
)
def test_a_bad_argument_gets_one_sentence(prefix, arguments, sentence):
    with pytest.raises(RuntimeError, match=re.escape(sentence)):
        Started(**arguments)


def test_rviz_has_the_namespace_and_the_remappings_of_the_node(prefix):
    started = Started(rviz="true", namespace="robot1", camera="zed", map_frame="odom")
    viewer = next(entity for entity in started.of("Node") if entity.node_package == "rviz2")
    node = next(entity for entity in started.of("Node") if entity.node_package == "mosaic3d_ros")
    assert started.remappings(viewer) == started.remappings(node) != {}
    assert viewer._Node__node_namespace == node._Node__node_namespace == "robot1"
    words = [started.context.perform_substitution(part[0]) for part in viewer.cmd[1:]]
    assert words[words.index("-f") + 1] == "odom"
