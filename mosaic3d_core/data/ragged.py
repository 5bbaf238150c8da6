"""Lists of index arrays, and lists of such lists, stored as one packed array and its lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pack_ragged(rows: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(packed (sum of lengths,), lengths (len(rows),)) of a list of 1-D arrays; empty rows and an empty list are fine."""
    lengths = np.array([len(r) for r in rows], np.int64)
    packed = np.concatenate([np.asarray(r, np.int64) for r in rows]) if len(rows) else np.zeros(0, np.int64)
    return packed, lengths


def unpack_ragged(packed: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The reverse of `pack_ragged`.

    Raises:
        ValueError: If a length is negative or the lengths do not add up to the packed size.
    """
    if len(lengths) and int(np.min(lengths)) < 0:
        raise ValueError("ragged lengths must be >= 0")
    if int(np.sum(lengths)) != len(packed):
        raise ValueError(f"ragged lengths add up to {int(np.sum(lengths))} but {len(packed)} values are packed")
    ends = np.cumsum(lengths)
    return [packed[e - n : e] for e, n in zip(ends, lengths, strict=True)]


def pack_nested(
    groups: Sequence[Sequence[NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(packed values, rows per group, values per row) of a list of lists of 1-D arrays, such as masks per frame."""
    packed, inner = pack_ragged([row for group in groups for row in group])
    return packed, np.array([len(group) for group in groups], np.int64), inner


def unpack_nested(
    packed: NDArray[np.int64], outer_lengths: NDArray[np.int64], inner_lengths: NDArray[np.int64]
) -> list[list[NDArray[np.int64]]]:
    """The reverse of `pack_nested`.

    Raises:
        ValueError: If a length is negative, or lengths do not add up.
    """
    rows = unpack_ragged(packed, inner_lengths)
    groups = unpack_ragged(np.arange(len(rows)), outer_lengths)
    return [[rows[i] for i in group] for group in groups]
