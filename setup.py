"""ROS 2 (ament_python) side of the package; metadata and dependencies are in pyproject.toml.

Name, version and entry points stand here because setuptools before version 61 (ROS 2 Humble) does not read
[project]."""

import re
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "mosaic3d_ros"
VERSION = re.search(r"<version>(.+)</version>", Path("package.xml").read_text(encoding="utf-8")).group(1)

setup(
    name=PACKAGE,
    version=VERSION,
    license="Apache-2.0",
    # Here and not in pyproject.toml: from there setuptools makes an object of it that colcon cannot read.
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["mosaic3d_core*", "mosaic3d_ros*"]),
    package_data={"mosaic3d_core": ["assets/*", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{PACKAGE}/config", sorted(p for p in glob("config/*") if Path(p).is_file())),
        (f"share/{PACKAGE}/config/presets", sorted(glob("config/presets/*.yaml"))),
    ],
    entry_points={
        "console_scripts": [
            "perception_node = mosaic3d_ros.perception_node:main",
            "rgbd_player = mosaic3d_ros.rgbd_player:main",
            "mosaic3d = mosaic3d_core.cli:main",
        ],
    },
)
