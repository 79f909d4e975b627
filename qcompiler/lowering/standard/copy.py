"""A value once more in other memory."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.lowering.call import GenericCall
from qcompiler.lowering.standard.frame import ALIGN, moved
from qcompiler.targets.vector.emit import Expr, Parameter, prim_func, write


def copied(value: ir.Value) -> GenericCall:
    """The elements of `value`, one an item, in an output of the same name."""
    source, name = moved(value), value.name or ""

    def body(buffers: list[Expr], item: Expr) -> None:
        write(buffers[1], buffers[0][item], item)

    parameters = [Parameter(what, source.dtype, source.elements, ALIGN) for what in ("x", "y")]
    function = prim_func("kernel", parameters, body)
    return GenericCall(function, (name,), (name,), (source.nbytes,), (), source.elements, "copy")
