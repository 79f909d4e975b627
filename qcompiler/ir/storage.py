"""How a tensor of floats or codes lies in memory: one description for kernels, references, bundles and verification.

The code low + i * step is stored as the number i, in words of 32 bits along the channels of a pixel; every group of
channels starts at a word. Words are little-endian: the bytes are the same for every word size.

- In bit planes, bit c % 32 of word c // 32 of plane p is bit p of channel c of a group, and the planes of one word lie
  next to each other. For -1 and +1 there is one plane, in which 1 is +1.
- In bit planes by pixels the words are the same, but the pixels of an image lie next to each other, word by word.
- In bytes, byte c % 4 of word c // 4 is channel c of a group.
- In tables, sixteen words belong to sixteen channels of a group: byte 16 * j + m of them is a sum over the channels
  4 * j + k, k = 0 to 3. In tables of flips it is over all, of the largest number less the channel where bit k of m is
  set; in tables of subsets it is over those where bit k of m is set. Where numbers take more than 6 bits, sixteen words
  are of their lowest 4 bits, and sixteen more, behind them, of the others: these are the digits of a number.

What lies beyond the last channel of a group is 0; in tables such channels are 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import WORD_BITS, WORD_BYTES, pack_bits, unpack_bits

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

Element = Codes | Literal["float32"]
Order = Literal["nhwc", "nchw"]
Packing = Literal["planes", "pixels", "bytes", "flips", "subsets"]
PACKED_LAYOUTS: Mapping[str, Packing] = {
    "bit-nhwc": "planes",
    "bit-nchw": "pixels",
    "byte-nhwc": "bytes",
    "table-nhwc": "flips",
    "subset-nhwc": "subsets",
}
"""How manifests call the layouts of packed codes."""

TABLE_CHANNELS, TABLE_INPUTS = 16, 4
"""Channels of a group whose tables lie side by side, and channels of each table."""
TABLE_DIGIT_BITS = 4
"""Of the lowest digit of numbers in tables that have two."""

_LARGEST_DIGIT = 255 // TABLE_INPUTS


@dataclass(frozen=True)
class Halo:
    """Border pixels stored around every image of a buffer."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


@dataclass(frozen=True)
class Buffer:
    """A tensor of n images of h x w pixels of c channels in memory; a matrix [M, K] is (1, 1, M, K).

    element "float32": order "nhwc" stores [n, height, width, c], "nchw" [n, c, height, width], with height = top + h +
    bottom and width = left + w + right. element `Codes`: order is always "nhwc"; stored as uint32 [n, height, width,
    words], packed in bit planes, bytes or tables, or as [n, words, height, width] in bit planes by pixels. halo_value:
    what the halo holds, a float or one of the codes. Whoever writes the buffer writes its halo.
    """

    n: int
    h: int
    w: int
    c: int
    element: Element
    order: Order = "nhwc"
    halo: Halo = Halo()
    halo_value: float = 0.0
    groups: int = 1
    packing: Packing = "planes"

    @property
    def codes(self) -> Codes | None:
        """The codes of a packed buffer; None for floats."""
        return self.element if isinstance(self.element, Codes) else None

    @property
    def packed(self) -> bool:
        """Whether the buffer holds codes."""
        return isinstance(self.element, Codes)

    @property
    def in_bytes(self) -> bool:
        """Whether the buffer holds codes in bytes."""
        return self.packed and self.packing == "bytes"

    @property
    def in_tables(self) -> bool:
        """Whether the buffer holds codes in tables, of either kind."""
        return self.packed and self.packing in ("flips", "subsets")

    @property
    def digits(self) -> tuple[int, ...]:
        """The largest digits of numbers in tables, the lowest digit first; () for other buffers."""
        return table_digits(self.element.levels) if isinstance(self.element, Codes) and self.in_tables else ()

    @property
    def flips(self) -> int | None:
        """The number whose digits are the largest ones of a buffer in tables of flips; None for other buffers."""
        return _whole(self.digits) if self.packed and self.packing == "flips" else None

    @property
    def in_planes(self) -> bool:
        """Whether the buffer holds codes in bit planes, pixel after pixel."""
        return self.packed and self.packing == "planes"

    @property
    def by_pixels(self) -> bool:
        """Whether the buffer holds codes in bit planes, word after word of all pixels."""
        return self.packed and self.packing == "pixels"

    @property
    def planes(self) -> int:
        """Words of a packed buffer that hold the same channels: its bit planes, or one."""
        assert isinstance(self.element, Codes)
        return self.element.bits if self.in_planes or self.by_pixels else 1

    @property
    def word_channels(self) -> int:
        """Channels in a word of a packed buffer; a table takes as many words as it has channels."""
        return {"bytes": WORD_BYTES, "flips": 1, "subsets": 1}.get(self.packing, WORD_BITS)

    @property
    def group_words(self) -> int:
        """Words of a group of channels of a packed buffer, of each plane."""
        channels = self.c // self.groups
        if self.in_tables:
            return -(-channels // TABLE_CHANNELS) * TABLE_CHANNELS * len(self.digits)
        return -(-channels // self.word_channels)

    @property
    def height(self) -> int:
        """Stored rows per image, halo included."""
        return self.halo.top + self.h + self.halo.bottom

    @property
    def width(self) -> int:
        """Stored pixels per row, halo included."""
        return self.halo.left + self.w + self.halo.right

    @property
    def words(self) -> int:
        """uint32 words per pixel of a packed buffer."""
        return self.groups * self.group_words * self.planes

    @property
    def dtype(self) -> type[np.uint32] | type[np.float32]:
        """The numpy type of the stored array."""
        return np.uint32 if self.packed else np.float32

    @property
    def storage_shape(self) -> tuple[int, int, int, int]:
        """Shape of the stored array."""
        if self.by_pixels:
            return (self.n, self.words, self.height, self.width)
        if self.packed:
            return (self.n, self.height, self.width, self.words)
        if self.order == "nhwc":
            return (self.n, self.height, self.width, self.c)
        return (self.n, self.c, self.height, self.width)

    @property
    def nbytes(self) -> int:
        """Bytes of storage."""
        return prod(self.storage_shape) * 4


def pack(numbers: npt.NDArray[np.floating], codes: Codes, groups: int = 1) -> npt.NDArray[np.uint32]:
    """Codes in bit planes along the last axis.

    numbers: [..., C] of codes; C divisible by `groups`. result: uint32 [..., groups * words_for(C // groups) * planes].
    """
    index = _index(numbers, codes)
    signs = [np.where(index >> plane & 1, np.float32(1), np.float32(-1)) for plane in range(codes.bits)]
    planes = np.stack([pack_bits(plane, groups) for plane in signs], axis=-1)
    return planes.reshape(*numbers.shape[:-1], -1)


def unpack(words: npt.NDArray[np.uint32], codes: Codes, channels: int, groups: int = 1) -> FloatArray:
    """Inverse of `pack`: float32 [..., channels]."""
    planes = words.reshape(*words.shape[:-1], -1, codes.bits)
    index = np.zeros((*words.shape[:-1], channels), np.float32)
    for plane in range(codes.bits):
        bits = unpack_bits(np.ascontiguousarray(planes[..., plane]), channels, groups)
        index += (bits > 0) * np.float32(2**plane)
    return _numbers(index, codes)


def pack_bytes(index: npt.NDArray[np.integer], groups: int = 1) -> npt.NDArray[np.uint32]:
    """Integers of 8 bits, signed or not, in words along the last axis.

    index: [..., C]; C divisible by `groups`. result: uint32 [..., groups * words], each group starts at a word.
    """
    *lead, channels = index.shape
    per_group = channels // groups
    grouped = index.reshape(*lead, groups, per_group).astype(np.uint8)
    padded = np.pad(grouped, [*[(0, 0)] * (len(lead) + 1), (0, -per_group % WORD_BYTES)])
    return np.ascontiguousarray(padded).view("<u4").astype(np.uint32).reshape(*lead, -1)


def unpack_bytes(words: npt.NDArray[np.uint32], channels: int, groups: int = 1) -> npt.NDArray[np.uint8]:
    """Inverse of `pack_bytes` for unsigned integers: uint8 [..., channels]."""
    grouped = np.ascontiguousarray(words).astype("<u4").view(np.uint8).reshape(*words.shape[:-1], groups, -1)
    return grouped[..., : channels // groups].reshape(*words.shape[:-1], channels)


def table_digits(levels: int) -> tuple[int, ...]:
    """The largest digits of so many numbers in tables, the lowest digit first."""
    most = levels - 1
    return (most,) if most <= _LARGEST_DIGIT else (2**TABLE_DIGIT_BITS - 1, most >> TABLE_DIGIT_BITS)


def pack_tables(
    index: npt.NDArray[np.integer], digits: Sequence[int], flips: bool, groups: int = 1
) -> npt.NDArray[np.uint32]:
    """Integers in tables along the last axis, of flips or of subsets.

    index: [..., C]; C divisible by `groups`. digits: the largest ones. result: uint32 [..., groups * words], each group
    starts at a table.
    """
    *lead, channels = index.shape
    grouped = index.reshape(*lead, groups, channels // groups)
    padded = np.pad(grouped, [*[(0, 0)] * (len(lead) + 1), (0, -grouped.shape[-1] % TABLE_CHANNELS)])
    taken = np.stack([_digit(padded, digits, place) for place in range(len(digits))], axis=-1)
    sixteen = taken.reshape(*lead, -1, TABLE_CHANNELS, len(digits)).swapaxes(-1, -2)
    inputs = sixteen.reshape(*sixteen.shape[:-1], -1, 1, TABLE_INPUTS)
    entries = np.arange(1 << TABLE_INPUTS)[:, None] >> np.arange(TABLE_INPUTS) & 1
    most = np.array(digits)[:, None, None, None]
    chosen, others = (most - inputs, inputs) if flips else (inputs, 0)
    sums = np.where(entries, chosen, others).sum(axis=-1).astype(np.uint8)
    words: npt.NDArray[np.uint32] = np.ascontiguousarray(sums.reshape(*lead, -1)).view("<u4").astype(np.uint32)
    return words


def unpack_tables(
    words: npt.NDArray[np.uint32], digits: Sequence[int], flips: bool, channels: int, groups: int = 1
) -> npt.NDArray[np.uint8]:
    """Inverse of `pack_tables`: uint8 [..., channels]."""
    held = np.ascontiguousarray(words).astype("<u4").view(np.uint8)
    sums = held.reshape(*words.shape[:-1], -1, len(digits), TABLE_CHANNELS // TABLE_INPUTS, 1 << TABLE_INPUTS)
    single = sums[..., 1 << np.arange(TABLE_INPUTS)].astype(np.int64)
    most = np.array(digits)[:, None, None]
    taken = (sums[..., :1] - single + most) // 2 if flips else single
    scales = 1 << TABLE_DIGIT_BITS * np.arange(len(digits))[:, None, None]
    index: Array = (taken * scales).sum(axis=-3)
    grouped = index.reshape(*words.shape[:-1], groups, -1)[..., : channels // groups]
    return np.asarray(grouped.reshape(*words.shape[:-1], channels), np.uint8)


def _whole(digits: Sequence[int]) -> int:
    """The number of digits."""
    return sum(digit << TABLE_DIGIT_BITS * place for place, digit in enumerate(digits))


def _digit(index: Array, digits: Sequence[int], place: int) -> Array:
    """The digits at a place of numbers; the last one has all bits that are left."""
    shifted = index >> TABLE_DIGIT_BITS * place
    return shifted if place == len(digits) - 1 else shifted & digits[place]


def _index(numbers: npt.NDArray[np.floating], codes: Codes) -> npt.NDArray[np.int64]:
    """The numbers i of codes low + i * step."""
    return np.rint((numbers - codes.low) / codes.step).astype(np.int64)


def _numbers(index: Array, codes: Codes) -> FloatArray:
    return np.asarray(codes.low + codes.step * index.astype(np.float32), np.float32)


def store(buffer: Buffer, logical: Array) -> Array:
    """Lay out a logical tensor as `buffer` describes, halo included.

    logical: float32 [n, c, h, w]; result: `buffer.dtype` of `buffer.storage_shape`.
    """
    halo = buffer.halo
    pads = [(0, 0), (0, 0), (halo.top, halo.bottom), (halo.left, halo.right)]
    padded = np.pad(logical.astype(np.float32), pads, constant_values=np.float32(buffer.halo_value))
    return _encoded(buffer, padded)


def load(buffer: Buffer, stored: Array) -> FloatArray:
    """Inverse of `store`, without the halo: float32 [n, c, h, w]."""
    inner = interior(buffer, stored)
    if isinstance(buffer.element, Codes):
        inner = _decoded(buffer, buffer.element, np.ascontiguousarray(inner))
    if buffer.packed or buffer.order == "nhwc":
        inner = inner.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(inner, np.float32)


def overwrite(buffer: Buffer, stored: Array, logical: Array) -> None:
    """Replace the tensor in a stored array; the halo keeps what is there.

    logical: float32 [n, c, h, w].
    """
    interior(buffer, stored)[...] = _encoded(buffer, logical)


def interior(buffer: Buffer, stored: Array) -> Array:
    """A view of the stored array without its halo."""
    rows = slice(buffer.halo.top, buffer.halo.top + buffer.h)
    columns = slice(buffer.halo.left, buffer.halo.left + buffer.w)
    planar = buffer.by_pixels or not buffer.packed and buffer.order == "nchw"
    return stored[:, :, rows, columns] if planar else stored[:, rows, columns]


def _encoded(buffer: Buffer, logical: Array) -> Array:
    """float32 [n, c, rows, columns] in the order and element of the buffer."""
    if isinstance(buffer.element, Codes):
        numbers = logical.transpose(0, 2, 3, 1)
        if buffer.in_bytes:
            return pack_bytes(_index(numbers, buffer.element), buffer.groups)
        if buffer.in_tables:
            return pack_tables(_index(numbers, buffer.element), buffer.digits, buffer.packing == "flips", buffer.groups)
        words = pack(numbers, buffer.element, buffer.groups)
        return np.ascontiguousarray(words.transpose(0, 3, 1, 2)) if buffer.by_pixels else words
    return np.ascontiguousarray(logical if buffer.order == "nchw" else logical.transpose(0, 2, 3, 1))


def _decoded(buffer: Buffer, codes: Codes, words: npt.NDArray[np.uint32]) -> FloatArray:
    """Codes [n, h, w, c] from their words."""
    if buffer.by_pixels:
        words = np.ascontiguousarray(words.transpose(0, 2, 3, 1))
    if buffer.in_bytes:
        return _numbers(unpack_bytes(words, buffer.c, buffer.groups), codes)
    if buffer.in_tables:
        numbers = unpack_tables(words, buffer.digits, buffer.packing == "flips", buffer.c, buffer.groups)
        return _numbers(numbers, codes)
    return unpack(words, codes, buffer.c, buffer.groups)
