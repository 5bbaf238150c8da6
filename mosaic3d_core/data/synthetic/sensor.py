"""A Kinect-like depth camera and a consumer colour camera, applied to ideal images.

Depth: axial noise that grows with the square of the distance (Khoshelham and Elberink 2012), lateral noise that bleeds edges,
disparity quantisation, holes at grazing angles, on lossy materials, in the shadow of the infrared projector and beyond range.
Colour: white balance and exposure errors, vignetting, blur and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mosaic3d_core.data.synthetic.render import RenderedView
from mosaic3d_core.geometry.camera import PinholeCamera


@dataclass(frozen=True)
class SensorModel:
    """Noise levels; the defaults resemble a Kinect v1. Lengths in metres, angles in radians.

    Attributes:
        axial_noise: Depth noise sigma is this times (0.5 + z^2), z in metres.
        lateral_noise_px: Sigma of the random shift of depth pixels: jagged, bleeding edges.
        quantise: Round depth to the sensor's disparity steps.
        hole_rate: Scale of all hole probabilities; 0 gives a full image.
        projector_shadow: Cast the shadow that the infrared projector's offset leaves beside near objects.
        min_depth: Nearest measurable depth.
        max_depth: Farthest measurable depth.
        white_balance: Sigma of the per-channel gain of a whole sequence.
        exposure: Sigma of the per-frame log-gain.
        color_noise: Sigma of the pixel noise in 8-bit steps.
        pose_noise: Sigma (m) of the error of the reported position.
        pose_noise_rad: Sigma (rad) of the error of the reported orientation.
    """

    axial_noise: float = 0.0016
    lateral_noise_px: float = 0.5
    quantise: bool = True
    hole_rate: float = 1.0
    projector_shadow: bool = True
    min_depth: float = 0.4
    max_depth: float = 6.0
    white_balance: float = 0.04
    exposure: float = 0.05
    color_noise: float = 4.0
    pose_noise: float = 0.002
    pose_noise_rad: float = 0.001

    @classmethod
    def random(cls, rng: np.random.Generator) -> SensorModel:
        """A sensor between clean and poor: what training draws per room."""
        level = float(rng.uniform(0.2, 1.8))
        return cls(
            axial_noise=0.0016 * level,
            lateral_noise_px=float(rng.uniform(0.0, 0.9)),
            quantise=bool(rng.random() < 0.7),
            hole_rate=level,
            projector_shadow=bool(rng.random() < 0.7),
            min_depth=float(rng.uniform(0.3, 0.5)),
            max_depth=float(rng.uniform(4.0, 7.0)),
            white_balance=float(rng.uniform(0.02, 0.12)),
            exposure=float(rng.uniform(0.02, 0.12)),
            color_noise=float(rng.uniform(1.0, 8.0)),
            pose_noise=float(rng.uniform(0.0, 0.006)),
            pose_noise_rad=float(rng.uniform(0.0, 0.003)),
        )


#: Focal length (px) times baseline (m) of the reference sensor: disparity = this / depth.
_DISPARITY_PX_M = 585.0 * 0.075


def noisy_depth(view: RenderedView, camera: PinholeCamera, model: SensorModel, rng: np.random.Generator) -> NDArray[np.float32]:
    """The depth image (H, W) float32 metres, 0 = no return, that the sensor would deliver for an ideal view."""
    h, w = view.depth.shape
    source = view.depth
    rows, cols = np.mgrid[0:h, 0:w]
    if model.lateral_noise_px > 0:
        shift = rng.normal(0, model.lateral_noise_px, (2, h, w))
        r = np.clip(np.rint(rows + shift[0]), 0, h - 1).astype(np.int64)
        c = np.clip(np.rint(cols + shift[1]), 0, w - 1).astype(np.int64)
        depth = source[r, c]
    else:
        depth = source.copy()
    sigma = model.axial_noise * (0.5 + depth**2)
    # neighbouring pixels share a correlation window, so their errors do too
    noise = ndimage.uniform_filter(rng.standard_normal((h, w)).astype(np.float32), 3) * 2.2
    depth = depth + noise * sigma
    if model.quantise:
        with np.errstate(divide="ignore", invalid="ignore"):
            disparity = np.rint(_DISPARITY_PX_M / depth * 8.0) / 8.0
            depth = np.where(source > 0, _DISPARITY_PX_M / disparity, 0.0)
    if model.hole_rate > 0:
        grazing = np.clip((0.22 - view.cos_incidence) / 0.22, 0, 1)
        p = np.clip(model.hole_rate * (view.depth_loss + 0.9 * grazing + 0.002), 0, 1)
        # holes come in blobs
        field = ndimage.gaussian_filter(rng.standard_normal((h, w)).astype(np.float32), 2.0)
        rank = 0.5 * (1 + np.tanh(field / (field.std() + 1e-6) * 0.9))
        depth = np.where(rank < p, 0.0, depth)
    if model.projector_shadow:
        depth = np.where(_shadow(source, camera), 0.0, depth)
    bad = (source <= 0) | (depth < model.min_depth) | (depth > model.max_depth) | ~np.isfinite(depth)
    return np.where(bad, 0.0, depth).astype(np.float32)


def _shadow(depth: NDArray[np.float32], camera: PinholeCamera, baseline_m: float = 0.075) -> NDArray[np.bool_]:
    """Pixels the projector cannot reach: (H, W) bool. The projector stands `baseline_m` to the right of the camera."""
    with np.errstate(divide="ignore"):
        disparity = np.where(depth > 0, camera.fx * baseline_m / np.maximum(depth, 1e-6), 0.0)
    # in the projector's image a point lands at u - disparity: walking left, it is hidden when a nearer point landed further left
    landed = np.arange(depth.shape[1])[None, :] - disparity
    furthest = np.minimum.accumulate(landed[:, ::-1], axis=1)[:, ::-1]
    return (landed > furthest + 1.0) & (depth > 0)


def noisy_color(
    view: RenderedView, gains: NDArray[np.float64], model: SensorModel, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The colour image (H, W, 3) uint8 with the sequence's channel `gains` (3,) and this frame's exposure and noise."""
    h, w = view.depth.shape
    image = view.color.astype(np.float32) * (gains * np.exp(rng.normal(0, model.exposure))).astype(np.float32)
    y, x = np.ogrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    image *= (1 - 0.12 * (x**2 + y**2)).astype(np.float32)[..., None]
    image = ndimage.uniform_filter(image, (2, 2, 1))
    image += rng.standard_normal(image.shape, dtype=np.float32) * model.color_noise
    return np.clip(image, 0, 255).astype(np.uint8)
