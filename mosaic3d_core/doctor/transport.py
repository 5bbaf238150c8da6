"""How large the shared memory of Fast DDS is in this process, as its environment sets it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from mosaic3d_core.doctor.observations import Transport

DEFAULT_SEGMENT_BYTES = 512 * 1024
"""What Fast DDS takes where nothing is set."""

_FASTDDS = "rmw_fastrtps_cpp"
_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_IN_WORKING_FOLDER = "DEFAULT_FASTDDS_PROFILES.xml"
_LARGEST_PROFILE = 1 << 20


def transport_of(environment: Mapping[str, str] | None = None, process: str = "this terminal", folder: str = ".") -> Transport:
    """Shared memory of a process with this environment.

    Args:
        environment: Its environment variables; None = those of this process.
        process: Its name for texts.
        folder: Its working folder, where Fast DDS looks for a profile of its own accord.
    """
    environment = os.environ if environment is None else environment
    if environment.get("RMW_IMPLEMENTATION", _FASTDDS) != _FASTDDS:
        return Transport(process, None)
    if environment.get("FASTDDS_BUILTIN_TRANSPORTS", "").split("?")[0].upper() in ("UDPV4", "UDPV6", "NONE"):
        return Transport(process, None)
    path = next((environment[name] for name in _VARIABLES if environment.get(name)), "")
    if not path and (Path(folder) / _IN_WORKING_FOLDER).is_file():
        path = str(Path(folder) / _IN_WORKING_FOLDER)
    if not path:
        return Transport(process, DEFAULT_SEGMENT_BYTES)
    try:
        return Transport(process, _segment_bytes(Path(path)), path)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Transport(process, DEFAULT_SEGMENT_BYTES, path, reason)


def _segment_bytes(path: Path) -> int | None:
    """Segment size of the default participant of a profile file; None where it uses no shared memory."""
    size = path.stat().st_size
    if size > _LARGEST_PROFILE:
        raise ValueError(f"it has {size} bytes, more than any profile")
    root = ElementTree.fromstring(path.read_bytes())
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]  # without the namespace
    segments: dict[str, int] = {}
    for descriptor in root.iter("transport_descriptor"):
        if (descriptor.findtext("type") or "").strip().upper() == "SHM":
            name = (descriptor.findtext("transport_id") or "").strip()
            segments[name] = int(descriptor.findtext("segment_size") or DEFAULT_SEGMENT_BYTES)
    participants = [p for p in root.iter("participant") if p.get("is_default_profile", "").lower() == "true"]
    if not participants:
        return DEFAULT_SEGMENT_BYTES
    used = {(t.text or "").strip() for t in participants[0].iter("transport_id")}
    found = [segments[name] for name in used if name in segments]
    builtin = (participants[0].findtext(".//useBuiltinTransports") or "true").strip().lower() != "false"
    if found:
        return max(found)
    return DEFAULT_SEGMENT_BYTES if builtin else None
