"""RVL, the lossless code of 16-bit depth images in compressedDepth.

A. D. Wilson, "Fast lossless depth image compression", ISS 2017: runs of zeros and of values in turn, each value as the
difference to the one before (zigzag), all numbers in groups of 3 bits with a bit that says "more", eight groups in each
little-endian word of 32 bits, the first in its highest bits.
"""

# ruff: noqa: ANN001, ANN202 - numba kernels are typed at compile time
from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from mosaic3d_core.errors import FrameError

#: Groups of one number at most: 11 hold 33 bits.
_MOST_GROUPS = 11


def decode_rvl(data: NDArray[np.uint8], count: int) -> NDArray[np.uint16]:
    """Decode values.

    Args:
        data: (B,) uint8.
        count: Number of values.

    Returns:
        (count,) uint16.

    Raises:
        FrameError: ``bad_compression`` for data that ends early or does not make sense.
    """
    words = data[: len(data) // 4 * 4].view("<u4").astype(np.uint32)
    values, done = _decode(words, count)
    if done != count:
        raise FrameError(
            f"The RVL data of the depth image is damaged: it gives {done} of {count} values. Check the transport.",
            "bad_compression",
        )
    return values


def encode_rvl(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Encode values (N,) uint16 to bytes (B,) uint8, B a multiple of 4."""
    words, used = _encode(np.ascontiguousarray(values, np.uint16))
    return words[:used].astype("<u4").view(np.uint8)


@numba.njit(cache=True, nogil=True)
def _number(words, at):  # type: ignore[no-untyped-def]
    """The number at a group, and the group after it; -1 where the data ends."""
    value = np.int64(0)
    for group in range(_MOST_GROUPS):
        if (at >> 3) >= len(words):
            return np.int64(-1), at
        nibble = np.int64((words[at >> 3] >> np.uint32(28 - 4 * (at & 7))) & np.uint32(15))
        at += 1
        value |= (nibble & 7) << (3 * group)
        if nibble < 8:
            return value, at
    return np.int64(-1), at


@numba.njit(cache=True, nogil=True)
def _decode(words, count):  # type: ignore[no-untyped-def]
    out = np.zeros(count, np.uint16)
    done, at, value = 0, 0, np.int64(0)
    while done < count:
        zeros, at = _number(words, at)
        if zeros < 0 or zeros > count - done:
            return out, done
        done += zeros
        run, at = _number(words, at)
        if run < 0 or run > count - done or (zeros == 0 and run == 0):
            return out, done
        for _ in range(run):
            code, at = _number(words, at)
            if code < 0:
                return out, done
            value += (code >> 1) ^ -(code & 1)
            out[done] = np.uint16(value & 0xFFFF)
            done += 1
    return out, done


@numba.njit(cache=True, nogil=True)
def _write(words, at, value):  # type: ignore[no-untyped-def]
    while True:
        nibble = value & 7
        value >>= 3
        if value:
            nibble |= 8
        words[at >> 3] |= np.uint32(nibble) << np.uint32(28 - 4 * (at & 7))
        at += 1
        if not value:
            return at


@numba.njit(cache=True, nogil=True)
def _encode(values):  # type: ignore[no-untyped-def]
    n = len(values)
    # a value alone between zeros takes at most 6 groups and two run lengths
    words = np.zeros(n + n // 2 + 8, np.uint32)
    at, k, before = 0, 0, np.int64(0)
    while k < n:
        start = k
        while k < n and values[k] == 0:
            k += 1
        at = _write(words, at, np.int64(k - start))
        start = k
        while k < n and values[k] != 0:
            k += 1
        at = _write(words, at, np.int64(k - start))
        for i in range(start, k):
            delta = np.int64(values[i]) - before
            at = _write(words, at, (delta << 1) ^ (delta >> 63))
            before = np.int64(values[i])
    return words, (at + 7) >> 3
