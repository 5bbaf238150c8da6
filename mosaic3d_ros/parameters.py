"""Parameters of the nodes: one table with description, unit and range for each.

Parameters of the map (``map.*``), of queries (``query.*``), of proposals (``proposals.*``) and of instances (``instances.*``) are
the fields of the core's config classes: those own the defaults and their documentation, nothing is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from mosaic3d_core.mapping import VoxelMapConfig
from mosaic3d_core.mapping.config import FIXED_SETTINGS
from mosaic3d_core.query import InstanceMapConfig, QueryConfig
from mosaic3d_core.query.proposals import ProposalConfig


@dataclass(frozen=True)
class ParameterSpec:
    """One declared parameter.

    Attributes:
        name: As in the YAML file.
        default: Value where none is given; its type is the parameter's type.
        description: What it means, with the unit.
        low: Smallest allowed number, or None.
        high: Largest allowed number, or None.
        choices: Allowed words; empty = any.
        dynamic: True if it may be changed while the node runs.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """The descriptor that `ros2 param describe` shows."""
        descriptor = ParameterDescriptor(description=self.description, read_only=not self.dynamic)
        if self.choices:
            descriptor.additional_constraints = "one of: " + ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(self.low), to_value=float(self.high))]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high))]
        return descriptor


PERCEPTION: tuple[ParameterSpec, ...] = (
    ParameterSpec(
        "autostart",
        True,
        "Configure and activate at the start; false waits for a lifecycle manager or `ros2 lifecycle set`.",
    ),
    ParameterSpec("map_frame", "map", "Fixed frame of the map (z up); outputs are in this frame."),
    ParameterSpec(
        "pose_source",
        "tf",
        "Where camera poses come from: TF at the image stamp, PoseStamped on 'pose', Odometry on 'odom', or 'static_pose'.",
        choices=("tf", "pose", "odom", "static"),
    ),
    ParameterSpec(
        "pose_child_frame",
        "",
        "Frame whose pose comes on 'pose', which does not say so itself; empty = that of the depth images.",
    ),
    ParameterSpec(
        "static_pose",
        [0.0],
        "Pose of the depth camera (optical frame) in the map frame with pose_source = static: x y z qx qy qz qw, metres; for "
        "several cameras one after the other. [0.0] = not set.",
    ),
    ParameterSpec(
        "cameras",
        [""],
        "Names of the cameras; each has topics NAME/rgb/image, NAME/depth/image and so on. [''] = one camera without a name.",
    ),
    ParameterSpec(
        "rgb_transport",
        "raw",
        "How colour images come, as image_transport names it: raw, or compressed (JPEG, PNG) on rgb/image/compressed.",
        choices=("raw", "compressed"),
    ),
    ParameterSpec(
        "depth_transport",
        "raw",
        "How depth images come: raw, compressed (16-bit PNG) on depth/image/compressed, or compressedDepth (PNG, RVL) on "
        "depth/image/compressedDepth.",
        choices=("raw", "compressed", "compressedDepth"),
    ),
    ParameterSpec(
        "images_are",
        "auto",
        "Whether the distortion in camera_info is still to be undone (raw) or not (rectified); auto = rectified where the word "
        "rect is in the resolved name of the image topic, as in image_rect_color.",
        choices=("auto", "rectified", "raw"),
    ),
    ParameterSpec(
        "T_color_depth",
        [0.0],
        "Fixed transform that maps points of the depth camera to the colour camera: x y z qx qy qz qw, metres; for several "
        "cameras one after the other. [0.0] = from TF between the frames of the images.",
    ),
    ParameterSpec("checkpoint", "", "Checkpoint file of the 3D encoder; empty = the one that comes with the package."),
    ParameterSpec("condition", "", "Condition of a checkpoint trained on several datasets, such as ScanNet; empty = its first."),
    ParameterSpec("device", "cpu", "Where the 3D encoder runs: cpu, or a CUDA device such as cuda or cuda:0."),
    ParameterSpec(
        "decoder",
        "",
        "Mask decoder that proposes objects beside connected voxels of the same concept: a file, or 'components' for the latter "
        "alone; empty = the one that comes with the package where it belongs to the encoder, else components.",
    ),
    ParameterSpec(
        "decoder_queries",
        0,
        "Objects that the mask decoder looks for in a map, from places far from each other; more find more and take longer. "
        "0 = the decoder's own number (150 for the one that comes with the package).",
        0,
        5000,
    ),
    ParameterSpec("encoder_threads", 0, "CPU threads of the encoder; 0 = all cores.", 0, 256),
    ParameterSpec("encode_period_s", 0.5, "Shortest time between two encodings of the map, seconds.", 0.0, 3600.0, dynamic=True),
    ParameterSpec("vocabulary", [""], "Words of the continuous labels; [''] = indoor objects and surfaces."),
    ParameterSpec("sync_slop_s", 0.02, "Largest time between a depth image and its colour image, seconds.", 0.0, 1.0),
    ParameterSpec(
        "sync_queue_size",
        15,
        "Images kept while their partner is awaited, per topic, and pairs kept until both calibrations have come.",
        1,
        1000,
    ),
    ParameterSpec("image_queue_size", 30, "Images the middleware keeps while the node is busy, per topic.", 1, 1000),
    ParameterSpec(
        "reliable_images",
        False,
        "Always ask for lost images again, which needs reliable publishers; false asks for them where all publishers of a topic "
        "are reliable, and connects to every publisher.",
    ),
    ParameterSpec("pose_timeout_s", 1.0, "Longest wait of a frame for its pose, seconds.", 0.0, 60.0),
    ParameterSpec(
        "pose_max_gap_s",
        0.5,
        "Largest time between two poses or transforms that are interpolated, seconds; none is needed of what stands still.",
        0.0,
        60.0,
    ),
    ParameterSpec("pending_frames", 30, "Frames that may wait for their pose.", 1, 1000),
    ParameterSpec("fusion_queue_size", 30, "Frames that may wait to be fused; the oldest goes first.", 1, 1000),
    ParameterSpec("tf_cache_s", 10.0, "History of transforms and poses, seconds.", 0.1, 3600.0),
    ParameterSpec(
        "jump_back_s",
        0.5,
        "A stamp this much older than the newest means that time started anew, seconds.",
        0.01,
        60.0,
    ),
    ParameterSpec("map_folder", "", "Folder that paths in ~/save_map and ~/load_map may not leave; empty = any path."),
    ParameterSpec("viewer_port", 0, "Port of the 3D view in the browser (docs/viewer.md); 0 = off. Needs viser.", 0, 65535),
    ParameterSpec(
        "viewer_host",
        "127.0.0.1",
        "Address the 3D view listens at: 127.0.0.1 is seen from this machine only, 0.0.0.0 from all that reach it (no password).",
    ),
    ParameterSpec("watchdog_period_s", 5.0, "Time between warnings about inputs that do not come, seconds.", 0.1, 3600.0),
)
"""Parameters of perception_node besides those of the core's config classes."""

PLAYER: tuple[ParameterSpec, ...] = (
    ParameterSpec("sequence", "room:0", "Folder or bag with posed RGB-D frames, or room:SEED for a generated room."),
    ParameterSpec(
        "sequence_options",
        [""],
        "Options of the reader as NAME=VALUE; for a generated room for example frames=60, width=320, height=240.",
    ),
    ParameterSpec("rate", 30.0, "Frames per second.", 0.1, 1000.0),
    ParameterSpec("loop", False, "Start anew after the last frame."),
    ParameterSpec("max_frames", 0, "Frames per round; 0 = all.", 0, 10_000_000),
    ParameterSpec("preload", True, "Read all frames into memory before the first is published."),
    ParameterSpec("map_frame", "map", "Parent of the camera in TF."),
    ParameterSpec("depth_frame", "camera_depth_optical_frame", "Frame of the depth images (z forward)."),
    ParameterSpec(
        "color_frame",
        "camera_color_optical_frame",
        "Frame of the colour images where they are not registered to depth.",
    ),
    ParameterSpec(
        "pose_output",
        "tf",
        "How poses are published: /tf, PoseStamped on 'pose', Odometry on 'odom', or none.",
        choices=("tf", "pose", "odom", "none"),
    ),
    ParameterSpec("camera", "", "Name of the camera, put before its topics; empty = none."),
    ParameterSpec("best_effort", False, "Publish images as best effort, as drivers with the sensor-data habit do."),
    ParameterSpec(
        "rgb_encoding",
        "rgb8",
        "Encoding of the colour images.",
        choices=(
            *("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16"),
            *(f"bayer_{p}8" for p in ("rggb", "grbg", "gbrg", "bggr")),
        ),
    ),
    ParameterSpec(
        "rgb_transport",
        "raw",
        "raw on rgb/image, or jpeg or png on rgb/image/compressed.",
        choices=("raw", "jpeg", "png"),
    ),
    ParameterSpec("depth_encoding", "16UC1", "16UC1 (millimetres) or 32FC1 (metres).", choices=("16UC1", "32FC1")),
    ParameterSpec(
        "depth_transport",
        "raw",
        "raw on depth/image, png on depth/image/compressed, or compressedDepth on depth/image/compressedDepth.",
        choices=("raw", "png", "compressedDepth png", "compressedDepth rvl"),
    ),
    ParameterSpec(
        "distortion_model",
        "plumb_bob",
        "Lens through which the images are seen, with the coefficients in 'distortion'.",
        choices=("plumb_bob", "rational_polynomial", "equidistant"),
    ),
    ParameterSpec("distortion", [0.0], "Coefficients of the lens (D of camera_info); [0.0] = ideal images."),
    ParameterSpec(
        "stamps",
        "now",
        "Stamps of the messages: the present time, or those of the sequence.",
        choices=("now", "sequence"),
    ),
    ParameterSpec("publish_clock", False, "Publish /clock with the stamp of each frame (with stamps = sequence)."),
    ParameterSpec(
        "wait_for_subscribers_s",
        0.0,
        "Wait up to this long for subscribers of both image topics before the first frame, seconds.",
        0.0,
        3600.0,
    ),
)
"""Parameters of rgbd_player."""

_CONFIGS: Mapping[str, type] = {
    "map": VoxelMapConfig,
    "query": QueryConfig,
    "proposals": ProposalConfig,
    "instances": InstanceMapConfig,
}

# Range by field; the config class checks what a range cannot say.
_RANGES: Mapping[str, tuple[float, float]] = {
    "map.voxel_size_m": (0.002, 1.0),
    "map.min_depth_m": (0.0, 100.0),
    "map.max_depth_m": (0.01, 1000.0),
    "map.max_grazing_angle_deg": (0.0, 90.0),
    "map.max_weight": (1, 1_000_000),
    "map.max_voxels": (1, 1_000_000_000),
    "query.min_score": (0.0, 1.0),
    "proposals.min_quality": (0.0, 1.0),
    "proposals.min_cells": (1, 1_000_000),
    "proposals.max_gap_m": (0.0, 100.0),
    "proposals.max_overlap": (0.0, 1.0),
    "instances.min_overlap": (0.001, 1.0),
    "instances.inside": (0.001, 1.0),
    "instances.patience": (1, 1000),
    "instances.vanished": (0.001, 1.0),
    "instances.recent_s": (0.0, 3600.0),
    "instances.keep_gone_s": (0.0, 86_400.0),
    "instances.spurious_misses": (1, 1000),
}


def _attribute_texts(config_class: type) -> dict[str, str]:
    """Texts of the "Attributes:" part of a Google docstring, by name, on one line each."""
    _, _, section = (config_class.__doc__ or "").partition("Attributes:")
    section = re.split(r"\n\s*(?:Raises|Returns|Example):", section)[0]
    texts: dict[str, str] = {}
    name = ""
    names = {field.name for field in fields(config_class)}
    for line in section.splitlines():
        match = re.match(r"\s+(\w+)(?: \(.*?\))?:\s+(.*)", line)
        if match and match.group(1) in names:
            name = match.group(1)
            texts[name] = match.group(2).strip()
        elif name and line.strip():
            texts[name] += " " + line.strip()
    return texts


def specs_of_config(
    prefix: str, config_class: type, dynamic: bool = False, fixed: Collection[str] = ()
) -> tuple[ParameterSpec, ...]:
    """Parameter table of a config dataclass.

    Args:
        prefix: Start of the names ("map" gives "map.voxel_size_m").
        config_class: Dataclass with defaults; None becomes 0.0, as ROS parameters have no optional numbers.
        dynamic: Whether the parameters may change while the node runs.
        fixed: Fields that may not, all the same.
    """
    texts = _attribute_texts(config_class)
    table = []
    for field in fields(config_class):
        name = f"{prefix}.{field.name}"
        default = 0.0 if field.default is None else field.default
        text = texts.get(field.name, field.name.replace("_", " "))
        if field.default is None:
            text += " 0 = not set."
        low, high = _RANGES.get(name, (None, None))
        table.append(ParameterSpec(name, default, text, low, high, dynamic=dynamic and field.name not in fixed))
    return tuple(table)


def perception_specs() -> tuple[ParameterSpec, ...]:
    """All parameters of perception_node."""
    return (
        *PERCEPTION,
        *specs_of_config("map", VoxelMapConfig, dynamic=True, fixed=FIXED_SETTINGS),
        *specs_of_config("query", QueryConfig, dynamic=True),
        *specs_of_config("proposals", ProposalConfig),
        *specs_of_config("instances", InstanceMapConfig, dynamic=True),
    )


def declare(node: Node, specs: Iterable[ParameterSpec]) -> dict[str, Any]:
    """Declare parameters and read them.

    Returns:
        Values by name.

    Raises:
        ValueError: One sentence that names the parameter, where a given value is of the wrong type or out of
            range.
    """
    values: dict[str, Any] = {}
    for spec in specs:
        try:
            values[spec.name] = node.declare_parameter(spec.name, spec.default, spec.descriptor()).value
        except Exception as error:
            raise ValueError(f"Parameter '{spec.name}' ({spec.description}): {error}") from error
        if spec.choices and values[spec.name] not in spec.choices:
            raise ValueError(f"Parameter '{spec.name}' is '{values[spec.name]}'; it must be one of {', '.join(spec.choices)}.")
    return values


def config_from(prefix: str, config_class: type, values: Mapping[str, Any]) -> Any:
    """Config object from parameter values; its own check raises ValueError for impossible combinations."""
    arguments = {}
    for field in fields(config_class):
        value = values[f"{prefix}.{field.name}"]
        arguments[field.name] = None if field.default is None and value == 0 else value
    return config_class(**arguments)


def check(values: Mapping[str, Any]) -> None:
    """Check what the node's values mean together; raises ValueError with a sentence."""
    for prefix, config_class in _CONFIGS.items():
        config_from(prefix, config_class, values)


def merged(values: Mapping[str, Any], changes: Sequence[Parameter]) -> dict[str, Any]:
    """Parameter values after a requested change."""
    return {**values, **{change.name: change.value for change in changes}}
