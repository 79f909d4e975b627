"""Shifts of opset 28, whose operands may be signed and whose distances may be anything."""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler.frontend import attributes
from qcompiler.frontend.emitter import Emitter

_T = onnx.TensorProto


def bit_shift(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Shifts of 64 bits without a sign: a right shift of x < 0 is that of -1 - x, turned back.

    A distance below 0 or of all the bits leaves the sign alone.
    """
    x, distance = node.input
    kind = emitter.element_type(x)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    rightwards = attributes.text(node, "direction", "") == "RIGHT"
    nought, ones, bits = (emitter.constant(value, "constant", np.int64) for value in (0, -1, 8 * dtype.itemsize))
    wide, steps = (emitter.op("Cast", [name], to=_T.INT64) for name in (x, distance))
    limits = [emitter.op("GreaterOrEqual", [steps, nought]), emitter.op("Less", [steps, bits])]
    inside = emitter.op("And", limits)
    steps = emitter.op("Where", [inside, steps, nought])
    negative = emitter.op("Less", [wide, nought]) if rightwards and dtype.kind == "i" else ""
    if negative:
        wide = emitter.op("Where", [negative, emitter.op("Sub", [ones, wide]), wide])
    operands = [emitter.op("Cast", [name], to=_T.UINT64) for name in (wide, steps)]
    moved = emitter.op("BitShift", operands, direction="RIGHT" if rightwards else "LEFT")
    result = emitter.op("Where", [inside, emitter.op("Cast", [moved], to=_T.INT64), nought])
    if negative:
        result = emitter.op("Where", [negative, emitter.op("Sub", [ones, result]), result])
    emitter.op("Cast", [result], node.output, to=kind)
