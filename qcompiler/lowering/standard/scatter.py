"""ScatterElements, ScatterND and MaxUnpool: elements put at indices that are known at run time, each of them checked.

Updates happen in the order of the indices, so one item does all: the last of several updates of an element stays, and
sums are rounded in that order.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.program import Fault
from qcompiler.ir.view import dtype_of, integer, shape_of, text
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.skeleton import (
    Operand,
    digits,
    kernel,
    loop,
    moved,
    operand,
    refuse,
    strides_of,
    within,
)
from qcompiler.targets.vector.emit import Expr, i64, write

_REDUCTIONS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": lambda old, new: T.Select(old < new, new, old),
    "min": lambda old, new: T.Select(new < old, new, old),
}
_ARITHMETIC = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def scatter_elements(node: ir.Node) -> StandardCall:
    """A copy of `data` with out[index[i, j, k], j, k] = updates[i, j, k] along the axis."""
    shape, sizes = shape_of(node.inputs[0]), shape_of(node.inputs[1])
    axis = integer(node, "axis", 0) % len(shape)
    strides = strides_of(shape)

    def update(index: Expr, fault: Expr, put: Callable[[Expr, Expr], None]) -> None:
        with loop(prod(sizes)) as at:
            place = sum(d * s for a, (d, s) in enumerate(zip(digits(at, sizes), strides, strict=True)) if a != axis)
            within(fault, [(index[at], shape[axis], strides[axis])], lambda offset: put(place + offset, at))

    return _scattered(node, update)


def scatter_nd(node: ir.Node) -> StandardCall:
    """A copy of `data` whose slices at tuples of indices are replaced by slices of `updates`."""
    shape, sizes = shape_of(node.inputs[0]), shape_of(node.inputs[1])
    length, strides = sizes[-1], strides_of(shape)
    inner = prod(shape[length:])

    def update(index: Expr, fault: Expr, put: Callable[[Expr, Expr], None]) -> None:
        with loop(prod(sizes[:-1])) as at:
            parts = [(index[at * length + a], shape[a], strides[a]) for a in range(length)]

            def slices(offset: Expr) -> None:
                with loop(inner) as i:
                    put(offset + i, at * inner + i)

            within(fault, parts, slices)

    return _scattered(node, update)


def max_unpool(node: ir.Node) -> StandardCall:
    """Zeros, with every element of the input at its flat index in the output."""
    x, indices, out = node.inputs[0], node.inputs[1], node.outputs[0]
    total = prod(shape_of(out))

    def body(buffers: list[Expr], _: Expr) -> None:
        source, index, target, fault = buffers
        with loop(total) as i:
            write(target, T.Cast(target.dtype, i64(0)), i)
        with loop(prod(shape_of(x))) as i:
            within(fault, [(index[i], total, 1)], lambda offset: write(target, source[i], offset), from_end=False)

    return kernel(node, [moved(x), operand(indices)], [moved(out)], 1, body, faults=[Fault.INDEX])


def _scattered(node: ir.Node, update: Callable[[Expr, Expr, Callable[[Expr, Expr], None]], None]) -> StandardCall:
    """update(indices, fault, put) calls put(offset in the output, offset in the updates) for every update."""
    data, indices, updates = node.inputs[:3]
    reduction = text(node, "reduction", "none")
    view: Callable[[ir.Value], Operand] = moved if reduction == "none" else operand
    if reduction not in _REDUCTIONS or (reduction != "none" and dtype_of(data).name not in _ARITHMETIC):
        raise refuse(node, f"has no reduction '{reduction}' of {dtype_of(data).name}")
    reduce = _REDUCTIONS[reduction]

    def body(buffers: list[Expr], _: Expr) -> None:
        source, index, given, target, fault = buffers
        with loop(prod(shape_of(data))) as i:
            write(target, source[i], i)
        update(index, fault, lambda to, at: write(target, reduce(target[to], given[at]), to))

    reads = [view(data), operand(indices), view(updates)]
    return kernel(node, reads, [view(node.outputs[0])], 1, body, faults=[Fault.INDEX])
