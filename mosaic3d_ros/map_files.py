"""Writing the encoded map to a file that `mosaic3d query` opens."""

from __future__ import annotations

from pathlib import Path

from mosaic3d_core.mapping import save_map
from mosaic3d_core.models import FeatureMap
from mosaic3d_core.query.feature_store import pack_features


def save_map_reply(features: FeatureMap | None, path: str, overwrite: bool) -> tuple[bool, str]:
    """Save the map and word the reply.

    Args:
        features: The newest complete encoding, None before the first.
        path: Target; the ending .m3dmap is added when it has none.
        overwrite: Whether an existing file may be replaced.

    Returns:
        Success, and a sentence for a person.
    """
    if features is None:
        return False, "There is no map yet; wait until the first frames are fused and encoded, then save again."
    if not path.strip():
        return False, "The path is empty; give the file to write, for example maps/kitchen.m3dmap."
    target = Path(path)
    target = target if target.suffix else target.with_suffix(".m3dmap")
    if target.exists() and not overwrite:
        return False, f"'{target}' exists; set overwrite to replace it."
    about, extras = pack_features(features)
    try:
        save_map(features.snapshot, target, about, extras)
    except OSError as error:
        return False, f"The map cannot be written to '{target}': {error.strerror or error}."
    return True, f"{len(features.snapshot)} voxels are in '{target.resolve()}'."
