"""Where the masks of an evaluation come from: another program, or a mask decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.mask_file import read_masks
from mosaic3d_core.metrics.instance_ap import MIN_POINTS
from mosaic3d_core.query.mask_classes import ClassedBy, classify_masks, classify_proposals, points_of_proposals
from mosaic3d_core.query.proposals import ProposalSource

if TYPE_CHECKING:
    from training.evaluation import SceneLabels


@dataclass(frozen=True, eq=False)
class NamedMasks:
    """Predicted instances of a scene.

    Attributes:
        masks: Points of each. Shape (P, N).
        labels: Class of each. Shape (P,), int64.
        scores: How sure that is, in [0, 1]. Shape (P,), float.
    """

    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    scores: NDArray[np.floating]


class MaskSource(Protocol):
    """Finds the instances of a scene."""

    def find(self, scene: Path, encoded: SceneLabels) -> NamedMasks:
        """Instances of a scene folder, given what the encoder says of it."""
        ...


@dataclass(frozen=True)
class GivenMasks:
    """Masks of another program, named by the mean class probability of their points.

    Attributes:
        folder: Folder of SCENE.npz files (see `mask_file`).
    """

    folder: Path

    def file_of(self, scene: Path) -> Path:
        """File of a scene's masks."""
        return self.folder / f"{scene.name}.npz"

    def find(self, scene: Path, encoded: SceneLabels) -> NamedMasks:
        """Masks of a scene with their classes.

        Raises:
            Mosaic3DError: If the file is missing, damaged or does not fit the scene.
        """
        assert encoded.logits is not None
        masks = read_masks(self.file_of(scene), len(encoded.voxel_of_point))
        return NamedMasks(masks, *classify_masks(encoded.logits, encoded.voxel_of_point, masks))


@dataclass(frozen=True, eq=False)
class DecoderMasks:
    """Masks of a mask decoder: probability of being an object x mean probability of its mask x probability of its class.

    Attributes:
        source: Finds the objects of an encoded scene.
        texts: Unit embedding of each class. Shape (K, D).
        by: What names an object.
    """

    source: ProposalSource
    texts: NDArray[np.float32]
    by: ClassedBy = "embedding"

    def find(self, scene: Path, encoded: SceneLabels) -> NamedMasks:
        """Objects of a scene with their classes; those too small to be scored are left out, for there may be thousands.

        Raises:
            ValueError: If the objects cannot be named in the chosen way.
        """
        features = encoded.features
        assert features is not None
        proposals = self.source.propose(features)
        masks, rows = points_of_proposals(proposals, encoded.voxel_of_point, len(features.cells), MIN_POINTS)
        kept = [proposals[row] for row in rows]
        labels, scores = classify_proposals(kept, features, self.texts, self.by)
        return NamedMasks(masks, labels, scores * np.array([one.quality for one in kept], np.float64))
