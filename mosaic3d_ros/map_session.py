"""The state behind the node, without ROS.

One voxel map, its newest encoding and labelling, and who may touch what when.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.mapping import MapDelta, MapSnapshot, VoxelMap, VoxelMapConfig
from mosaic3d_core.models import FeatureMap, SceneEncoder
from mosaic3d_core.query import Labelling, QueryEngine


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
    exchanging one reference, so that a query never waits.

    Args:
        config: Settings of the voxel map.
        encoder: The 3D encoder.
        make_engine: Makes the query engine.
        vocabulary: Words of the continuous labels.
    """

    def __init__(
        self,
        config: VoxelMapConfig,
        encoder: SceneEncoder,
        make_engine: Callable[[], QueryEngine],
        vocabulary: Sequence[str],
    ) -> None:
        self._map = VoxelMap(config)
        self._map_lock = threading.Lock()
        self._encoder = encoder
        self.engine = make_engine()
        self._vocabulary = tuple(vocabulary)
        self._epoch = 0
        self._features: FeatureMap | None = None

    @property
    def features(self) -> FeatureMap | None:
        """The last complete encoding; None before the first and after a reset."""
        return self._features

    @property
    def generation(self) -> int:
        """Generation of the map; that of :attr:`features` follows it."""
        return self._map.generation

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Words of the continuous labels."""
        return self._vocabulary

    def warm_up(self) -> None:
        """Encode and label a small made-up cloud, so that the first real one does not pay for compiling."""
        generator = np.random.default_rng(0)
        points = generator.uniform(0.0, 1.0, (2000, 3)).astype(np.float32)
        points[:1000, 2] = 0.0
        colors = generator.uniform(0.0, 255.0, (2000, 3)).astype(np.float32)
        snapshot = MapSnapshot.from_points(points, colors, self._map.config.voxel_size_m)
        self.engine.label(self._encoder.encode(snapshot), self._vocabulary)
        self.engine.reset()

    def fuse(self, frame: RGBDFrame) -> MapDelta:
        """Integrate a frame; raises FrameError when it cannot be used."""
        with self._map_lock:
            return self._map.integrate(frame)

    def set_vocabulary(self, words: Sequence[str]) -> None:
        """Exchange the words; the next :meth:`update` uses them."""
        self._vocabulary = tuple(words)

    def reset(self) -> None:
        """Empty the map. An encoding that is under way will be thrown away."""
        with self._map_lock:
            self._map.reset()
            self._epoch += 1
            self._features = None
            self.engine.reset()

    def update(self) -> MapUpdate | None:
        """Encode the present map and label it; None when it is empty or was reset meanwhile.

        A map that has not changed since is only labelled anew.
        """
        with self._map_lock:
            epoch, before = self._epoch, self._features
            if len(self._map) == 0:
                return None
            unchanged = before is not None and before.generation == self._map.generation
            snapshot = before.snapshot if unchanged and before is not None else self._map.snapshot()
        features = before if unchanged and before is not None else self._encoder.encode(snapshot)
        self.engine.prepare(features)  # here, so that the first query on this map does not wait for it
        with self._map_lock:
            if epoch != self._epoch:
                return None
            self._features = features
        labelling = self.engine.label(features, self._vocabulary)
        return MapUpdate(features, labelling) if epoch == self._epoch else None
