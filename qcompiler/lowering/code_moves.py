"""Nodes that only move codes (Concat, Split, Slice, Transpose, Pad, Resize, DepthToSpace, ...) as moves of bytes.

What moves where is found by running the nodes on the numbers of the places, so that no op has a rule of its own. A
kernel takes the sum of an offset per axis of the result, which is checked for what was found.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.moves import moves_elements
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir import oracle
from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, is_op, shape_of
from qcompiler.lowering.code_source import is_storable
from qcompiler.lowering.forms import Form, packed
from qcompiler.lowering.region_model import region_model
from qcompiler.targets.problem import Box, Move2d

Array = npt.NDArray[Any]
Place = tuple[int, int, int, int]
Spans = tuple[tuple[int, int], ...]

# numbers from here on are places, those below are codes; all are exact in float32
_FIRST, _END = 2**20, 2**24
# chosen
_MOST_BOXES = 64


@dataclass(frozen=True)
class Moved:
    """Where the elements of one result come from.

    operand: which of `sources` each place takes from, -1 for none; place: the flat index there, or the code that is
    filled in. Both int64 of the shape of the result.
    """

    sources: tuple[ir.Value, ...]
    operand: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]


def moves_codes(node: ir.Node, ranges: IntegerRanges) -> bool:
    """Whether a node moves codes that can be stored, to places that do not hang on any of them."""
    if has(node, Trait.SLIDES, Trait.REDUCES) or not (moves_elements(node) or is_op(node, "Concat", "Pad")):
        return False
    run_time = _run_time(node)
    data = node.inputs if is_op(node, "Concat") else node.inputs[:1]
    if not run_time or any(value not in data for value in run_time):
        return False
    return all(is_storable(value, ranges) for value in (*run_time, *node.outputs))


def _run_time(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None and constant_of(value) is None]


def trace(nodes: Sequence[ir.Node], inputs: Sequence[ir.Value], result: ir.Value) -> Moved | None:
    """Where a result of the nodes comes from; None where there are too many places to number them."""
    counts = [prod(shape_of(value)) for value in inputs]
    starts = [_FIRST, *(_FIRST + end for end in itertools.accumulate(counts))]
    if starts[-1] > _END or not prod(shape_of(result)):
        return None
    model, names = region_model(nodes)
    places = {
        names[value]: np.arange(start, start + count, dtype=np.float32).reshape(shape_of(value))
        for value, start, count in zip(inputs, starts, counts, strict=False)
    }
    found = np.rint(oracle.run(model, places, [names[result]])[names[result]]).astype(np.int64)
    operand = np.searchsorted(starts, found, side="right") - 1
    place = found - np.where(operand >= 0, np.asarray(starts)[operand], 0)
    used = [number for number in range(len(inputs)) if (operand == number).any()]
    renumbered = np.full(len(inputs) + 1, -1)
    renumbered[used] = range(len(used))
    return Moved(tuple(inputs[number] for number in used), renumbered[operand], place)


def can_move(moved: Moved, result: ir.Value, ranges: IntegerRanges) -> bool:
    """Whether a kernel can do it, whatever borders its operands have, and however they are seen."""
    return bool(moved.sources) and can_write(moved, stored(result, ranges), ranges)


def can_write(moved: Moved, form: Form, ranges: IntegerRanges) -> bool:
    """Whether a kernel can write a form of the result."""
    for rows in (False, True):
        sources = [_with_border(stored(value, ranges, rows=rows)) for value in moved.sources]
        if problem_of_move(moved, sources, _with_border(form)) is None:
            return False
    return True


def stored(value: ir.Value, ranges: IntegerRanges, *, rows: bool = False) -> Form:
    """How moves read and write codes; rows: as a matrix, even if the value could be an image."""
    codes = ranges.codes(value)
    assert codes is not None
    return packed(value, rows or len(shape_of(value)) != 4, codes, packing="bytes")


def _with_border(form: Form) -> Form:
    """With rows that are apart."""
    assert form.buffer is not None
    return replace(form, buffer=replace(form.buffer, halo=Halo(1, 1, 1, 1)))


def problem_of_move(moved: Moved, sources: Sequence[Form], result: Form) -> Move2d | None:
    """The move between forms in bytes; None if offsets do not add up, or codes are on other grids."""
    operand, place = (_in_order(array, result) for array in (moved.operand, moved.place))
    held, into = [_buffer(source) for source in sources], _buffer(result)
    shifts, offsets = [_shift(buffer.codes, into.codes) for buffer in held], [_offsets(source) for source in sources]
    cuts = [_runs(operand, axis) for axis in range(4)]
    if None in shifts or prod(map(len, cuts)) > _MOST_BOXES:
        return None
    boxes = []
    for spans in itertools.product(*cuts):
        here = tuple(slice(first, end) for first, end in spans)
        numbers = np.unique(operand[here])
        if len(numbers) > 1:
            return None
        if numbers[0] < 0:
            box = _filled(spans, place[here], into)
        else:
            box = _moved(spans, int(numbers[0]), offsets[numbers[0]][place[here]], shifts[numbers[0]] or 0)
        if box is None:
            return None
        boxes.append(box)
    return Move2d(tuple(held), into, tuple(boxes))


def _buffer(form: Form) -> Buffer:
    assert form.buffer is not None
    return form.buffer


def _in_order(array: Array, form: Form) -> Array:
    """[n, h, w, c] of an array in the order of the value that is stored in a form."""
    buffer = _buffer(form)
    return array.reshape(1, 1, buffer.w, buffer.c) if form.matrix else array.transpose(0, 2, 3, 1)


def _offsets(form: Form) -> Array:
    """The byte of every element of the value that is stored in a form, flat."""
    buffer = _buffer(form)
    n, y, x, c = np.ogrid[: buffer.n, : buffer.h, : buffer.w, : buffer.c]
    rows = (n * buffer.height + y + buffer.halo.top) * buffer.width
    found = np.asarray((rows + x + buffer.halo.left) * (buffer.words * WORD_BYTES) + c)
    return (found if form.matrix else found.transpose(0, 3, 1, 2)).reshape(-1)


def _shift(source: Codes | None, into: Codes | None) -> int | None:
    """What is added to the number of a code for that of the same code among others; None if there is none."""
    assert source is not None and into is not None
    index = into.index(source.low)
    return index if source.step == into.step or source.levels == 1 else None


def _runs(operand: Array, axis: int) -> list[tuple[int, int]]:
    """Spans along an axis in which neighbours take from the same operands."""
    moved = np.moveaxis(operand, axis, 0)
    same = (moved[1:] == moved[:-1]).all(axis=(1, 2, 3))
    edges = [0, *(np.flatnonzero(~same) + 1), len(moved)]
    return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def _place(spans: Spans) -> tuple[Place, Place]:
    """Start and extent."""
    (n, y, x, c) = spans
    return (n[0], y[0], x[0], c[0]), (n[1] - n[0], y[1] - y[0], x[1] - x[0], c[1] - c[0])


def _filled(spans: Spans, codes: Array, into: Buffer) -> Box | None:
    assert into.codes is not None
    index = into.codes.index(float(codes.flat[0]))
    return Box(*_place(spans), None, (), index) if index is not None and (codes == codes.flat[0]).all() else None


def _moved(spans: Spans, source: int, offsets: Array, shift: int) -> Box | None:
    parts = _added(offsets)
    return None if parts is None else Box(*_place(spans), source, parts, shift)


def _added(offsets: Array) -> tuple[tuple[int, ...], ...] | None:
    """Offsets per axis that add up to those of all places; None if there are none."""
    base = offsets[0, 0, 0, 0]
    parts = [np.moveaxis(offsets, axis, 0)[:, 0, 0, 0] - (base if axis else 0) for axis in range(4)]
    total = parts[0][:, None, None, None] + parts[1][:, None, None] + parts[2][:, None] + parts[3]
    return tuple(tuple(map(int, part)) for part in parts) if np.array_equal(total, offsets) else None
