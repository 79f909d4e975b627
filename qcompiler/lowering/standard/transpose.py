"""Transpose of float32: runs of elements that stay neighbours, or tiles of sixteen by sixteen in registers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.axis_order import is_marked
from qcompiler.ir.view import dtype_of, ints, shape_of
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.runs import copy_run
from qcompiler.lowering.standard.skeleton import digits, kernel, loop, operand, strides_of
from qcompiler.targets.standard_op import Apart
from qcompiler.targets.vector.emit import LANES, Expr, fenced, i64, lanes, write
from qcompiler.targets.vector.transpose_map import transposed


def transpose(node: ir.Node) -> StandardCall | None:
    """An item is a run of neighbours, or a plane of the first and the last axis that change places."""
    source, out = node.inputs[0], node.outputs[0]
    if is_marked(node) or dtype_of(source) != "float32" or not prod(shape_of(source)):
        return None
    rank = len(shape_of(source))
    shape, order = merged(shape_of(source), ints(node, "perm", tuple(range(rank))[::-1]))
    strides = strides_of(shape)
    moved_strides, sizes = [strides[axis] for axis in order], [shape[axis] for axis in order]

    def one(buffers: list[Expr], element: Expr) -> None:
        write(buffers[1], buffers[0][_offset(element, sizes, moved_strides)], element)

    apart = Apart(prod(sizes), one)
    if order[-1] == len(shape) - 1:
        width = sizes[-1]

        def run(buffers: list[Expr], item: Expr) -> None:
            start = _offset(item, sizes[:-1], moved_strides[:-1])
            copy_run(buffers[0], T.bind(start), buffers[1], T.bind(item * width), width)

        return kernel(node, [operand(source)], [operand(out)], prod(sizes[:-1]), run, apart=apart)
    return _planes(node, sizes, moved_strides, apart)


def _planes(node: ir.Node, sizes: Sequence[int], strides: Sequence[int], apart: Apart) -> StandardCall:
    """sizes: of the output's axes; strides: of the same in the input, where another axis than the last has 1."""
    inner = strides.index(1)
    others = [axis for axis in range(len(sizes)) if axis not in (inner, len(sizes) - 1)]
    rows, columns = sizes[inner], sizes[-1]
    row_step, column_step = strides_of(sizes)[inner], strides[-1]

    def body(buffers: list[Expr], item: Expr) -> None:
        source, target = buffers
        start = T.bind(_offset(item, [sizes[a] for a in others], [strides[a] for a in others]))
        at = T.bind(_offset(item, [sizes[a] for a in others], [strides_of(sizes)[a] for a in others]))
        if min(rows, columns) < LANES:
            with loop(rows) as r, loop(columns) as c:
                write(target, fenced(source[start + r + c * column_step], 1), at + r * row_step + c)
            return
        with loop(-(-rows // LANES)) as r, loop(-(-columns // LANES)) as c:
            # the last tiles overlap those before them
            top, left = T.bind(T.min(r * LANES, i64(rows - LANES))), T.bind(T.min(c * LANES, i64(columns - LANES)))
            read = start + top + left * column_step
            tile = [T.bind(fenced(source[lanes(read + i * column_step)])) for i in range(LANES)]
            for i, line in enumerate(transposed(tile)):
                write(target, line, lanes(at + (top + i) * row_step + left))

    source, out = operand(node.inputs[0]), operand(node.outputs[0])
    return kernel(node, [source], [out], prod(sizes[axis] for axis in others), body, apart=apart)


def _offset(item: Expr, sizes: Sequence[int], strides: Sequence[int]) -> Expr:
    """Where item number `item` of axes of `sizes` lies."""
    found = i64(0)
    for digit, stride in zip(digits(item, sizes), strides, strict=False):
        found = found + digit * stride
    return found


def merged(shape: Sequence[int], perm: Sequence[int]) -> tuple[list[int], list[int]]:
    """Shape and permutation without axes of extent 1, and with those that stay neighbours as one; at least one axis."""
    kept = [axis for axis in perm if shape[axis] != 1]
    runs: list[list[int]] = []
    for axis in kept:
        between = range(runs[-1][-1] + 1, axis) if runs else ()
        if runs and axis > runs[-1][-1] and all(shape[other] == 1 for other in between):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    order = sorted(range(len(runs)), key=lambda i: runs[i][0])
    place = {run: position for position, run in enumerate(order)}
    extents = [prod(shape[axis] for axis in runs[i]) for i in order]
    return extents or [1], [place[i] for i in range(len(runs))] or [0]
