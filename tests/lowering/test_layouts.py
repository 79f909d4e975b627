"""Layouts against the packing that the reference of kernels does: equal layouts hold equal bytes, and only those."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.lowering.layouts import Layout, LayoutAxis, dense, layout_of
from qcompiler.targets import reference

SIZES = st.sampled_from([1, 1, 2, 3, 4])
CHANNELS = st.sampled_from([1, 2, 3, 4, 32, 33, 64, 96])


@st.composite
def buffers(draw: st.DrawFn) -> tuple[Buffer, bool]:
    matrix = draw(st.booleans())
    n, h = (1, 1) if matrix else (draw(SIZES), draw(SIZES))
    w, c = draw(SIZES), draw(CHANNELS)
    bit = draw(st.booleans())
    groups = draw(st.sampled_from([g for g in (1, 2, 3, c) if c % g == 0])) if bit else 1
    halo = Halo() if matrix or draw(st.booleans()) else Halo(*draw(st.tuples(*[st.integers(0, 1)] * 4)))
    order = "nhwc" if bit or matrix else draw(st.sampled_from(["nhwc", "nchw"]))
    value = draw(st.sampled_from([-1.0, 1.0] if bit else [0.0, 1.0]))
    packing = draw(st.sampled_from(["planes", "bytes", "pixels"])) if bit else "planes"
    return Buffer(n, h, w, c, BINARY if bit else "float32", order, halo, value, groups, packing), matrix


def stored(buffer: Buffer, matrix: bool, flat: np.ndarray) -> bytes:
    """The bytes of the elements of a value in ONNX's order."""
    shape = (buffer.w, buffer.c) if matrix else (buffer.n, buffer.c, buffer.h, buffer.w)
    logical = flat.reshape(shape)
    image = logical.T[None, :, None, :] if matrix else logical
    return reference.store(buffer, image).tobytes()


def holds_the_same(a: tuple[Buffer, bool], b: tuple[Buffer, bool]) -> bool:
    """Whether enough random values lie in the same bytes in both."""
    size = prod((a[0].n, a[0].c, a[0].h, a[0].w))
    generator = np.random.default_rng(size)
    for _ in range(12):
        flat = np.where(generator.random(size) < 0.5, -1, 1).astype(np.float32)
        if a[0].dtype == "float32":
            flat = np.arange(2, size + 2, dtype=np.float32)
        if stored(*a, flat) != stored(*b, flat):
            return False
    return True


def related(draw: st.DrawFn, buffer: Buffer, matrix: bool) -> tuple[Buffer, bool]:
    """Another buffer of as many elements, alike in most respects."""
    changes = draw(st.sampled_from(["view", "order", "groups", "halo", "swap"]))
    n, h, w, c = buffer.n, buffer.h, buffer.w, buffer.c
    if changes == "view" and not matrix and buffer.halo == Halo():
        order = "nhwc"
        rows, columns = draw(st.sampled_from([(n * h * w, c), (n * c * h, w), (n, c * h * w)]))
        groups = buffer.groups if columns % buffer.groups == 0 else 1
        return Buffer(1, 1, rows, columns, buffer.element, order, groups=groups, packing=buffer.packing), True
    if changes == "view" and matrix:
        return replace(buffer, n=w, w=1), False
    if changes == "order" and not buffer.packed and not matrix:
        return replace(buffer, order="nchw" if buffer.order == "nhwc" else "nhwc"), matrix
    if changes == "groups" and buffer.packed:
        return replace(buffer, groups=draw(st.sampled_from([g for g in (1, 2, 3, c) if c % g == 0]))), matrix
    if changes == "halo" and not matrix:
        return replace(buffer, halo=Halo(1, 0, 0, 1), halo_value=draw(st.sampled_from([-1.0, 1.0]))), matrix
    return (replace(buffer, h=w, w=h), matrix) if not matrix else (buffer, matrix)


@given(st.data())
def test_layouts_are_equal_exactly_where_bytes_are(data: st.DataObject) -> None:
    first = data.draw(buffers())
    second = related(data.draw, *first)
    same = holds_the_same(first, second)
    # one bit pattern may serve two layouts by chance only if the elements are few; then equality may be refused
    equal = layout_of(first[0], matrix=first[1]) == layout_of(second[0], matrix=second[1])
    if equal:
        assert same
    elif same:
        assert first[0].packed and min(prod((b.n, b.c, b.h, b.w)) for b, _ in (first, second)) <= 4


def test_natural_layouts() -> None:
    image = Buffer(2, 3, 4, 5, "float32", "nchw")
    assert layout_of(image, matrix=False) == dense("float32", (2, 5, 3, 4))
    assert layout_of(replace(image, order="nhwc"), matrix=False) != dense("float32", (2, 5, 3, 4))
    assert layout_of(Buffer(1, 1, 6, 7, "float32"), matrix=True) == dense("float32", (2, 3, 7))
    assert dense("float32", (2, 3)) != dense("int64", (2, 3))
    assert dense("float32", ()).is_natural
    assert not layout_of(replace(image, halo=Halo(1, 0, 0, 0)), matrix=False).is_natural
    assert not layout_of(Buffer(1, 1, 1, 32, BINARY), matrix=True).is_natural


def test_channels_that_fill_words_lie_alike_in_any_groups() -> None:
    packed = Buffer(1, 2, 2, 128, BINARY)
    assert layout_of(packed, matrix=False) == layout_of(replace(packed, groups=4), matrix=False)
    assert layout_of(packed, matrix=False) != layout_of(replace(packed, groups=8), matrix=False)
    assert layout_of(replace(packed, h=1, c=3), matrix=True) == Layout(
        BINARY, (LayoutAxis(2, 3), LayoutAxis(3, 1, 0, 29)), packing="planes"
    )


def test_bytes_lie_elsewhere_than_planes() -> None:
    planes = Buffer(1, 2, 2, 128, BINARY)
    in_bytes = replace(planes, packing="bytes")
    assert layout_of(in_bytes, matrix=False) != layout_of(planes, matrix=False)
    assert layout_of(in_bytes, matrix=False) == layout_of(replace(in_bytes, groups=8), matrix=False)
    assert layout_of(in_bytes, matrix=False) != layout_of(replace(in_bytes, groups=64), matrix=False)
    assert layout_of(replace(in_bytes, h=1, c=3), matrix=True) == Layout(
        BINARY, (LayoutAxis(2, 3), LayoutAxis(3, 1, 0, 1)), packing="bytes"
    )
