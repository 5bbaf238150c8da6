"""A scene in the data engine: its work in chunks of frames, each of which is kept as soon as it is done.

While a scene is in work, `SCENE/.captions.SOURCE/` holds one file per finished chunk. A run that was killed goes on with the
chunks that are missing; when all are there they become the caption files of the scene, and the folder goes.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.data.caption_files import SceneFolderError, write_atomically, write_frame_captions
from mosaic3d_core.data.engine.frames import FramePairs
from mosaic3d_core.data.ragged import pack_nested, unpack_nested, unpack_ragged
from mosaic3d_core.mapping import MapSnapshot


@dataclass(frozen=True)
class SceneWork:
    """The chunks of a scene.

    Attributes:
        folder: Scene folder.
        source: Name of the caption source.
        frames: Numbers of the frames to use.
        chunk: Frames per chunk.
        settings: Everything that the pairs depend on; a run with other settings does not go on from this one's chunks.
    """

    folder: Path
    source: str
    frames: tuple[int, ...]
    chunk: int
    settings: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether the caption files are there."""
        return (self.folder / f"captions.{self.source}.npz").exists()

    @property
    def _parts(self) -> Path:
        return self.folder / f".captions.{self.source}"

    def chunks(self) -> list[tuple[int, ...]]:
        """Frames of each chunk."""
        return [self.frames[k : k + self.chunk] for k in range(0, len(self.frames), self.chunk)]

    def begin(self) -> list[int]:
        """Numbers of the chunks that are still to do.

        Raises:
            SceneFolderError: If chunks of other settings lie there.
        """
        self._parts.mkdir(parents=True, exist_ok=True)
        file, text = self._parts / "settings.json", json.dumps({**self.settings, "frames": self.frames}, sort_keys=True)
        if not file.exists():
            write_atomically(file, lambda p: p.write_text(text, encoding="utf-8"))
        elif file.read_text(encoding="utf-8") != text:
            raise SceneFolderError(f"{self._parts} holds work of other settings: finish it with those, or delete the folder")
        return [k for k in range(len(self.chunks())) if not self._part(k).exists()]

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:05d}.npz"

    def keep(self, number: int, pairs: Sequence[FramePairs]) -> None:
        """Write a finished chunk."""
        packed, outer, inner = pack_nested([one.masks for one in pairs])
        texts = np.array([text for one in pairs for text in one.captions], dtype=np.str_)
        counts = json.dumps(sum((one.counts for one in pairs), Counter()))
        write_atomically(
            self._part(number),
            lambda p: np.savez_compressed(
                p,
                packed=packed.astype(np.int32),
                outer_lengths=outer,
                inner_lengths=inner,
                captions=texts,
                counts=np.str_(counts),
            ),
        )

    def finish(self) -> Counter[str]:
        """Join the chunks to the caption files of the scene and drop them; returns the counts of the whole scene.

        Raises:
            SceneFolderError: If a chunk is damaged.
        """
        masks: list[list[NDArray[np.int64]]] = []
        captions: list[list[str]] = []
        counts = Counter[str]()
        for number in range(len(self.chunks())):
            try:
                with np.load(self._part(number), allow_pickle=False) as part:
                    outer = part["outer_lengths"]
                    masks += unpack_nested(part["packed"].astype(np.int64), outer, part["inner_lengths"])
                    captions += [[str(t) for t in group] for group in unpack_ragged(part["captions"], outer)]
                    counts.update(json.loads(str(part["counts"])))
            except Exception as error:  # zipfile and numpy raise many kinds for a damaged archive
                raise SceneFolderError(f"{self._part(number)} is damaged ({error}): delete it and run again") from error
        report = json.dumps({"counts": dict(sorted(counts.items())), "settings": self.settings}, indent=2)
        write_atomically(self.folder / f"captions.{self.source}.json", lambda p: p.write_text(report + "\n", encoding="utf-8"))
        write_frame_captions(self.folder, self.source, masks, captions)
        shutil.rmtree(self._parts, ignore_errors=True)
        return counts


def write_points(folder: Path, snapshot: MapSnapshot) -> None:
    """Write a fused map as the points of a scene that has none yet; `coord.npy` last."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {
        "color": np.clip(np.rint(snapshot.colors), 0, 255).astype(np.uint8),
        "normal": snapshot.normals.astype(np.float16),
        "coord": snapshot.centroids.astype(np.float32),
    }
    for key, value in arrays.items():
        write_atomically(folder / f"{key}.npy", lambda p, value=value: np.save(p, value, allow_pickle=False))  # type: ignore[misc]
