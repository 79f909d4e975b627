"""Sign, thresholds, packing and bit order in numpy, defined once.

Binary codes are -1 and +1, carried as float32 at graph level. Packed, the code of channel c is bit c % 32 of word
c // 32 (little-endian: the bytes are the same for every word size); bit 1 is +1, bit 0 is -1, and bits beyond the
last channel are 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

WORD_BITS = 32
WORD_BYTES = 4
EXACT = 2**24
"""Up to here float32 holds every integer."""

FloatArray = npt.NDArray[np.float32]
WordArray = npt.NDArray[np.uint32]


def binarize(x: npt.NDArray[np.floating], zero: float = 1.0) -> FloatArray:
    """+1 where x > 0, -1 where x < 0 or x is NaN, `zero` where x == 0 (both zeros).

    x: float [...]; result: float32 [...] of -1 and +1 (and `zero`).
    """
    codes = np.where(x >= 0, np.float32(1), np.float32(-1))
    return np.where(x == 0, np.float32(zero), codes).astype(np.float32)


def words_for(channels: int) -> int:
    """Number of 32-bit words that hold `channels` bits."""
    return -(-channels // WORD_BITS)


def pack_bits(codes: npt.NDArray[np.floating], groups: int = 1) -> WordArray:
    """Pack binary codes along the last axis.

    codes: [..., C] of -1 and +1; C divisible by `groups`.
    result: uint32 [..., groups * words_for(C // groups)]; each group starts at a word.
    """
    *lead, channels = codes.shape
    per_group = channels // groups
    bits = (codes > 0).reshape(*lead, groups, per_group)
    padding = words_for(per_group) * WORD_BITS - per_group
    bits = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, padding)])
    packed = np.packbits(bits, axis=-1, bitorder="little")
    words = np.ascontiguousarray(packed).view("<u4").astype(np.uint32)
    return words.reshape(*lead, groups * words_for(per_group))


def unpack_bits(words: WordArray, channels: int, groups: int = 1) -> FloatArray:
    """Inverse of `pack_bits`.

    words: uint32 [..., groups * words_for(channels // groups)]; result: float32 [..., channels] of -1 and +1.
    """
    *lead, _ = words.shape
    per_group = channels // groups
    grouped = np.ascontiguousarray(words.astype("<u4")).reshape(*lead, groups, -1)
    bits = np.unpackbits(grouped.view(np.uint8), axis=-1, bitorder="little", count=per_group)
    return (bits.reshape(*lead, channels).astype(np.float32) * 2) - 1


def least_integer(threshold: npt.NDArray[np.float32], *, beyond: bool = False) -> npt.NDArray[np.float64]:
    """The least integer whose next float32 reaches a number, or lies beyond it."""
    infinity = np.float32(np.inf)
    exact = np.where(beyond, np.floor(threshold) + 1, np.ceil(threshold)).astype(np.float64)
    goal = np.nextafter(threshold, infinity) if beyond else threshold
    with np.errstate(invalid="ignore"):
        middle = np.ceil((goal.astype(np.float64) + np.nextafter(goal, -infinity)) / 2)
        reaches = middle.astype(np.float32) >= goal
    return np.where(np.abs(threshold) < EXACT, exact, np.where(reaches, middle, middle + 1))


def first_true(
    count: npt.NDArray[np.int64], holds: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]
) -> npt.NDArray[np.int64]:
    """Of each element, the first index in range(count) at which a predicate that never turns back holds; else count."""
    low, high = np.zeros_like(count), count.copy()
    while (low < high).any():
        middle = (low + high) // 2
        yes = holds(np.minimum(middle, count - 1))
        searching = low < high
        high = np.where(searching & yes, middle, high)
        low = np.where(searching & ~yes, middle + 1, low)
    return low


def fits_byte_sums(taps: int, inputs: int, step: int = 1, centred: bool = False) -> bool:
    """Whether int32 holds sums of products of codes in bytes and weights of 8 bits, in any order.

    taps: of a kernel; inputs: that each reads. step: of the codes. centred: whether weights gave up a number of at most
    255, whose products with the inputs are added up apart.
    """
    largest = 128 + (255 if centred else 0)
    return taps * (inputs + WORD_BYTES) * 255 * largest * step < 2**31
