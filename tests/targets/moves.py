"""Random moves of codes: boxes of a box, each with places of an operand or a number."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets.problem import Box, Move2d
from tests.targets.problems import halos

small = st.integers(1, 3)


@st.composite
def buffers(draw: st.DrawFn, codes: Codes) -> Buffer:
    """In bytes, in one group."""
    n, h, w, c = draw(st.integers(1, 2)), draw(small), draw(st.integers(1, 5)), draw(st.integers(1, 40))
    fill = float(codes.low + codes.step * draw(st.integers(0, codes.levels - 1)))
    return Buffer(n, h, w, c, codes, "nhwc", draw(halos()), fill, packing="bytes")


@st.composite
def moves(draw: st.DrawFn) -> Move2d:
    """Sources hold the lower codes of the output, so that what is shifted fits."""
    codes = draw(st.sampled_from([Codes(0, 255), Codes(-3, 9), Codes(-1, 1, 2), Codes(-128, 126, 2)]))
    few = dataclasses.replace(codes, high=codes.low + codes.step * draw(st.integers(1, codes.levels - 1)))
    sources = tuple(draw(st.lists(buffers(few), min_size=1, max_size=3)))
    into = draw(buffers(codes))
    cut = [draw(st.integers(1, size)) for size in (into.n, into.h, into.w, into.c)]
    boxes = []
    for part in range(16):
        spans = [
            (limit, size - limit) if part >> axis & 1 else (0, limit)
            for axis, (limit, size) in enumerate(zip(cut, (into.n, into.h, into.w, into.c), strict=True))
        ]
        if all(extent for _, extent in spans):
            boxes.append(draw(box(spans, sources, codes.levels - few.levels)))
    return Move2d(sources, into, tuple(boxes))


@st.composite
def box(draw: st.DrawFn, spans: list[tuple[int, int]], sources: tuple[Buffer, ...], room: int) -> Box:
    start, extent = (tuple(part) for part in zip(*spans, strict=True))
    shift = draw(st.integers(0, room))
    if draw(st.integers(0, 4)) == 0:
        return Box(start, extent, None, (), shift)
    number = draw(st.integers(0, len(sources) - 1))
    x = sources[number]
    pixel = x.words * 4
    strides = (x.height * x.width * pixel, x.width * pixel, pixel, 1)
    origin = x.halo.top * strides[1] + x.halo.left * pixel
    offsets = [
        tuple(stride * place + (origin if axis == 0 else 0) for place in draw(places(count, size)))
        for axis, (stride, count, size) in enumerate(zip(strides, extent, (x.n, x.h, x.w, x.c), strict=True))
    ]
    return Box(start, extent, number, tuple(offsets), shift)


@st.composite
def places(draw: st.DrawFn, count: int, size: int) -> list[int]:
    """Places along an axis: in a row if there are enough of them, else any."""
    if count <= size and draw(st.integers(0, 3)):
        first = draw(st.integers(0, size - count))
        return list(range(first, first + count))
    return draw(st.lists(st.integers(0, size - 1), min_size=count, max_size=count))
