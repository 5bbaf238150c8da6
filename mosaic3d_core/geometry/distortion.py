"""Lens distortion: where a ray of the ideal pinhole camera lands on the real sensor, and back.

Coordinates are normalised (x / z, y / z). The models are those of sensor_msgs/CameraInfo:

- ``plumb_bob`` (Brown 1966) and ``rational_polynomial``: D = k1 k2 p1 p2 [k3 [k4 k5 k6]]. With r^2 = x^2 + y^2 and
  s = (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6):
  x' = s x + 2 p1 x y + p2 (r^2 + 2 x^2),  y' = s y + p1 (r^2 + 2 y^2) + 2 p2 x y.
- ``equidistant`` (Kannala and Brandt 2006): D = k1 k2 k3 k4. With t = atan(r):
  (x', y') = (x, y) t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8) / r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError

#: Model -> allowed numbers of coefficients. Drivers send eight under the name plumb_bob, too, and fewer as rational.
MODELS: dict[str, tuple[int, ...]] = {
    "plumb_bob": (4, 5, 8),
    "rational_polynomial": (4, 5, 8),
    "equidistant": (4,),
}
_STEPS = 20
_CONVERGED = 1e-12


@dataclass(frozen=True)
class Distortion:
    """A lens.

    Attributes:
        model: One of :data:`MODELS`.
        coefficients: D of the camera_info.

    Raises:
        FrameError: ``unknown_distortion`` for another model or number of coefficients, ``bad_intrinsics`` for values that are
            not finite.
    """

    model: str
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise FrameError(
                f"The camera_info has distortion model '{self.model[:40]}'; known ones are {', '.join(MODELS)}."
                " Rectify the images, for example with image_proc.",
                "unknown_distortion",
            )
        if len(self.coefficients) not in MODELS[self.model]:
            counts = " or ".join(str(count) for count in MODELS[self.model])
            raise FrameError(
                f"The camera_info has {len(self.coefficients)} distortion coefficients for model '{self.model}'; expected"
                f" {counts}. Rectify the images, for example with image_proc.",
                "unknown_distortion",
            )
        if not np.isfinite(self.coefficients).all():
            raise FrameError("The camera_info has distortion coefficients that are NaN or infinite.", "bad_intrinsics")

    @classmethod
    def from_message(cls, model: str, coefficients: Sequence[float]) -> Distortion | None:
        """Of a camera_info; None where all coefficients are zero, whatever the model is called.

        Coefficients beyond the model's (thin prism, tilt) may be there when they are zero.
        """
        if len(coefficients) > 14:
            raise FrameError(f"The camera_info has {len(coefficients)} distortion coefficients.", "unknown_distortion")
        values = tuple(float(value) for value in coefficients)
        if not any(values):
            return None
        if model in ("plumb_bob", "rational_polynomial") and len(values) > 8 and not any(values[8:]):
            values = values[:8]
        return cls(model, values)

    def distort(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ideal coordinates (N, 2) to those on the sensor (N, 2)."""
        if self.model == "equidistant":
            return _equidistant(points, self.coefficients)[0]
        return _polynomial(points, self._padded)[0]

    def jacobian(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivatives (N, 2, 2) of :meth:`distort`: row = coordinate on the sensor, column = ideal coordinate."""
        if self.model == "equidistant":
            return _equidistant(points, self.coefficients)[1]
        return _polynomial(points, self._padded)[1]

    def undistort(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates on the sensor (N, 2) to ideal ones (N, 2), by Newton's method; NaN where it finds none."""
        wanted = np.asarray(points, np.float64)
        found = self._start(wanted)
        with np.errstate(all="ignore"):
            for _ in range(_STEPS):
                error = self.distort(found) - wanted
                if np.nanmax(np.abs(error), initial=0.0) < _CONVERGED:
                    break
                (a, b), (c, d) = np.moveaxis(self.jacobian(found), 0, -1)
                determinant = a * d - b * c
                step = np.stack([d * error[:, 0] - b * error[:, 1], a * error[:, 1] - c * error[:, 0]], 1)
                found = found - step / determinant[:, None]
            wrong = np.abs(self.distort(found) - wanted).max(axis=1, initial=0.0)
        found[~(wrong < 1e-9)] = np.nan
        return found

    @property
    def _padded(self) -> tuple[float, ...]:
        return self.coefficients + (0.0,) * (8 - len(self.coefficients))

    def _start(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.model != "equidistant":
            return points.copy()
        angle = np.minimum(np.linalg.norm(points, axis=1), 1.5)
        return points * (np.tan(angle) / np.maximum(angle, 1e-12))[:, None]


def _polynomial(p: NDArray[np.float64], k: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    k1, k2, p1, p2, k3, k4, k5, k6 = k
    x, y = p[:, 0], p[:, 1]
    q = x * x + y * y
    above, below = 1 + q * (k1 + q * (k2 + q * k3)), 1 + q * (k4 + q * (k5 + q * k6))
    s = above / below
    ds = ((k1 + q * (2 * k2 + 3 * q * k3)) - s * (k4 + q * (2 * k5 + 3 * q * k6))) / below  # with respect to q
    moved = np.stack([s * x + 2 * p1 * x * y + p2 * (q + 2 * x * x), s * y + p1 * (q + 2 * y * y) + 2 * p2 * x * y], 1)
    cross = 2 * x * y * ds + 2 * p1 * x + 2 * p2 * y
    slopes = np.empty((len(p), 2, 2))
    slopes[:, 0, 0] = s + 2 * x * x * ds + 2 * p1 * y + 6 * p2 * x
    slopes[:, 0, 1] = slopes[:, 1, 0] = cross
    slopes[:, 1, 1] = s + 2 * y * y * ds + 6 * p1 * y + 2 * p2 * x
    return moved, slopes


def _equidistant(p: NDArray[np.float64], k: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    k1, k2, k3, k4 = k
    x, y = p[:, 0], p[:, 1]
    r = np.hypot(x, y)
    t = np.arctan(r)
    w = t * t
    bent = t * (1 + w * (k1 + w * (k2 + w * (k3 + w * k4))))
    slope = (1 + w * (3 * k1 + w * (5 * k2 + w * (7 * k3 + w * 9 * k4)))) / (1 + r * r)  # of the above with respect to r
    near = r < 1e-8
    safe = np.where(near, 1.0, r)
    s = np.where(near, 1.0, bent / safe)
    bend = np.where(near, 0.0, (slope - s) / (safe * safe))  # of s with respect to r, divided by r
    slopes = np.empty((len(p), 2, 2))
    slopes[:, 0, 0], slopes[:, 1, 1] = s + x * x * bend, s + y * y * bend
    slopes[:, 0, 1] = slopes[:, 1, 0] = x * y * bend
    return p * s[:, None], slopes
