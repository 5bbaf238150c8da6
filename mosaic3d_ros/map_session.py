"""The state behind the node, without ROS.

One voxel map, its newest encoding with instances and labels, and who may touch what when.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.mapping import MapDelta, MapSnapshot, VoxelMap, VoxelMapConfig
from mosaic3d_core.models import FeatureMap, SceneEncoder
from mosaic3d_core.query import InstanceMap, InstanceMapConfig, InstanceView, Labelling, QueryEngine
from mosaic3d_core.query.component_proposals import ComponentProposals
from mosaic3d_core.query.instance_map import MapInstance
from mosaic3d_core.query.proposals import ProposalSource

Vocabulary = Sequence[str] | Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class EncodedMap:
    """A complete encoding with the instances of the same snapshot: what queries are asked about.

    Attributes:
        features: The encoded snapshot.
        instances: Its instances.
    """

    features: FeatureMap
    instances: InstanceView


@dataclass(frozen=True)
class MapUpdate:
    """A complete encoding with its labels.

    Attributes:
        features: The encoded snapshot.
        labelling: Labels, instances and objects of the same snapshot.
    """

    features: FeatureMap
    labelling: Labelling


class MapSession:
    """Fusion on one thread, encoding on another, queries on any.

    The map is locked only while a frame is integrated or a snapshot is copied. A feature map is published by
    exchanging one reference, with the instances that belong to it, so that a query never waits.

    Args:
        config: Settings of the voxel map.
        encoder: The 3D encoder.
        make_engine: Makes the query engine.
        vocabulary: Words of the continuous labels, or prompts by label.
        make_source: Makes the source of proposals that goes with the engine; None for connected components.
        instance_config: When instances are the same, and when they change.
    """

    def __init__(
        self,
        config: VoxelMapConfig,
        encoder: SceneEncoder,
        make_engine: Callable[[], QueryEngine],
        vocabulary: Vocabulary,
        make_source: Callable[[QueryEngine], ProposalSource] | None = None,
        instance_config: InstanceMapConfig | None = None,
    ) -> None:
        self._map = VoxelMap(config)
        self._map_lock = threading.Lock()
        self._encoder = encoder
        self.engine = make_engine()
        self._source = (make_source or ComponentProposals)(self.engine)
        self._instance_config = instance_config or InstanceMapConfig()
        self._instances = self._new_instances()
        self._vocabulary = vocabulary
        self._epoch = 0
        self._encoded: EncodedMap | None = None

    @property
    def encoded(self) -> EncodedMap | None:
        """The last complete encoding with its instances; None before the first and after a reset."""
        return self._encoded

    @property
    def features(self) -> FeatureMap | None:
        """The last complete encoding; None before the first and after a reset."""
        encoded = self._encoded
        return None if encoded is None else encoded.features

    @property
    def generation(self) -> int:
        """Generation of the map; that of :attr:`features` follows it."""
        return self._map.generation

    @property
    def num_voxels(self) -> int:
        """Size of the map."""
        return len(self._map)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Words of the continuous labels."""
        return tuple(self._vocabulary)

    def warm_up(self) -> None:
        """Encode and label a small made-up cloud, so that the first real one does not pay for compiling."""
        generator = np.random.default_rng(0)
        points = generator.uniform(0.0, 1.0, (2000, 3)).astype(np.float32)
        points[:1000, 2] = 0.0
        colors = generator.uniform(0.0, 255.0, (2000, 3)).astype(np.float32)
        snapshot = MapSnapshot.from_points(points, colors, self._map.config.voxel_size_m)
        features = self._encoder.encode(snapshot)
        found = InstanceMap(self._instance_config).update(features, self._source.propose(features))
        self.engine.label(features, self._vocabulary, self.engine.view(features, found))
        self.engine.reset()

    def fuse(self, frame: RGBDFrame) -> MapDelta:
        """Integrate a frame; raises FrameError when it cannot be used."""
        with self._map_lock:
            return self._map.integrate(frame)

    def set_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Exchange the words, or the prompts by label; the next :meth:`update` uses them."""
        self._vocabulary = vocabulary

    def reconfigure(self, config: VoxelMapConfig, instance_config: InstanceMapConfig) -> None:
        """Take other settings from the next frame and the next update on.

        Raises:
            ValueError: If the map would have to begin anew for them; nothing has changed then.
        """
        with self._map_lock:
            self._map.reconfigure(config)
            self._instance_config = self._instances.config = instance_config

    def reset(self) -> None:
        """Empty the map. An encoding that is under way will be thrown away."""
        with self._map_lock:
            self._map.reset()
            self._forget()

    def restore(self, snapshot: MapSnapshot, features: FeatureMap | None = None, instances: Sequence[MapInstance] = ()) -> bool:
        """Replace the map by a saved one and go on from there.

        Args:
            snapshot: The map.
            features: Its encoding, where it was kept.
            instances: Its instances, where they were kept. With an encoding of this session's encoder they live on, and
                queries are answered at once.

        Returns:
            Whether the encoding is one of this session's encoder.

        Raises:
            ValueError: If its voxels are of another size, or too many.
        """
        with self._map_lock:
            self._map.restore(snapshot)
            self._forget()
            if features is None or not self._encoder.is_source_of(features):
                return False
            if not instances:
                return True
            features = replace(features, snapshot=replace(snapshot, generation=self._map.generation))
            self._instances.restore(features, instances)
            epoch, known = self._epoch, self._instances.instances
        encoded = EncodedMap(features, self.engine.view(features, known))
        with self._map_lock:
            if epoch == self._epoch and self._encoded is None:
                self._encoded = encoded
        return True

    def update(self) -> MapUpdate | None:
        """Encode the present map, follow its instances and label it; None when it is empty or was reset meanwhile.

        A map that has not changed since is only labelled anew.
        """
        with self._map_lock:
            epoch, encoded, instances = self._epoch, self._encoded, self._instances
            if len(self._map) == 0:
                return None
            changed = encoded is None or encoded.features.generation != self._map.generation
            snapshot = self._map.snapshot() if changed else None
        if snapshot is not None:
            features = self._encoder.encode(snapshot)
            self.engine.prepare(features)  # here, so that the first query on this map does not wait for it
            found = instances.update(features, self._source.propose(features))
            encoded = EncodedMap(features, self.engine.view(features, found))
        with self._map_lock:
            if epoch != self._epoch:
                return None
            self._encoded = encoded
        assert encoded is not None
        labelling = self.engine.label(encoded.features, self._vocabulary, encoded.instances)
        return MapUpdate(encoded.features, labelling) if epoch == self._epoch else None

    def _forget(self) -> None:
        self._epoch += 1
        self._encoded = None
        self._instances = self._new_instances()  # an update under way still writes into the old one
        self.engine.reset()

    def _new_instances(self) -> InstanceMap:
        return InstanceMap(self._instance_config, self.engine.tracker.ids)
