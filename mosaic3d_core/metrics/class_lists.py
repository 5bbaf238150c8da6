"""Class lists of the benchmarks, and which of their classes count as what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mosaic3d_core.data.synthetic.classes import CLASS_NAMES
from mosaic3d_core.errors import Mosaic3DError

_FILE = Path(__file__).resolve().parent.parent / "assets" / "class_lists.json"
_STUFF = frozenset({"wall", "floor", "ceiling"})
#: Matterport's shorter lists are beginnings of the long one.
_PREFIXES = {"matterport40": 40, "matterport80": 80}
_S3DIS = (
    "ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board", "clutter",
)  # fmt: skip


@dataclass(frozen=True)
class ClassList:
    """Names of a benchmark's classes, in the order of their ids.

    Attributes:
        name: Name of the list.
        names: Class names.
        groups: Named groups of class ids, such as head, common and tail.
    """

    name: str
    names: tuple[str, ...]
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def background(self) -> frozenset[int]:
        """Ids that are not foreground: wall, floor, ceiling, and every class with "other" in its name."""
        return frozenset(i for i, name in enumerate(self.names) if name in _STUFF or "other" in name)

    @property
    def foreground(self) -> tuple[int, ...]:
        """Ids of the foreground classes."""
        return tuple(i for i in range(len(self)) if i not in self.background)

    @property
    def never_scored(self) -> frozenset[int]:
        """Ids whose ground truth is ignored: names that start with "other"."""
        return frozenset(i for i, name in enumerate(self.names) if name.startswith("other"))

    @property
    def not_instances(self) -> frozenset[int]:
        """Ids left out of instance segmentation: wall, floor, and "other" classes (a ceiling is an instance)."""
        return frozenset(i for i, name in enumerate(self.names) if name in ("wall", "floor") or "other" in name)


@cache
def _stored() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return content


def class_list_names() -> tuple[str, ...]:
    """Names that `get_class_list` knows."""
    return (*_stored()["classes"], *_PREFIXES, "s3dis", "rooms")


def get_class_list(name: str) -> ClassList:
    """A class list by name, or from a text file with one class per line.

    Args:
        name: "scannet20", "scannet200", "matterport21", "matterport40", "matterport80", "matterport160", "s3dis", "rooms" (the
            generated ones), or the path of a file (ScanNet++'s list is not public, so it comes from you).

    Raises:
        Mosaic3DError: If it is neither, or the file has no or repeated names.
    """
    stored = _stored()
    if name in stored["classes"]:
        groups = {key: tuple(ids) for key, ids in stored["groups"].get(name, {}).items()}
        return ClassList(name, tuple(stored["classes"][name]), groups)
    if name in _PREFIXES:
        return ClassList(name, tuple(stored["classes"]["matterport160"][: _PREFIXES[name]]))
    if name in ("s3dis", "rooms"):
        return ClassList(name, _S3DIS if name == "s3dis" else CLASS_NAMES)
    if not Path(name).is_file():
        raise Mosaic3DError(
            f"class list {name} is unknown: expected {', '.join(class_list_names())} or a file, one class per line"
        )
    lines = [line.strip() for line in Path(name).read_text(encoding="utf-8").splitlines()]
    return from_names([line for line in lines if line], Path(name).stem)


def from_names(names: Sequence[str], name: str = "custom") -> ClassList:
    """A class list of given names; Mosaic3DError if there are none or some repeat."""
    twice = sorted({one for one in names if list(names).count(one) > 1})
    if not names or twice:
        problem = f"repeats {', '.join(twice)}" if twice else "has no class"
        raise Mosaic3DError(f"class list {name} {problem}: give every class once")
    return ClassList(name, tuple(names))
