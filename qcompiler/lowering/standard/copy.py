"""A value once more in other memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.skeleton import ALIGN, KERNEL, moved
from qcompiler.targets.standard_op import ItemLoop, Parameter
from qcompiler.targets.vector.emit import Expr, write


def copied(value: ir.Value) -> StandardCall:
    """The elements of `value`, one an item, in an output of the same name."""
    source, name = moved(value), value.name or ""
    return copy_call(name, name, source.dtype, source.elements)


def copy_call(source: str | npt.NDArray[Any], target: str, dtype: str, elements: int) -> StandardCall:
    """A value or a constant of `elements` elements of `dtype`, in an output by the name `target`."""
    size = 1 if dtype == "bool" else np.dtype(dtype).itemsize

    def body(buffers: list[Expr], item: Expr) -> None:
        write(buffers[1], buffers[0][item], item)

    parameters = tuple(Parameter(what, f"uint{8 * size}", elements, ALIGN) for what in ("x", "y"))
    op = ItemLoop(parameters, elements, body)
    return StandardCall(op, (source,), (target,), (size * elements,), (), "copy", kernel=KERNEL)
