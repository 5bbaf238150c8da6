"""What a scorer sees of a proposal: some of its voxels and of those around it, in the frame of its smallest upright box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mosaic3d_core.models.proposal_scorer.config import ScorerConfig

#: Numbers in `View.summary`.
SUMMARY = 8
_TURN = np.deg2rad(np.arange(0, 90, 5))
_COSINES, _SINES = np.cos(_TURN).astype(np.float32), np.sin(_TURN).astype(np.float32)
# The smallest box hardly changes with more voxels.
_BOX_VOXELS = 1_000
_SCALE = 2.0  # half a metre counts as much as one deviation of a feature
_LARGEST_LOG = 8.0  # scales logarithms of counts to about 1


@dataclass(frozen=True, eq=False)
class View:
    """A proposal as the scorer sees it.

    Attributes:
        rows: Rows of the voxels, those of the proposal first. Shape (N,), int64, 0 where there is none.
        places: From the centre of the smallest upright box along its long and its short side and up, metres, and the height above
            the floor. Shape (N, 4), float32; the first three twice the metres.
        inside: 1 in the proposal, 0 around it, -1 nothing. Shape (N,), int8.
        summary: Voxels inside and around (logarithms), length, width, height and lowest point above the floor (metres), shares of
            its box from above and in space that are filled. Shape (8,), float32.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.float32]
    inside: NDArray[np.int8]
    summary: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels of a map: rows (M,), int64, of which their features are, and positions (M, 3), metres."""

    rows: NDArray[np.int64]
    positions: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.int64], positions: NDArray[np.float32]) -> Voxels:
        """Voxels where they stand; positions (V, 3) of all."""
        return cls(rows, positions[rows])

    def some(self, most: int, rng: np.random.Generator | None) -> Voxels:
        """At most so many of them: evenly chosen, or drawn."""
        count = len(self.rows)
        if count <= most:
            return self
        drawn = np.arange(most) * count // most if rng is None else rng.choice(count, most, replace=False, shuffle=False)
        return Voxels(self.rows[drawn], self.positions[drawn])


class Surroundings:
    """The voxels of a map, ordered for finding those around something.

    Args:
        positions: Mean position of each encoder voxel's points, metres, z up. Shape (V, 3).
        cell_size_m: Edge of an encoder voxel, metres.
    """

    def __init__(self, positions: NDArray[np.float32], cell_size_m: float) -> None:
        self.positions, self.cell_size_m = np.ascontiguousarray(positions, np.float32), cell_size_m
        self._order = np.argsort(self.positions[:, 0], kind="stable")
        self._sorted = np.ascontiguousarray(self.positions[self._order])
        self._mark = np.zeros(len(positions), bool)
        self._floor_m = float(np.percentile(self.positions[:, 2], 1)) if len(positions) else 0.0

    def view(self, cells: NDArray[np.int64], config: ScorerConfig, rng: np.random.Generator | None = None) -> View:
        """What there is to see of a proposal.

        Args:
            cells: Rows of its voxels, ascending, at least one. Shape (M,).
            config: How much is looked at.
            rng: Draws voxels and mirrors the view (training); None for an even choice.
        """
        around = self.around(cells, config.margin_m)
        return self.view_of(Voxels.of(cells, self.positions), Voxels.of(around, self.positions), config, rng)

    def view_of(self, own: Voxels, around: Voxels, config: ScorerConfig, rng: np.random.Generator | None = None) -> View:
        """What there is to see of voxels that need not stand where the map has them; see :meth:`view`."""
        chosen, others = own.some(config.inside, rng), around.some(config.around, rng)
        size = config.inside + config.around
        rows, inside = np.zeros(size, np.int64), np.full(size, -1, np.int8)
        places = np.zeros((size, 4), np.float32)
        axes = box_axes(own.positions)
        turned = _turned(own.positions, axes)
        low, high = turned.min(0), turned.max(0)
        for first, part, mark in ((0, chosen, 1), (config.inside, others, 0)):
            there = slice(first, first + len(part.rows))
            rows[there], inside[there] = part.rows, mark
            moved = _turned(part.positions, axes)
            places[there, :3] = _SCALE * (moved - (low + high) / 2)
            places[there, 3] = moved[:, 2] - self._floor_m
        if rng is not None:
            places[:, :2] *= rng.choice(np.array([-1, 1], np.float32), 2)
        return View(rows, places, inside, self._summary(turned, low, high - low, len(around.rows)))

    def around(self, cells: NDArray[np.int64], margin_m: float) -> NDArray[np.int64]:
        """Rows of the voxels in the box of some others (M,), enlarged by a margin, without these."""
        own = self.positions[cells]
        low, high = own.min(0) - np.float32(margin_m), own.max(0) + np.float32(margin_m)
        first, last = np.searchsorted(self._sorted[:, 0], low[0]), np.searchsorted(self._sorted[:, 0], high[0], "right")
        self._mark[cells] = True
        found = _within(self._sorted, self._order, self._mark, int(first), int(last), low, high)
        self._mark[cells] = False
        return found

    def _summary(self, turned: NDArray[np.float32], low: NDArray[np.float32], size: NDArray[np.float32], around: int) -> NDArray:
        edge = self.cell_size_m
        columns = np.floor((turned[:, :2] - low[:2]) / edge).astype(np.int64) @ np.array([1, 1 << 32])
        covered = len(np.unique(columns)) * edge**2 / float(np.prod(size[:2] + edge))
        filled = len(turned) * edge**3 / float(np.prod(size + edge))
        counts = np.log(len(turned)) / _LARGEST_LOG, np.log1p(around) / _LARGEST_LOG
        return np.array([*counts, *size, low[2] - self._floor_m, covered, filled], np.float32)


def _turned(positions: NDArray[np.float32], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([positions[:, :2] @ axes.T, positions[:, 2:]], 1)


def box_axes(positions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Long and short side of the smallest upright box, to five degrees, as rows (2, 2)."""
    step = -(-len(positions) // _BOX_VOXELS)
    turn, along_y = _smallest_box(np.ascontiguousarray(positions[::step, :2]), _COSINES, _SINES)
    cosine, sine = _COSINES[turn], _SINES[turn]
    along, across = np.array([cosine, sine]), np.array([-sine, cosine])
    return np.stack([across, -along] if along_y else [along, across])


@njit(cache=True, nogil=True)
def _smallest_box(points: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> tuple[int, bool]:  # pragma: no cover - compiled
    best, found, along_y = np.inf, 0, False
    for k in range(len(cosines)):
        c, s = cosines[k], sines[k]
        low_u = low_v = np.inf
        high_u = high_v = -np.inf
        for i in range(len(points)):
            u, v = points[i, 0] * c + points[i, 1] * s, points[i, 1] * c - points[i, 0] * s
            low_u, high_u = min(low_u, u), max(high_u, u)
            low_v, high_v = min(low_v, v), max(high_v, v)
        length, width = high_u - low_u, high_v - low_v
        # two slats of no width would otherwise have boxes of the same size, none, in every direction
        area = (length + 0.03) * (width + 0.03)
        if area < best:
            best, found, along_y = area, k, width > length
    return found, along_y


@njit(cache=True, nogil=True)
def _within(
    points: np.ndarray, order: np.ndarray, left_out: np.ndarray, first: int, last: int, low: np.ndarray, high: np.ndarray
) -> np.ndarray:  # pragma: no cover - compiled
    found = np.empty(last - first, np.int64)
    count = 0
    for i in range(first, last):
        y, z = points[i, 1], points[i, 2]
        if low[1] <= y <= high[1] and low[2] <= z <= high[2] and not left_out[order[i]]:
            found[count] = order[i]
            count += 1
    return found[:count]
