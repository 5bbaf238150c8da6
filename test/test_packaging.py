"""What a user builds and installs: manifests, images and workflows name things that are there, and the same versions."""

import ast
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MANIFESTS = [ROOT / "package.xml", ROOT / "mosaic3d_msgs" / "package.xml", ROOT / "scripts" / "tf2_msgs" / "package.xml"]
EXTRA = re.compile(r"\[([a-z,]+)\]")


def table(name):
    """A table of pyproject.toml; Python 3.10 has no reader of its own."""
    reader = importlib.util.find_spec("tomllib") or importlib.util.find_spec("tomli")
    if reader is None:
        pytest.skip("needs tomllib (Python 3.11) or tomli")
    toml = importlib.import_module(reader.name)
    return toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[name]


def manifest(path=MANIFESTS[0]):
    return ElementTree.parse(path).getroot()


def keys(root, *tags):
    return {element.text for tag in tags for element in root.iter(tag)}


# package.xml -------------------------------------------------------------------------------------------------


def test_all_versions_are_the_same():
    assert {manifest(path).findtext("version") for path in MANIFESTS[:2]} == {manifest().findtext("version")}
    assert "version" in table("project")["dynamic"]  # that of setup.py, which reads package.xml
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {manifest().findtext('version')}" in changes


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_manifests_are_valid(path):
    package = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg comes with ROS")
    warnings = []
    parsed = package.parse_package(str(path), warnings=warnings)
    parsed.validate(warnings=warnings)
    assert warnings == []
    assert parsed.package_format == 3
    assert parsed.licenses == ["Apache-2.0"]
    (maintainer,) = parsed.maintainers
    assert re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]+", maintainer.email)  # colcon takes the package for plain Python otherwise


def imported_packages(folder):
    """Names of the packages that the files of a folder import, also those inside functions."""
    found = set()
    for file in folder.rglob("*.py"):
        for statement in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.Import):
                found |= {alias.name.split(".")[0] for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
                found.add(statement.module.split(".")[0])
    return found


def is_ros(package):
    return package.endswith(("_msgs", "_interfaces", "_srvs")) or package in {
        "ament_index_python", "cv_bridge", "diagnostic_updater", "launch", "launch_ros", "message_filters", "rclpy", "tf2_ros",
        "sensor_msgs_py",
    }  # fmt: skip


def test_every_ros_package_that_is_imported_is_a_dependency():
    used = {name for folder in ("mosaic3d_ros", "launch") for name in imported_packages(ROOT / folder) if is_ros(name)}
    assert {"rclpy", "sensor_msgs", "launch_ros", "mosaic3d_msgs"} <= used  # the search finds what it should
    assert used <= keys(manifest(), "depend", "exec_depend")


def test_nothing_is_a_dependency_for_nothing():
    named = {key for key in keys(manifest(), "depend", "exec_depend") if is_ros(key)}
    assert named <= imported_packages(ROOT / "mosaic3d_ros") | imported_packages(ROOT / "launch")


def test_executables_that_the_launch_files_start_are_dependencies():
    text = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "launch").glob("*.py"))
    started = set(re.findall(r'package="(\w+)"', text)) - {"mosaic3d_ros"}
    assert started == {"rviz2"}
    assert '"ros2", "bag", "play"' in text
    assert started | {"ros2bag"} <= keys(manifest(), "exec_depend")


def test_the_interfaces_depend_on_what_their_fields_are():
    fields = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "mosaic3d_msgs").glob("*/*.[ms][sr][gv]"))
    used = set(re.findall(r"^([a-z]\w+)/[A-Z]", fields, re.MULTILINE))
    assert {"geometry_msgs", "std_msgs"} <= used
    assert used <= keys(manifest(MANIFESTS[1]), "depend")
    text = (ROOT / "mosaic3d_msgs" / "CMakeLists.txt").read_text(encoding="utf-8")
    assert used <= set(text.split())


# setup.py and colcon -------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(monkeypatch):
    """What setup.py hands to setuptools."""
    import setuptools

    caught = {}
    monkeypatch.setattr(setuptools, "setup", caught.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return caught


def test_everything_that_a_user_starts_or_loads_is_installed(arguments):
    installed = {file for _, files in arguments["data_files"] for file in files}
    for folder in ("launch", "config", "config/presets"):
        there = {f"{folder}/{file.name}" for file in (ROOT / folder).iterdir() if file.is_file()}
        assert there
        assert there <= installed
    assert ("share/mosaic3d_ros", ["package.xml"]) in arguments["data_files"]


def test_entry_points_lead_to_functions(arguments):
    for point in arguments["entry_points"]["console_scripts"]:
        module, function = point.split(" = ")[1].split(":")
        path = ROOT / Path(*module.split("."))
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        assert re.search(rf"^def {function}\(|import .*\b{function}\b", file.read_text(encoding="utf-8"), re.MULTILINE)


def colcon(*words, **options):
    tool = os.environ.get("COLCON") or shutil.which("colcon")
    if tool is None:
        pytest.skip("needs colcon (pip install colcon-common-extensions); COLCON names it where it is not on the PATH")
    environment = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "PYTHONPATH", "AMENT_PREFIX_PATH")}
    command = [tool, "--log-base", os.devnull, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=True, **options).stdout


@pytest.fixture
def workspace(tmp_path):
    """A workspace with the clone in src, as docs/install.md says."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "mosaic3d").symlink_to(ROOT)
    return tmp_path


def test_colcon_finds_both_packages(workspace):
    command = next(line for line in (ROOT / "docs" / "install.md").read_text("utf-8").splitlines() if "colcon build" in line)
    paths = shlex.split(command.partition("--base-paths")[2])[:2]
    lines = colcon("list", "--base-paths", *paths, cwd=workspace).splitlines()
    assert {tuple(line.split("\t")[::2]) for line in lines} == {
        ("mosaic3d_msgs", "(ros.ament_cmake)"),
        ("mosaic3d_ros", "(ros.ament_python)"),
    }


def test_colcon_builds_the_nodes_for_the_python_on_the_path(workspace):
    colcon("build", "--base-paths", "src", "--packages-select", "mosaic3d_ros", cwd=workspace)
    prefix = workspace / "install" / "mosaic3d_ros"
    for name in ("perception_node", "rgbd_player", "mosaic3d"):
        script = prefix / "lib" / "mosaic3d_ros" / name
        assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")
    share = prefix / "share" / "mosaic3d_ros"
    assert (share / "launch" / "perception.launch.py").is_file()
    assert (share / "config" / "presets" / "zed.yaml").is_file()


# Images ----------------------------------------------------------------------------------------------------------


def instructions(file):
    """(instruction, rest) of a Dockerfile; comments and continued lines are resolved."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


DOCKERFILE = ROOT / "docker" / "Dockerfile"


def test_the_image_copies_and_installs_what_is_there():
    steps = instructions(DOCKERFILE)
    assert {name for name, _ in steps} <= {
        "ARG", "FROM", "SHELL", "RUN", "WORKDIR", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    for name, rest in steps:
        if name == "COPY":
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            assert all((ROOT / source).exists() for source in sources), rest
    extras = set(table("project")["optional-dependencies"])
    named = {one for _, rest in steps for group in EXTRA.findall(rest) if "mosaic3d[" in rest for one in group.split(",")}
    assert named == {"bags", "viewer"}
    assert named <= extras


def test_the_image_has_the_torch_of_the_set_up_and_another_user_than_root():
    steps = instructions(DOCKERFILE)
    pinned = re.search(r'^TORCH = "(.+)"', (ROOT / "scripts" / "setup_env.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert ("ARG", f"TORCH={pinned.group(1)}") in steps
    assert [rest for name, rest in steps if name == "USER"] == ["mosaic3d"]
    after = [name for name, _ in steps][[name for name, _ in steps].index("USER") :]
    assert "RUN" not in after
    assert "COPY" not in after


def test_the_image_is_for_every_distribution_that_the_workflow_builds():
    (first, *_) = instructions(DOCKERFILE)
    assert first == ("ARG", "ROS_DISTRO=jazzy")
    assert workflow()["jobs"]["docker"]["strategy"]["matrix"]["distro"] == ["jazzy", "kilted"]


def test_the_compose_file_shares_network_and_memory_with_the_host():
    service = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"]["perception"]
    build = service["build"]
    assert (ROOT / "docker" / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE
    declared = {rest.split("=")[0] for name, rest in instructions(DOCKERFILE) if name == "ARG"}
    assert set(build["args"]) <= declared
    assert (service["network_mode"], service["ipc"]) == ("host", "host")
    default = re.search(r"\$\{CAMERA:-(\w+)\}", service["command"]).group(1)
    assert (ROOT / "config" / "presets" / f"{default}.yaml").is_file()


@pytest.mark.parametrize("script", ["docker/entrypoint.sh", ".ci/run"])
def test_shell_scripts_can_be_read_by_bash_and_started(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


# Workflow --------------------------------------------------------------------------------------------------------


def workflow():
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))


def commands():
    """(job, one line of a shell step), continued lines joined."""
    for name, job in workflow()["jobs"].items():
        for step in job["steps"]:
            for line in step.get("run", "").replace("\\\n", " ").splitlines():
                yield name, line.strip()


def test_the_workflow_covers_the_distributions_and_the_wheels():
    jobs = workflow()["jobs"]
    assert jobs["ros"]["strategy"]["matrix"]["distro"] == ["humble", "jazzy", "kilted"]
    assert jobs["wheels"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12"]
    assert jobs["ros"]["container"] == "ros:${{ matrix.distro }}-ros-base"


def test_the_workflow_runs_targets_and_files_that_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    seen = set()
    for _, line in commands():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert words[1] in targets
            seen.add("make")
        if words[:3] == ["python", "-m", "pytest"]:
            assert all((ROOT / path).exists() for path in words[3:])
            seen.add("pytest")
        if words[:1] == [".ci/run"]:
            assert (ROOT / words[0]).is_file()
            seen.add("ci")
        if "launch" in words[:2]:
            assert (ROOT / "launch" / words[3]).is_file()
            seen.add("launch")
        for group in EXTRA.findall(line) if "pip install" in line else []:
            assert set(group.split(",")) <= set(table("project")["optional-dependencies"])
            seen.add("pip")
    assert seen == {"make", "pytest", "ci", "launch", "pip"}


def test_the_workflow_builds_as_the_docs_say():
    told = next(line for line in (ROOT / "docs" / "install.md").read_text("utf-8").splitlines() if "colcon build" in line)
    done = [line for job, line in commands() if job == "ros" and line.startswith("colcon build")]
    assert len(done) == 1
    assert done[0].startswith(told.strip())


def test_a_failing_step_fails_its_job():
    for name, job in workflow()["jobs"].items():
        assert "continue-on-error" not in job, name
        assert not any("continue-on-error" in step for step in job["steps"]), name
    assert not any("|| true" in line or "colcon test" in line for _, line in commands())  # colcon test hides failures


# Pages that say what to expect ---------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["QUALITY_DECLARATION.md", "CONTRIBUTING.md", "docs/bags.md", "docs/install.md"])
def test_links_in_pages_lead_to_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link
