"""How a graph value lies in memory: the forms that consumers ask for and producers deliver.

A value of rank 4 may be seen as an image (n, c, h, w), any value as a matrix (rows, last axis). Whether two forms are
the same bytes is decided by their layouts alone (layouts.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import onnx_ir as ir

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo, Packing
from qcompiler.ir.view import dtype_of, shape_of
from qcompiler.lowering.layouts import Layout, dense, layout_of


@dataclass(frozen=True)
class Form:
    """One way a value is stored; `buffer` is None for element types other than float32, which lie as ONNX has them.

    matrix: whether `buffer` is the matrix view (1, 1, rows, columns) rather than an image.
    """

    buffer: Buffer | None
    nbytes: int
    matrix: bool = False
    element: str = "float32"

    @cached_property
    def layout(self) -> Layout:
        """Where the elements are."""
        if self.buffer is None:
            return dense(self.element, (self.nbytes,))
        return layout_of(self.buffer, matrix=self.matrix)

    @property
    def is_packed(self) -> bool:
        """Whether the value is stored as codes."""
        return self.buffer is not None and self.buffer.packed

    @property
    def packed_groups(self) -> int | None:
        """Groups of channels of a packed value; None for others."""
        return self.buffer.groups if self.buffer is not None and self.buffer.packed else None

    @property
    def is_natural(self) -> bool:
        """Whether the bytes equal ONNX's own."""
        return self.layout.is_natural


@dataclass(frozen=True)
class Read:
    """A value as a kernel asks for it.

    exact: the kernel is not ours, and reads no wider halo than it asks for. any_packing: of codes that lie in one
    group, it reads any packing.
    """

    value: ir.Value
    form: Form
    exact: bool = False
    any_packing: bool = False


def natural(value: ir.Value) -> Form:
    """The form of ONNX itself: dense, in axis order."""
    shape = shape_of(value)
    dtype = dtype_of(value)
    if dtype != "float32":
        return Form(None, prod(shape) * dtype.itemsize, element=dtype.name)
    matrix = len(shape) != 4
    return of_buffer(matrix_buffer(shape) if matrix else image_buffer(shape, "nchw"), matrix=matrix)


def natural_view(value: ir.Value, matrix: bool) -> Form:
    """The natural form of a float32 value, seen as a matrix or, at rank 4, as an image."""
    return of_buffer(matrix_buffer(shape_of(value)), matrix=True) if matrix else natural(value)


def plain(value: ir.Value, matrix: bool) -> Form:
    """The channels-last float32 form of a value without halo, in a view."""
    shape = shape_of(value)
    return of_buffer(matrix_buffer(shape) if matrix else image_buffer(shape), matrix=matrix)


def packed(value: ir.Value, matrix: bool, codes: Codes, groups: int = 1, packing: Packing = "planes") -> Form:
    """The packed form of codes without halo, in a view."""
    buffer = plain(value, matrix).buffer
    assert buffer is not None
    return of_buffer(replace(buffer, element=codes, groups=groups, packing=packing), matrix=matrix)


def pixel_by_pixel(form: Form) -> Form:
    """The form of bit planes that those by pixels are made of; every other form as it is."""
    if form.buffer is None or not form.buffer.by_pixels:
        return form
    return of_buffer(replace(form.buffer, packing="planes"), matrix=form.matrix)


def of_buffer(buffer: Buffer, *, matrix: bool) -> Form:
    """The form that stores a value in `buffer`."""
    return Form(buffer, buffer.nbytes, matrix)


def image_buffer(shape: Sequence[int], order: str = "nhwc") -> Buffer:
    """A float32 buffer of an image of ONNX shape [n, c, h, w]."""
    n, c, h, w = shape
    return Buffer(n, h, w, c, "float32", "nchw" if order == "nchw" else "nhwc")


def matrix_buffer(shape: Sequence[int]) -> Buffer:
    """A float32 buffer of a value of any shape as rows of its last axis."""
    columns = shape[-1] if shape else 1
    return Buffer(1, 1, prod(shape[:-1]), columns, "float32")


def merge(reads: Iterable[Read]) -> list[Form]:
    """The fewest forms that serve all reads: halos grow where their values agree, save under exact reads."""
    result: list[tuple[Form, bool]] = []
    for read in sorted(dict.fromkeys(reads), key=lambda each: each.any_packing):
        if read.any_packing and any(serves(form, read) for form, _ in result):
            continue
        form, exact = read.form, read.exact or read.form.is_natural
        if exact:
            if not any(is_exact and other.layout == form.layout for other, is_exact in result):
                result.append((form, True))
            continue
        for index, (other, is_exact) in enumerate(result):
            grown = None if is_exact else _grown(other, form)
            if grown is not None:
                result[index] = (grown, False)
                break
        else:
            result.append((form, False))
    return _without_covered(result)


def _without_covered(forms: Sequence[tuple[Form, bool]]) -> list[Form]:
    """Forms without those that an exact one of the same layout makes needless."""
    exact = [form for form, is_exact in forms if is_exact]
    return [form for form, is_exact in forms if is_exact or not any(form.layout == other.layout for other in exact)]


def serves(stored: Form, read: Read) -> bool:
    """Whether a value stored in `stored` can be read where `read` is asked for."""
    if stored.layout == read.form.layout:
        return True
    if read.any_packing and _same_codes(stored, read.form):
        return True
    return not read.exact and _grown(stored, read.form) == stored


def _same_codes(a: Form, b: Form) -> bool:
    """Whether both store codes in one group in the same view, pixel by pixel, whatever their packings and halos."""
    if a.buffer is None or b.buffer is None or a.matrix != b.matrix or not a.is_packed or a.buffer.by_pixels:
        return False
    return a.buffer.element == b.buffer.element and a.packed_groups == b.packed_groups == 1


def _grown(form: Form, other: Form) -> Form | None:
    """The form whose halo covers those of two forms that differ in nothing else; None if they do."""
    a, b = form.buffer, other.buffer
    if a is None or b is None or form.matrix != other.matrix or form.is_natural or other.is_natural:
        return None
    if replace(a, halo=Halo(), halo_value=0.0) != replace(b, halo=Halo(), halo_value=0.0):
        return None
    if a.halo != Halo() and b.halo != Halo() and a.halo_value != b.halo_value:
        return None
    halo = Halo(*(max(x, y) for x, y in zip(_sides(a.halo), _sides(b.halo), strict=True)))
    value = a.halo_value if a.halo != Halo() else b.halo_value
    return of_buffer(replace(a, halo=halo, halo_value=value), matrix=form.matrix)


def _sides(halo: Halo) -> tuple[int, int, int, int]:
    return (halo.top, halo.left, halo.bottom, halo.right)


def as_view(form: Form, value: ir.Value, matrix: bool) -> Form | None:
    """The form of a value as a kernel of a view sees the same bytes; None if it cannot."""
    if form.matrix == matrix:
        return form
    return natural_view(value, matrix) if form.is_natural and form.buffer is not None else None


def through_alias(form: Form, source: ir.Value) -> Form | None:
    """The form of `source` that holds the bytes of `form`, a form of its alias; None if there is none."""
    if form.is_natural:
        return natural(source)
    buffer = form.buffer
    assert buffer is not None
    shape = shape_of(source)
    for matrix in (False, True):
        if matrix and buffer.halo != Halo() or not matrix and len(shape) != 4:
            continue
        view = matrix_buffer(shape) if matrix else image_buffer(shape)
        if view.c % buffer.groups:
            continue
        same = replace(buffer, n=view.n, h=view.h, w=view.w, c=view.c, order="nhwc")
        other = of_buffer(same, matrix=matrix)
        if other.layout == form.layout:
            return other
    return None
