"""Hand-made voxel scenes with known objects, and an encoder stand-in whose embeddings are known exactly."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

VOXEL = 0.04


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The fields of a map snapshot that queries use."""

    generation: int
    voxel_size_m: float
    indices: np.ndarray
    centroids: np.ndarray
    colors: np.ndarray
    normals: np.ndarray
    weights: np.ndarray = None
    up: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))


class WordEncoder:
    """Text encoder stand-in: random unit vectors per text, with chosen similarity to another text's
    vector."""

    name = "words"
    dim = 64

    def __init__(self, similar: dict[str, tuple[str, float]] | None = None):
        self.similar = similar or {}
        self.calls: list[str] = []

    def vector(self, text: str) -> np.ndarray:
        seed = zlib.crc32(text.encode())
        own = np.random.default_rng(seed).normal(size=self.dim)
        own /= np.linalg.norm(own)
        if text not in self.similar:
            return own
        other, cosine = self.similar[text]
        base = self.vector(other)
        own -= base * (own @ base)
        own /= np.linalg.norm(own)
        return cosine * base + np.sqrt(1 - cosine**2) * own

    def encode(self, texts):
        self.calls += list(texts)
        return np.stack([self.vector(text) for text in texts]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Features:
    """A feature map whose features are text-space vectors (the head is the identity)."""

    snapshot: Snapshot
    features: np.ndarray
    voxel_of_point: np.ndarray
    cells: np.ndarray
    cell_size_m: float
    text_encoder_name: str = "words"
    logit_scale: float = 20.0

    def cosine(self, embeddings: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(self.features, axis=1, keepdims=True)
        return (self.features / np.maximum(norms, 1e-9)) @ np.asarray(embeddings).T


@dataclass
class SceneBuilder:
    """Collects the surfaces of boxes as voxels."""

    voxel: float = VOXEL
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, str, int]] = field(default_factory=list)

    def add_box(self, word, center, size, color=(150, 120, 90), yaw=0.0, faces="all"):
        """Add a box's faces ("all", or some of "+x -x +y -y +z -z") and return the number of the thing."""
        number = len({row[4] for row in self.rows}) + 1
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        names = ["+x", "-x", "+y", "-y", "+z", "-z"] if faces == "all" else faces.split()
        size = np.asarray(size, float)
        for name in names:
            axis, sign = "xyz".index(name[1]), 1.0 if name[0] == "+" else -1.0
            others = [k for k in range(3) if k != axis]
            grids = [np.arange(-size[k] / 2, size[k] / 2 + 1e-9, self.voxel / 2) for k in others]
            a, b = np.meshgrid(*grids, indexing="ij")
            local = np.zeros((a.size, 3))
            local[:, others[0]], local[:, others[1]], local[:, axis] = (
                a.ravel(),
                b.ravel(),
                sign * size[axis] / 2,
            )
            normal = np.zeros(3)
            normal[axis] = sign
            points = local @ turn.T + np.asarray(center, float)
            self.rows.append(
                (
                    points,
                    np.tile(turn @ normal, (len(points), 1)),
                    np.tile(color, (len(points), 1)),
                    word,
                    number,
                )
            )
        return number

    def build(self, encoder: WordEncoder, generation=1, noise=0.05, seed=0):
        """Feature map and the thing number of every voxel."""
        points = np.vstack([row[0] for row in self.rows])
        normals = np.vstack([row[1] for row in self.rows])
        colors = np.vstack([row[2] for row in self.rows]).astype(np.float32)
        things = np.concatenate([np.full(len(row[0]), row[4]) for row in self.rows])
        words = {row[4]: row[3] for row in self.rows}
        indices, first = np.unique(np.floor(points / self.voxel + 1e-6).astype(np.int32), axis=0, return_index=True)
        snapshot = Snapshot(
            generation,
            self.voxel,
            indices,
            points[first].astype(np.float32),
            colors[first],
            normals[first].astype(np.float32),
        )
        vectors = {word: encoder.vector(word) for word in set(words.values())}
        features = np.stack([vectors[words[number]] for number in things[first]])
        rng = np.random.default_rng(seed)
        features = features + rng.normal(scale=noise, size=features.shape)
        feature_map = Features(snapshot, features.astype(np.float32), np.arange(len(indices)), indices, self.voxel)
        return feature_map, things[first]


def room(builder: SceneBuilder | None = None) -> SceneBuilder:
    """A 5 x 4 x 2.5 m room with a table, two chairs, a bed and a door."""
    scene = builder or SceneBuilder()
    scene.add_box("floor", (0, 0, 0), (5, 4, 0), (180, 170, 160), faces="+z")
    scene.add_box("wall", (2.5, 0, 1.3), (0, 4, 2.4), (230, 230, 225), faces="-x")
    scene.add_box("wall", (0, 2, 1.3), (5, 0, 2.4), (230, 230, 225), faces="-y")
    scene.add_box("dining table", (0.5, 0.3, 0.75), (1.4, 0.8, 0.06), (140, 90, 50))
    scene.add_box("chair", (-0.8, 0.3, 0.5), (0.45, 0.45, 0.8), (60, 60, 160))
    scene.add_box("chair", (0.5, -0.9, 0.5), (0.45, 0.45, 0.8), (160, 60, 60), yaw=0.5)
    scene.add_box("bed", (-1.4, -1.2, 0.3), (2.0, 1.0, 0.4), (220, 220, 240))
    scene.add_box("door", (2.42, -1.2, 1.05), (0.06, 0.9, 2.0), (120, 80, 50), faces="-x")
    return scene
