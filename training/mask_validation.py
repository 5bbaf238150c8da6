"""Average precision of a mask decoder: of its objects as such, and with the classes that texts give them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mosaic3d_core.data.caption_dataset import scene_snapshot
from mosaic3d_core.data.scene_folder import read_instances, read_scene_folder
from mosaic3d_core.losses.gathering import is_distributed
from mosaic3d_core.metrics.class_lists import ClassList, from_names
from mosaic3d_core.metrics.instance_ap import InstanceEvaluator
from mosaic3d_core.models.mask_decoder import MaskDecoder
from mosaic3d_core.models.scene_encoder import FeatureMap, SceneEncoder
from mosaic3d_core.query.mask_classes import classify_proposals, points_of_proposals
from mosaic3d_core.query.proposals import DecoderProposals, ProposalConfig, ProposalSource
from training.published_maps import check_voxelization, encode_published


@dataclass(frozen=True)
class InstanceSet:
    """Scenes with true instances.

    Attributes:
        scenes: Scene folders.
        classes: The class list.
        segment: File of the classes in each folder.
        instance: File of the instances.
        no_instance: The id that means none.
    """

    scenes: tuple[Path, ...]
    classes: ClassList
    segment: str
    instance: str
    no_instance: int


class MaskValidation:
    """Finds the objects of some scenes and adds up what average precision needs.

    Args:
        data: The scenes.
        encoder: The encoder.
        texts: Unit embedding of each class (K, D).
        config: What becomes of predicted masks.
        keep: Whether to keep the encoded scenes: the encoder does not change while a decoder is trained.
        voxelization: "anchored" or "official".

    Raises:
        Mosaic3DError: If the encoder cannot be fed that way.
    """

    def __init__(
        self,
        data: InstanceSet,
        encoder: SceneEncoder,
        texts: NDArray[np.float32],
        config: ProposalConfig | None = None,
        keep: bool = True,
        voxelization: str = "anchored",
    ) -> None:
        check_voxelization(voxelization, encoder)
        self.voxelization = voxelization
        self.data, self.encoder, self.texts, self.config = data, encoder, texts, config or ProposalConfig()
        self._kept: dict[int, FeatureMap] | None = {} if keep else None
        self._source: ProposalSource | None = None
        self._any, self._named = self._evaluators()

    @property
    def items(self) -> list[tuple[int, int]]:
        """(set, scene) of everything to look at."""
        return [(0, number) for number in range(len(self.data.scenes))]

    def _evaluators(self) -> tuple[InstanceEvaluator, InstanceEvaluator]:
        return InstanceEvaluator(from_names(["thing"])), InstanceEvaluator(self.data.classes)

    def start(self, decoder: MaskDecoder) -> None:
        """Take the decoder as it is."""
        self.start_with(DecoderProposals(decoder, self.config))

    def start_with(self, source: ProposalSource) -> None:
        """Begin with a source of proposals."""
        self._source = source
        self._any, self._named = self._evaluators()

    def add(self, _: int, scene: int) -> None:
        """Find the objects of a scene and compare them with the true ones."""
        assert self._source is not None
        features = self._encoded(scene)
        proposals = self._source.propose(features)
        truth = read_instances(self.data.scenes[scene], self.data.segment, self.data.instance)
        instance = np.where(truth.instance == self.data.no_instance, -1, truth.instance)
        masks = points_of_proposals(proposals, features.voxel_of_point, len(features.cells), min_points=0)[0]
        quality = np.array([one.quality for one in proposals], np.float64)
        # walls and floors are no instances: whatever lies on them is not counted
        stuff = np.isin(truth.segment, list(self.data.classes.not_instances)) | (truth.segment < 0)
        self._any.add(masks, [0] * len(masks), quality, np.where(stuff, -1, 0), instance)
        labels, scores = classify_proposals(proposals, features, self.texts, by="feature")
        self._named.add(masks, labels, scores * quality, truth.segment, instance)

    def finish(self) -> dict[str, float]:
        """Average precision of objects ("ap", "ap50", "ap25"), and with classes ("class_ap", ...), over all processes."""
        self._any, self._named = _of_all_processes(self._any), _of_all_processes(self._named)
        found = {}
        for prefix, evaluator in (("", self._any), ("class_", self._named)):
            scores = evaluator.scores()
            for name, value in (("ap", scores.map), ("ap50", scores.ap50), ("ap25", scores.ap25)):
                found[prefix + name] = 0.0 if np.isnan(value) else float(value)
        return found

    def _encoded(self, scene: int) -> FeatureMap:
        if self._kept is not None and scene in self._kept:
            return self._kept[scene]
        read = read_scene_folder(self.data.scenes[scene], None)
        if self.voxelization == "official":
            (found,) = encode_published(self.encoder, [read.coord], [read.color])
        else:
            found = self.encoder.encode(scene_snapshot(read))
        if self._kept is not None:
            self._kept[scene] = found
        return found


def _of_all_processes(evaluator: InstanceEvaluator) -> InstanceEvaluator:
    """What all processes have seen, in the order of their ranks; average precision cannot be put together from averages."""
    if not is_distributed():
        return evaluator
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, evaluator)
    for other in parts[1:]:
        parts[0].merge(other)
    return parts[0]
