"""A generated room as a posed RGB-D sequence, the same interface as a recorded one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.synthetic.mesh import rotation_x, rotation_z
from mosaic3d_core.data.synthetic.render import RenderedView, RoomRenderer
from mosaic3d_core.data.synthetic.scene import RoomScene, build_room, room_rng
from mosaic3d_core.data.synthetic.sensor import SensorModel, noisy_color, noisy_depth
from mosaic3d_core.data.synthetic.trajectory import handheld_trajectory
from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.camera import PinholeCamera


@dataclass(frozen=True)
class SequenceConfig:
    """How a room is recorded.

    Attributes:
        frames: Number of frames, >= 1.
        width: Image width in pixels.
        height: Image height in pixels.
        fx_at_640: Focal length in pixels for a 640 px wide image.
        rate_hz: Frames per second, for the stamps.
        turns: Sweeps around the room.
        color_baseline_m: Distance of the colour camera from the depth camera along x; 0 = colour registered to depth.
        shadows: Render cast shadows.
        threads: Ray-casting threads, 0 = all.
    """

    frames: int = 150
    width: int = 640
    height: int = 480
    fx_at_640: float = 525.0
    rate_hz: float = 10.0
    turns: float = 2.0
    color_baseline_m: float = 0.0
    shadows: bool = True
    threads: int = 0


class SyntheticSequence:
    """Posed RGB-D frames of one generated room; frame i is always the same image.

    Args:
        scene: The room.
        config: How it is recorded.
        sensor: Noise; None = the default Kinect-like one.
        seed: Seed of trajectory and noise.
    """

    def __init__(self, scene: RoomScene, config: SequenceConfig, sensor: SensorModel | None, seed: tuple[int, str]) -> None:
        if config.frames < 1:
            raise ValueError(f"a sequence needs at least one frame, got frames={config.frames}")
        self.scene, self.config = scene, config
        self.sensor = sensor if sensor is not None else SensorModel()
        self.name = f"room-{scene.name}"
        self.gravity_up: NDArray[np.float64] | None = np.array([0.0, 0.0, 1.0])
        self.skipped: dict[str, int] = {}
        self._seed = seed
        scale = config.width / 640.0
        fx = config.fx_at_640 * scale
        self.camera = PinholeCamera(fx, fx, (config.width - 1) / 2, (config.height - 1) / 2, config.width, config.height)
        rng = room_rng(*seed, stream=1)
        self.poses = handheld_trajectory(scene, config.frames, rng, config.turns)
        self._gains = 1 + rng.normal(0, self.sensor.white_balance, 3)
        self._renderer: RoomRenderer | None = None
        self._last_view: tuple[int, RenderedView] | None = None

    @property
    def renderer(self) -> RoomRenderer:
        """The ray caster of the room, built on first use."""
        if self._renderer is None:
            self._renderer = RoomRenderer(self.scene, self.config.shadows, self.config.threads)
        return self._renderer

    def __len__(self) -> int:
        return self.config.frames

    def __iter__(self) -> Iterator[RGBDFrame]:
        for i in range(len(self)):
            yield self[i]

    def ideal_view(self, index: int) -> RenderedView:
        """The noise-free view of frame `index`, with labels; the last one is kept, for who wants a frame and its labels."""
        if self._last_view is None or self._last_view[0] != index:
            self._last_view = index, self.renderer.render(self.camera, self.poses[index])
        return self._last_view[1]

    def color_view(self, index: int) -> RenderedView:
        """The noise-free view of the colour camera, which stands beside the depth camera or is the same."""
        T_color_depth = self._offset_of_color()
        if T_color_depth is None:
            return self.ideal_view(index)
        return self.renderer.render(self.camera, self.poses[index] @ np.linalg.inv(T_color_depth))

    def _offset_of_color(self) -> NDArray[np.float64] | None:
        if not self.config.color_baseline_m:
            return None
        T_color_depth = np.eye(4)
        T_color_depth[0, 3] = -self.config.color_baseline_m
        return T_color_depth

    def __getitem__(self, index: int) -> RGBDFrame:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of a sequence of {len(self)}")
        rng = room_rng(*self._seed, stream=1000 + index)
        view = self.ideal_view(index)
        depth = noisy_depth(view, self.camera, self.sensor, rng)
        T_color_depth = self._offset_of_color()
        color_camera = None if T_color_depth is None else self.camera
        color = noisy_color(view if T_color_depth is None else self.color_view(index), self._gains, self.sensor, rng)
        return RGBDFrame(
            stamp_ns=int(1_000_000_000 + index / self.config.rate_hz * 1e9),
            color=color,
            depth=depth,
            depth_camera=self.camera,
            T_world_camera=self._reported_pose(index, rng),
            color_camera=color_camera,
            T_color_depth=T_color_depth,
        )

    def _reported_pose(self, index: int, rng: np.random.Generator) -> NDArray[np.float64]:
        pose = self.poses[index].copy()
        tilt = rotation_x(rng.normal(0, self.sensor.pose_noise_rad)) @ rotation_z(rng.normal(0, self.sensor.pose_noise_rad))
        pose[:3, :3] = pose[:3, :3] @ tilt
        pose[:3, 3] += rng.normal(0, self.sensor.pose_noise, 3)
        return pose


def open_room(
    seed: int, split: str = "test", kind: str | None = None, sensor: SensorModel | None = None, **options: float
) -> SyntheticSequence:
    """Generate room `seed` of a split and the recording of it.

    Args:
        seed: Room seed, >= 0.
        split: "train", "val" or "test"; rooms of different splits never coincide.
        kind: Room kind ("kitchen", ...), random when None.
        sensor: Noise model, default Kinect-like.
        **options: Fields of `SequenceConfig`.

    Raises:
        ValueError: For an unknown split, kind or option value.
    """
    return SyntheticSequence(build_room(seed, split, kind), SequenceConfig(**options), sensor, (seed, split))  # type: ignore[arg-type]
