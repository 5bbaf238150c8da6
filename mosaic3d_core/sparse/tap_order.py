"""An order of the rows of a neighbour table in which chunks of rows have few taps.

A cell on a surface has 9 to 18 of its 27 neighbours, and which ones depends on how the surface lies. Rows sorted by the set
of their neighbours share it with the rows beside them, so the product of a chunk leaves out the taps that none of its rows
has: on the surfaces of a room 20 of 27 taps stay for chunks of 1,024 rows, where in spatial order all stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mosaic3d_core.sparse import kernel_map_cpu, parallel

#: Below this many rows a chunk holds too large a part of all of them to lack taps.
MIN_ROWS = 8192

_CHUNK_ROWS = 512  # small chunks have fewer taps but cost more calls; best of 192..2048 over the layers of SpUNet34C


class Chunk(NamedTuple):
    """Rows of a neighbour table with the taps that any of them has.

    Args:
        rows: Row numbers of the table, ascending. Shape (R,), int32.
        taps: The taps, ascending. Shape (T,), int64.
        table: The table at these rows and taps. Shape (R, T), int32.
    """

    rows: np.ndarray
    taps: np.ndarray
    table: np.ndarray


@dataclass(frozen=True)
class TapOrder:
    """All rows of a table in chunks with few taps.

    Args:
        chunks: The chunks; every row is in one of them.
        size: Rows of each, but for the last.
    """

    chunks: list[Chunk]
    size: int


def sort_by_taps(table: np.ndarray) -> TapOrder:
    """Sort the rows of a table by the set of their taps and cut them into chunks.

    Rows are sorted in blocks of 65,536, and within a chunk they ascend: the neighbours of one are near those of the next,
    and still in cache.

    Args:
        table: Row of each neighbour or -1. Shape (N, K), int32, K at most 30.

    Returns:
        The order.
    """
    # The taps that about half of the rows have say most about how a surface lies: they decide first.
    share = (table[:: max(1, len(table) // 4096)] >= 0).mean(axis=0)
    tap_of_bit = np.argsort(-np.abs(share - 0.5), kind="stable")
    bit_of_tap = np.empty(len(tap_of_bit), np.int64)
    bit_of_tap[tap_of_bit] = np.arange(len(tap_of_bit))
    keys = np.empty(len(table), np.int64)
    kernel_map_cpu.tap_masks(table, bit_of_tap, keys)
    # block of rows, taps, row in its block: in a large cloud a chunk's neighbours should not lie all over it
    numbers = np.arange(len(table), dtype=np.int64)
    keys <<= 16
    keys |= numbers >> 16 << (16 + len(tap_of_bit)) | numbers & 0xFFFF
    keys.sort()
    rows = ((keys >> (16 + len(tap_of_bit)) << 16) + (keys & 0xFFFF)).astype(np.int32)
    masks = keys >> 16 & (1 << len(tap_of_bit)) - 1
    size = parallel.even_chunk(len(rows), _CHUNK_ROWS)
    starts = np.arange(0, len(rows), size)
    unions = np.bitwise_or.reduceat(masks, starts).tolist() if len(rows) else []
    taps_of = {union: np.sort(tap_of_bit[union >> np.arange(len(tap_of_bit)) & 1 == 1]) for union in set(unions)}
    chunks: list[Chunk | None] = [None] * len(starts)

    def cut(first: int, last: int) -> None:
        for i in range(first, last):
            chosen, taps = np.sort(rows[i * size : (i + 1) * size]), taps_of[unions[i]]
            part = np.empty((len(chosen), len(taps)), np.int32)
            kernel_map_cpu.take_taps(table, chosen, taps, part)
            chunks[i] = Chunk(chosen, taps, part)

    parallel.for_each_chunk(len(starts), 16, cut)
    return TapOrder([chunk for chunk in chunks if chunk is not None], size)
