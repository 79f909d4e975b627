"""Gather, GatherElements and GatherND: elements taken at indices that are known at run time, each of them checked."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from qcompiler.ir.program import Fault
from qcompiler.ir.view import integer, shape_of
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.skeleton import digits, kernel, loop, moved, operand, strides_of, within
from qcompiler.targets.vector.emit import Expr, split, write


def gather(node: ir.Node) -> StandardCall:
    """Slices of `data` along one axis; an item is one slice of the output."""
    data, indices, out = node.inputs[0], node.inputs[1], node.outputs[0]
    shape = shape_of(data)
    axis = integer(node, "axis", 0) % len(shape)
    extent, inner, count = shape[axis], prod(shape[axis + 1 :]), prod(shape_of(indices))

    def body(buffers: list[Expr], item: Expr) -> None:
        source, index, target, fault = buffers
        outer, position = split(item, max(count, 1))

        def copy(offset: Expr) -> None:
            with loop(inner) as i:
                write(target, source[outer * (extent * inner) + offset + i], item * inner + i)

        within(fault, [(index[position], extent, inner)], copy)

    items = prod(shape[:axis]) * count
    return kernel(node, [moved(data), operand(indices)], [moved(out)], items, body, faults=[Fault.INDEX])


def gather_elements(node: ir.Node) -> StandardCall:
    """out[i, j, k] = data[index[i, j, k], j, k] along the axis; an item is one row of the output."""
    data, indices, out = node.inputs[0], node.inputs[1], node.outputs[0]
    shape, sizes = shape_of(data), shape_of(indices)
    axis = integer(node, "axis", 0) % len(shape)
    strides = strides_of(shape)

    def body(buffers: list[Expr], item: Expr) -> None:
        source, index, target, fault = buffers
        leading = digits(item, sizes[:-1])
        with loop(sizes[-1]) as last:
            at = item * sizes[-1] + last
            place = sum(d * s for a, (d, s) in enumerate(zip([*leading, last], strides, strict=True)) if a != axis)

            def copy(offset: Expr) -> None:
                write(target, source[place + offset], at)

            within(fault, [(index[at], shape[axis], strides[axis])], copy)

    reads = [moved(data), operand(indices)]
    return kernel(node, reads, [moved(out)], prod(sizes[:-1]), body, faults=[Fault.INDEX])


def gather_nd(node: ir.Node) -> StandardCall:
    """Slices of `data` at tuples of indices; an item is one tuple."""
    data, indices, out = node.inputs[0], node.inputs[1], node.outputs[0]
    shape, sizes = shape_of(data), shape_of(indices)
    batched, length = integer(node, "batch_dims", 0), sizes[-1]
    strides = strides_of(shape)
    inner, tuples = prod(shape[batched + length :]), prod(sizes[batched:-1])

    def body(buffers: list[Expr], item: Expr) -> None:
        source, index, target, fault = buffers
        batch, _ = split(item, max(tuples, 1))
        axes = range(batched, batched + length)
        parts = [(index[item * length + a - batched], shape[a], strides[a]) for a in axes]

        def copy(offset: Expr) -> None:
            with loop(inner) as i:
                write(target, source[batch * prod(shape[batched:]) + offset + i], item * inner + i)

        within(fault, parts, copy)

    reads = [moved(data), operand(indices)]
    return kernel(node, reads, [moved(out)], prod(sizes[:-1]), body, faults=[Fault.INDEX])
