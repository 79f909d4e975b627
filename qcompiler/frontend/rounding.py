"""Cast to 16-bit floats: the numbers are rounded to the type, and stay in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from qcompiler.frontend import attributes
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.float32 import HALVES
from qcompiler.ir.ops import DOMAIN

Array = npt.NDArray[Any]


def cast(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """A Cast; numbers become a 16-bit float as in onnxruntime, by way of float32."""
    target = attributes.integer(node, "to", 0)
    if target not in HALVES:
        emitter.place(node)
        return
    x, constant = node.input[0], emitter.constant_value(node.input[0])
    if constant is not None and not emitter.are_outputs(node.output):
        emitter.add_initializer(node.output[0], onnx.numpy_helper.from_array(_rounded(constant, target)))
        return
    if emitter.element_type(x) != onnx.TensorProto.FLOAT:
        x = emitter.op("Cast", [x], to=onnx.TensorProto.FLOAT)
    emitter.op("RoundTo", [x], node.output, DOMAIN, to=target)


def _rounded(constant: Array, target: int) -> Array:
    with np.errstate(over="ignore"):
        half = constant.astype(np.float32).astype(onnx.helper.tensor_dtype_to_np_dtype(target))
    return half.astype(np.float32)
