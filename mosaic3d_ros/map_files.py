"""Map files by services: writing the encoded map, reading one back, and where on the machine that is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mosaic3d_core.errors import MapFileError
from mosaic3d_core.mapping import MapSnapshot, load_map, save_map
from mosaic3d_core.models import FeatureMap
from mosaic3d_core.query.feature_store import pack_features, unpack_features
from mosaic3d_core.query.instance_map import MapInstance
from mosaic3d_core.query.instance_store import pack_instances, unpack_instances

if TYPE_CHECKING:
    from mosaic3d_ros.map_session import EncodedMap

SUFFIX = ".m3dmap"


class MapFolder:
    """Turns the path in a request into one on this machine.

    Args:
        folder: Folder that no path may leave; "" for no such limit, relative paths then start in the working folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).expanduser().resolve() if folder else None

    def resolve(self, path: str) -> Path:
        """The file meant by ``path``, with the ending .m3dmap where it has none.

        Raises:
            ValueError: A sentence for a person, if the path is empty or leaves the folder.
        """
        if not path.strip() or "\0" in path:
            raise ValueError("The path is empty; give a file, for example maps/kitchen.m3dmap.")
        target = Path(path)
        target = target if target.suffix else target.with_suffix(SUFFIX)
        if self.folder is None:
            return target
        whole = (self.folder / target).resolve()
        if not whole.is_relative_to(self.folder):
            raise ValueError(f"'{path}' is outside of the node's map_folder '{self.folder}'; give a path inside of it.")
        return whole


def save_map_reply(encoded: EncodedMap | None, path: str, overwrite: bool, folder: MapFolder) -> tuple[bool, str]:
    """Save the map and word the reply.

    Args:
        encoded: The newest complete encoding with its instances, None before the first.
        path: Target; the ending .m3dmap is added when it has none.
        overwrite: Whether an existing file may be replaced.
        folder: Where files may be.

    Returns:
        Success, and a sentence for a person.
    """
    if encoded is None:
        return False, "There is no map yet; wait until the first frames are fused and encoded, then save again."
    try:
        target = folder.resolve(path)
    except ValueError as error:
        return False, str(error)
    if target.exists() and not overwrite:
        return False, f"'{target}' exists; set overwrite to replace it."
    features = encoded.features
    about, extras = pack_features(features)
    try:
        save_map(features.snapshot, target, about, extras | pack_instances(encoded.instances))
    except MapFileError as error:
        return False, f"The map cannot be saved: {error}"
    return True, f"{len(features.snapshot)} voxels and {len(encoded.instances)} objects are in '{target.resolve()}'."


class Restore(Protocol):
    """Replaces the map; see ``MapSession.restore``."""

    def __call__(self, snapshot: MapSnapshot, features: FeatureMap | None, instances: Sequence[MapInstance]) -> bool:
        """Whether objects live on; ValueError says why a map cannot be taken."""
        ...


def load_map_reply(path: str, folder: MapFolder, restore: Restore) -> tuple[bool, str]:
    """Read a map, hand it to the session, and word the reply; the old map stays where that fails.

    Args:
        path: File to read; the ending .m3dmap is added when it has none.
        folder: Where files may be.
        restore: Replaces the map.

    Returns:
        Success, and a sentence for a person.
    """
    try:
        snapshot, about, extras = load_map(folder.resolve(path), with_extras=True)
        features = unpack_features(snapshot, about, extras)
        instances = None if features is None else unpack_instances(features, extras)
        of_this_encoder = restore(snapshot, features, instances or ())
    except (ValueError, MapFileError) as error:
        return False, f"The map stays as it is: {error}"
    told = f"{len(snapshot)} voxels are the map now; fusion goes on from there."
    if instances is None:
        return True, f"{told} The file has no objects: they will be found anew."
    if not of_this_encoder:
        return True, f"{told} Its {len(instances)} objects are those of another encoder: they will be found anew."
    return True, f"{told} Its {len(instances)} objects keep their ids."
