"""Where each element of a value lies in memory, in a normal form: equal layouts hold the same bytes and meaning.

A layout lists the loops over memory from the outermost in; each says how far one step moves in the value as ONNX lays
it out, flattened. So a layout knows nothing of shapes, and an alias (Reshape and its kin, which keep the order of
elements) has the layout of what it renames. Packed channels are loops over groups and over the channels of a group,
the latter followed by what fills up its last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo, Packing


@dataclass(frozen=True)
class LayoutAxis:
    """`extent` elements, `stride` flattened elements apart, between `before` and `after` entries that are none."""

    extent: int
    stride: int
    before: int = 0
    after: int = 0

    @property
    def is_bare(self) -> bool:
        """Whether there are elements only."""
        return self.before == self.after == 0


@dataclass(frozen=True)
class Layout:
    """Loops over memory, outermost first; element: codes or a numpy dtype name; border: what a halo holds.

    packing: of codes; None for others.
    """

    element: Codes | str
    loops: tuple[LayoutAxis, ...]
    border: float = 0.0
    packing: Packing | None = None

    @property
    def is_natural(self) -> bool:
        """Whether the elements lie as ONNX has them, with nothing in between."""
        return isinstance(self.element, str) and all(loop.is_bare and loop.stride == 1 for loop in self.loops)


def dense(element: str, shape: Sequence[int]) -> Layout:
    """The layout of ONNX itself."""
    return _normal(element, [LayoutAxis(prod(shape), 1)])


def layout_of(buffer: Buffer, *, matrix: bool) -> Layout:
    """The layout of a value that is stored in `buffer`.

    matrix: the value is [rows, columns] = [w, c] of the buffer, however many axes its rows have, without a halo; else
    it is an image [n, c, h, w].
    """
    if matrix:
        assert buffer.n == buffer.h == 1 and buffer.halo == Halo()
        rows = LayoutAxis(buffer.w, buffer.c)
        if buffer.by_pixels:
            loops = [*_words(buffer, 1), rows, LayoutAxis(buffer.word_channels, 1)]
        else:
            loops = [rows, *_channels(buffer, 1)]
        return _normal(buffer.element, loops, packing=_packing(buffer))
    plane = buffer.h * buffer.w
    images = LayoutAxis(buffer.n, buffer.c * plane)
    height = LayoutAxis(buffer.h, buffer.w, buffer.halo.top, buffer.halo.bottom)
    width = LayoutAxis(buffer.w, 1, buffer.halo.left, buffer.halo.right)
    if buffer.by_pixels:
        loops = [images, *_words(buffer, plane), height, width, LayoutAxis(buffer.word_channels, plane)]
    elif not buffer.packed and buffer.order == "nchw":
        loops = [images, LayoutAxis(buffer.c, plane), height, width]
    else:
        loops = [images, height, width, *_channels(buffer, plane)]
    return _normal(buffer.element, loops, _border(buffer), _packing(buffer))


def _packing(buffer: Buffer) -> Packing | None:
    return buffer.packing if buffer.packed else None


def _border(buffer: Buffer) -> float:
    return buffer.halo_value if buffer.halo != Halo() else 0.0


def _channels(buffer: Buffer, stride: int) -> list[LayoutAxis]:
    """The channels of one pixel, `stride` flattened elements apart."""
    if not buffer.packed:
        return [LayoutAxis(buffer.c, stride)]
    per_group = buffer.c // buffer.groups
    filling = buffer.group_words * buffer.word_channels - per_group
    return [LayoutAxis(buffer.groups, per_group * stride), LayoutAxis(per_group, stride, 0, filling)]


def _words(buffer: Buffer, stride: int) -> list[LayoutAxis]:
    """The words of the channels of a pixel, which are `stride` flattened elements apart; the last is filled up."""
    per_group = buffer.c // buffer.groups
    filling = buffer.group_words * buffer.word_channels - per_group
    words = LayoutAxis(buffer.group_words, buffer.word_channels * stride, 0, filling)
    return [LayoutAxis(buffer.groups, per_group * stride), words]


def _normal(
    element: Codes | str, loops: Iterable[LayoutAxis], border: float = 0.0, packing: Packing | None = None
) -> Layout:
    """Loops of one step go, loops that continue each other become one."""
    result: list[LayoutAxis] = []
    for loop in loops:
        if loop.extent == 1:
            if loop.is_bare:
                continue
            loop = LayoutAxis(1, 0, loop.before, loop.after)
        last = result[-1] if result else None
        if last and last.is_bare and loop.is_bare and last.stride == loop.extent * loop.stride:
            result[-1] = LayoutAxis(last.extent * loop.extent, loop.stride)
        else:
            result.append(loop)
    return Layout(element, tuple(result), border, packing)
