"""Architectures as they are stored beside their weights."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

Config = TypeVar("Config")


def config_of(kind: type[Config], what: str, values: dict[str, Any]) -> Config:
    """A configuration from stored values.

    Args:
        kind: Its dataclass.
        what: What it is of, for people, such as "mask decoder".
        values: Plain values by field.

    Raises:
        ValueError: If a key is unknown, as of a file that a later version wrote, or a value impossible.
    """
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown {what} settings {unknown}; this version knows {sorted(known)}")
    return kind(**values)
