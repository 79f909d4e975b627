"""What every kernel of a standard operator shares: its parameters, its loops, and indices that are checked.

Kernels work on dense arrays as ONNX lays them out, seen as flat buffers. Those that only move elements take them as
unsigned integers of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.errors import UnsupportedModel
from qcompiler.ir.program import Fault
from qcompiler.ir.view import constant_of, dtype_of, shape_of
from qcompiler.lowering.call import StandardCall
from qcompiler.targets.standard_op import Apart, ItemLoop, Parameter
from qcompiler.targets.vector.emit import Expr, i64, split, write

# bytes; see memory.ALIGNMENT
ALIGN = 64
# what reports call these kernels
KERNEL = "standard"
Array = npt.NDArray[Any]
Body = Callable[[list[Expr], Expr], None]


@dataclass(frozen=True)
class Operand:
    """A tensor that a kernel reads or writes: a graph value or a constant, as `dtype`.

    Without a value it is an output that nobody wants, of `elements` elements.
    """

    dtype: str
    elements: int
    value: ir.Value | None = None
    constant: Array | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.elements * np.dtype(self.dtype).itemsize


def operand(value: ir.Value, dtype: str = "") -> Operand:
    """A graph value in its own element type, or seen as `dtype` of the same size."""
    own = dtype_of(value).name
    return Operand(dtype or ("uint8" if own == "bool" else own), prod(shape_of(value)), value, constant_of(value))


def moved(value: ir.Value) -> Operand:
    """A graph value whose elements are only moved."""
    return operand(value, f"uint{8 * dtype_of(value).itemsize}")


def constant(array: Array) -> Operand:
    """A table made at compile time."""
    return Operand(array.dtype.name, array.size, None, array)


def kernel(
    node: ir.Node,
    reads: Sequence[Operand],
    writes: Sequence[Operand],
    items: int,
    body: Body,
    *,
    temporaries: Sequence[Operand] = (),
    faults: Sequence[Fault] = (),
    apart: Apart | None = None,
) -> StandardCall:
    """A call whose function runs body(buffers, item) for its items.

    buffers: reads, writes, temporaries and, where there are faults, the int32 that takes one. Items must be
    independent of each other. apart: the same in items of one element.
    """
    operands = [*reads, *writes, *temporaries, *([Operand("int32", 1)] if faults else [])]
    parameters = [Parameter(f"p{i}", o.dtype, o.elements, ALIGN) for i, o in enumerate(operands)]
    if faults:
        parameters[-1] = Parameter("fault", "int32", 1, 4)
    return StandardCall(
        op=ItemLoop(tuple(parameters), items, body, apart),
        inputs=tuple(_read(node, item) for item in reads),
        outputs=tuple(_name(node, index, item) for index, item in enumerate(writes)),
        output_bytes=tuple(item.nbytes for item in writes),
        temporaries=tuple(item.nbytes for item in temporaries),
        ops=node.op_type,
        faults=tuple(faults),
        nodes=(node,),
        kernel=KERNEL,
    )


def _read(node: ir.Node, item: Operand) -> str | Array:
    if item.constant is not None:
        return np.ascontiguousarray(item.constant)
    assert item.value is not None, node
    return item.value.name or ""


def _name(node: ir.Node, index: int, item: Operand) -> str:
    if item.value is not None:
        return item.value.name or ""
    wanted = next(value.name for value in node.outputs if value.name)
    return f"{wanted}/output{index}"


def refuse(node: ir.Node, reason: str, remedy: str = "") -> UnsupportedModel:
    """The error for a node that its kernel cannot do."""
    return UnsupportedModel(f"{node.op_type} {reason}", node=node.name or "", remedy=remedy)


def present(values: Sequence[ir.Value | None], index: int) -> ir.Value | None:
    """The optional input or output number `index`; None where it is absent."""
    value = values[index] if index < len(values) else None
    return value if value is not None and value.name else None


def fixed(node: ir.Node, index: int, what: str) -> Array | None:
    """An optional input that must be constant; None where it is absent."""
    value = present(node.inputs, index)
    if value is None:
        return None
    array = constant_of(value)
    if array is None:
        raise refuse(node, f"takes its {what} from a value computed at run time", f"make the {what} an initializer")
    return array


def loop(extent: int) -> Any:
    """A loop over range(extent), to be used in a `with`; its variable is int64."""
    return T.serial(i64(0), i64(extent))


def variable(dtype: str, value: Expr) -> Expr:
    """A variable of the kernel, as a buffer of one element that holds `value`."""
    found = T.alloc_buffer((1,), dtype)
    write(found, value, i64(0))
    return found


def when(condition: Expr, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
    """Run `then` or `otherwise`, depending on a condition at run time."""
    with T.If(condition):
        with T.Then():
            then()
        if otherwise is not None:
            with T.Else():
                otherwise()


def fail(fault: Expr, kind: Fault) -> None:
    """Leave a fault for the runtime."""
    write(fault, T.int32(kind.value), i64(0))


def within(
    fault: Expr, indices: Sequence[tuple[Expr, int, int]], then: Callable[[Expr], None], *, from_end: bool = True
) -> None:
    """Run then(offset) with the sum of index * stride, or leave a fault where an index is outside of its axis.

    indices: (index of any integer type, extent of the axis, stride in elements). from_end: whether negative ones count
    from the end of the axis.
    """
    _within(fault, list(indices), i64(0), then, from_end)


def _within(
    fault: Expr, indices: list[tuple[Expr, int, int]], offset: Expr, then: Callable[[Expr], None], from_end: bool
) -> None:
    if not indices:
        then(offset)
        return
    (raw, extent, stride), *rest = indices
    given = T.bind(i64(raw))
    at = T.bind(T.Select(given < i64(0), given + i64(extent), given)) if from_end else given
    when(
        T.And(at >= i64(0), at < i64(extent)),
        lambda: _within(fault, rest, offset + at * i64(stride), then, from_end),
        lambda: fail(fault, Fault.INDEX),
    )


def strides_of(shape: Sequence[int]) -> list[int]:
    """Elements between neighbours along each axis."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def digits(number: Expr, shape: Sequence[int]) -> list[Expr]:
    """The coordinates of flat position `number` in an array of `shape`."""
    found: list[Expr] = []
    for extent in reversed(shape[1:]):
        number, digit = split(number, extent)
        found.insert(0, digit)
    return [number, *found] if shape else []
