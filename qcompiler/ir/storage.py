"""How a tensor of floats or codes lies in memory: one description for kernels, references, bundles and verification.

Codes are packed in bit planes: the code low + i * step is the binary number i, and plane p holds bit p of it. Along the
channels of a pixel, the bit of channel c of a group is bit c % 32 of word c // 32 (little-endian: the bytes are the
same for every word size), and the planes of one word lie next to each other. Bits beyond the last channel of a group
are 0 in every plane. For -1 and +1 there is one plane, in which 1 is +1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import pack_bits, unpack_bits, words_for

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

Element = Codes | Literal["float32"]
Order = Literal["nhwc", "nchw"]


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
    bottom and width = left + w + right. element `Codes`: always "nhwc", stored as uint32 [n, height, width, words] with
    words = groups * words_for(c // groups) * planes. halo_value: what the halo holds, a float or one of the codes.
    Whoever writes the buffer writes its halo.
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

    @property
    def codes(self) -> Codes | None:
        """The codes of a packed buffer; None for floats."""
        return self.element if isinstance(self.element, Codes) else None

    @property
    def packed(self) -> bool:
        """Whether the buffer holds codes in bit planes."""
        return isinstance(self.element, Codes)

    @property
    def planes(self) -> int:
        """Bit planes of a packed buffer."""
        assert isinstance(self.element, Codes)
        return self.element.bits

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
        return self.groups * words_for(self.c // self.groups) * self.planes

    @property
    def dtype(self) -> type[np.uint32] | type[np.float32]:
        """The numpy type of the stored array."""
        return np.uint32 if self.packed else np.float32

    @property
    def storage_shape(self) -> tuple[int, int, int, int]:
        """Shape of the stored array."""
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
    index = np.rint((numbers - codes.low) / codes.step).astype(np.int64)
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
    return np.asarray(codes.low + codes.step * index, np.float32)


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
        inner = unpack(np.ascontiguousarray(inner), buffer.element, buffer.c, buffer.groups)
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
    planar = not buffer.packed and buffer.order == "nchw"
    return stored[:, :, rows, columns] if planar else stored[:, rows, columns]


def _encoded(buffer: Buffer, logical: Array) -> Array:
    """float32 [n, c, rows, columns] in the order and element of the buffer."""
    if isinstance(buffer.element, Codes):
        return pack(logical.transpose(0, 2, 3, 1), buffer.element, buffer.groups)
    return np.ascontiguousarray(logical if buffer.order == "nchw" else logical.transpose(0, 2, 3, 1))
