"""What a proposal scorer learns from: sets of voxels of generated scenes, and how well each fits a true object."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from mosaic3d_core.data.caption_dataset import scene_snapshot
from mosaic3d_core.data.caption_files import write_atomically
from mosaic3d_core.data.scene_folder import read_instances, read_scene_folder
from mosaic3d_core.models.proposal_scorer.views import Surroundings
from mosaic3d_core.models.scene_encoder import FeatureMap, SceneEncoder
from mosaic3d_core.query.proposal_judge import JudgeConfig, cuts_of, surroundings_of
from mosaic3d_core.query.proposals import ProposalSource

#: Smaller true objects are not looked at, encoder voxels.
_LEAST = 8
_ARRAYS = ("features", "positions", "cells", "ends", "overlaps", "proposed")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Sets of voxels of one scene.

    Attributes:
        features: Voxel features before the encoder's head. Shape (V, C), float16.
        positions: Mean position of each voxel's points, metres, z up. Shape (V, 3), float32.
        cells: Rows of the voxels of all candidates, one after the other. Shape (S,), int32.
        ends: Where each ends in `cells`. Shape (P,), int64.
        overlaps: Intersection over union with the best true object. Shape (P,), float32.
        proposed: Whether it was proposed, or is a part of what was; the others are made of true objects. Shape (P,), bool.
    """

    features: NDArray[np.float16]
    positions: NDArray[np.float32]
    cells: NDArray[np.int32]
    ends: NDArray[np.int64]
    overlaps: NDArray[np.float32]
    proposed: NDArray[np.bool_]

    def rows(self, number: int) -> NDArray[np.int64]:
        """Rows of the voxels of a candidate, ascending."""
        first = self.ends[number - 1] if number else 0
        return self.cells[first : self.ends[number]].astype(np.int64)


@dataclass(frozen=True)
class CandidateMaker:
    """Makes the candidates of scenes.

    Attributes:
        encoder: The frozen encoder.
        sources: What proposes.
        segment: File of the classes in each scene's folder.
        instance: File of the instances.
        stuff: Classes that are no objects.
        no_instance: The id that means none.
    """

    encoder: SceneEncoder
    sources: tuple[ProposalSource, ...]
    segment: str
    instance: str
    stuff: frozenset[int]
    no_instance: int

    def make(self, folder: Path) -> Candidates:
        """Candidates of one scene: proposals, true objects, both cut in two and three, and true neighbours taken for one."""
        feature_map = self.encoder.encode(scene_snapshot(read_scene_folder(folder, None)))
        surroundings = surroundings_of(feature_map)
        owner = self._owners(folder, feature_map)
        sets: list[NDArray[np.int64]] = []
        for source in self.sources:
            sets += _with_cuts([one.cells for one in source.propose(feature_map)], surroundings)
        proposed = len(sets)
        objects = {int(number): np.flatnonzero(owner == number) for number in np.unique(owner) if number >= 0}
        objects = {number: cells for number, cells in objects.items() if len(cells) >= _LEAST}
        sets += _with_cuts(list(objects.values()), surroundings)
        sets += _neighbours(list(objects.values()), surroundings.positions)
        sizes = np.bincount(owner[owner >= 0])
        return Candidates(
            feature_map.features.astype(np.float16),
            surroundings.positions,
            np.concatenate([np.zeros(0, np.int64), *sets]).astype(np.int32),
            np.cumsum([len(cells) for cells in sets], dtype=np.int64),
            np.array([_overlap(owner[cells], sizes) for cells in sets], np.float32),
            np.arange(len(sets)) < proposed,
        )

    def _owners(self, folder: Path, feature_map: FeatureMap) -> NDArray[np.int64]:
        """The object that most points of each encoder voxel belong to, -1 for none. Shape (V,)."""
        truth = read_instances(folder, self.segment, self.instance)
        none = (truth.instance == self.no_instance) | (truth.segment < 0) | np.isin(truth.segment, list(self.stuff))
        numbers, instance = np.unique(np.where(none, -1, truth.instance), return_inverse=True)
        pairs, counts = np.unique(feature_map.voxel_of_point * len(numbers) + instance, return_counts=True)
        order = np.argsort(counts, kind="stable")  # of a voxel's entries the one with the most points is written last
        owner = np.full(len(feature_map.cells), -1, np.int64)
        owner[pairs[order] // len(numbers)] = numbers[pairs[order] % len(numbers)]
        return owner


def candidates_of(folders: Sequence[Path], maker: CandidateMaker, out: Path, what: str) -> list[Candidates]:
    """Candidates of scenes, kept in a folder: what is there already is not made again, unless the scene was written anew.

    Args:
        folders: Scene folders.
        maker: Makes them.
        out: Folder for the files; they are read through memory maps.
        what: Heading of the progress bar.
    """
    found = []
    for folder in track(folders, what):
        target = out / _name(folder)
        if not (target / f"{_ARRAYS[-1]}.npy").exists():  # written last
            made = maker.make(folder)
            target.mkdir(parents=True, exist_ok=True)
            for key in _ARRAYS:
                value = getattr(made, key)
                write_atomically(target / f"{key}.npy", lambda p, value=value: np.save(p, value, allow_pickle=False))  # type: ignore[misc]
        found.append(Candidates(*(np.load(target / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in _ARRAYS)))
    return found


def _name(folder: Path) -> str:
    """A name for a scene as it was written; `coord.npy` is what is written last."""
    written = f"{folder.resolve()} {(folder / 'coord.npy').stat().st_mtime_ns}"
    return f"{folder.name}-{hashlib.sha256(written.encode()).hexdigest()[:8]}"


def _with_cuts(sets: list[NDArray[np.int64]], surroundings: Surroundings) -> list[NDArray[np.int64]]:
    config = JudgeConfig()
    cut = [part for cells in sets for parts in cuts_of(cells, surroundings.positions, config) for part in parts]
    return [*sets, *cut]


def _neighbours(objects: list[NDArray[np.int64]], positions: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    """Each object together with the nearest other one."""
    if len(objects) < 2:
        return []
    centers = np.stack([positions[cells].mean(0) for cells in objects])
    distance = np.linalg.norm(centers[:, None] - centers, axis=-1)
    np.fill_diagonal(distance, np.inf)
    return [np.union1d(cells, objects[int(nearest)]) for cells, nearest in zip(objects, distance.argmin(1), strict=True)]


def _overlap(owner: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    """Largest intersection over union of a set of voxels, of which the owners are given (M,), with an object."""
    shared = np.bincount(owner[owner >= 0], minlength=len(sizes))
    return float((shared / np.maximum(len(owner) + sizes - shared, 1)).max(initial=0.0))
