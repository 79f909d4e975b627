"""How a graph value lies in memory: the forms that consumers ask for and producers deliver.

A rank-4 value is seen as an image (n, h, w, c from NCHW), any other as a matrix (1, 1, rows, last axis). A matrix in
float32 lies exactly as ONNX lays it out, and so does an image in "nchw" order without halo: those are natural forms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

import onnx_ir as ir

from qcompiler.ir.view import dtype_of, shape_of
from qcompiler.targets.problem import Buffer, Halo


@dataclass(frozen=True)
class Form:
    """One way a value is stored; `buffer` is None for element types other than float32 (always natural).

    matrix: whether `buffer` is the matrix view (1, 1, rows, columns) rather than an image.
    """

    buffer: Buffer | None
    nbytes: int
    matrix: bool = False

    @property
    def is_bit(self) -> bool:
        """Whether the value is packed, one bit per element."""
        return self.buffer is not None and self.buffer.dtype == "bit"


def natural(value: ir.Value) -> Form:
    """The form of ONNX itself: dense, in axis order."""
    shape = shape_of(value)
    dtype = dtype_of(value)
    if dtype != "float32":
        return Form(None, prod(shape) * dtype.itemsize)
    return of_buffer(buffer_of(shape, "nchw"), matrix=len(shape) != 4)


def of_buffer(buffer: Buffer, *, matrix: bool) -> Form:
    """The form that stores a value in `buffer`."""
    return Form(buffer, buffer.nbytes, matrix)


def buffer_of(shape: Sequence[int], order: str = "nhwc") -> Buffer:
    """A float32 buffer for a value of ONNX shape `shape`: image if rank 4, else matrix."""
    if len(shape) == 4:
        n, c, h, w = shape
        if order == "nchw":
            return Buffer(n, h, w, c, "float32", "nchw")
        return Buffer(n, h, w, c, "float32", "nhwc")
    columns = shape[-1] if shape else 1
    return Buffer(1, 1, prod(shape[:-1]), columns, "float32", "nhwc")


def is_natural(form: Form) -> bool:
    """Whether the bytes equal ONNX's own."""
    b = form.buffer
    if b is None:
        return True
    plain = b.dtype == "float32" and b.halo == Halo()
    return plain and (form.matrix or b.order == "nchw" or b.h * b.w == 1 or b.c == 1)


def merge(demands: Iterable[Form]) -> list[Form]:
    """The fewest forms that satisfy all demands: halos grow where their values agree.

    A demand is satisfied by a form of equal element type, order and groups whose halo covers its halo; natural forms
    have no halo, because other people's code reads them.
    """
    result: list[Form] = []
    for form in dict.fromkeys(demands):
        if form.buffer is None or is_natural(form):
            if form not in result:
                result.append(form)
            continue
        for index, other in enumerate(result):
            grown = _grow(other, form)
            if grown is not None:
                result[index] = grown
                break
        else:
            result.append(form)
    return result


def satisfies(form: Form, demand: Form) -> bool:
    """Whether a value stored in `form` can be read where `demand` is asked for."""
    if form == demand:
        return True
    a, b = form.buffer, demand.buffer
    if a is None or b is None:
        return False
    if is_natural(form) and is_natural(demand) and a.dtype == b.dtype:
        return form.nbytes == demand.nbytes
    return _grow(form, demand) == form


def _grow(form: Form, demand: Form) -> Form | None:
    a, b = form.buffer, demand.buffer
    if a is None or b is None or form.matrix != demand.matrix or is_natural(form) != is_natural(demand):
        return None
    if (a.n, a.h, a.w, a.c, a.dtype, a.order, a.groups) != (b.n, b.h, b.w, b.c, b.dtype, b.order, b.groups):
        return None
    if a.halo != Halo() and b.halo != Halo() and a.halo_value != b.halo_value:
        return None
    halo = Halo(*(max(x, y) for x, y in zip(_sides(a.halo), _sides(b.halo), strict=True)))
    value = a.halo_value if a.halo != Halo() else b.halo_value
    return of_buffer(replace(a, halo=halo, halo_value=value), matrix=form.matrix)


def _sides(halo: Halo) -> tuple[int, int, int, int]:
    return (halo.top, halo.left, halo.bottom, halo.right)
