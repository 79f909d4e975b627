"""Operands of the quantizers of foreign dialects: scales, zero points and bit widths, checked before they are used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend.consistency import broadcasts
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir.plausible import REMEDY, not_finite, not_positive

FloatArray = npt.NDArray[np.float32]


def latent(emitter: Emitter, node: onnx.NodeProto, index: int) -> str:
    """What is quantized, as float32; stored numbers (weights) must not be NaN, which a quantizer would hide."""
    name = floats(emitter, node, index)
    value = emitter.constant_value(name)
    if value is not None and bool(np.isnan(value).any()):
        raise InvalidModel(f"{node.op_type} quantizes stored numbers that are NaN", node=label(node), remedy=REMEDY)
    return name


def floats(emitter: Emitter, node: onnx.NodeProto, index: int) -> str:
    """An input as float32; parameters are also stored as integers."""
    name = node.input[index]
    if name not in emitter.types:
        raise InvalidModel(f"input '{name}' is defined nowhere", node=label(node), remedy="export the model again")
    if emitter.element_type(name) == onnx.TensorProto.FLOAT:
        return str(name)
    value = emitter.constant_value(name)
    if value is not None:
        return emitter.constant(value, f"parameter{index}")
    return emitter.op("Cast", [name], to=onnx.TensorProto.FLOAT)


def scale_of(emitter: Emitter, node: onnx.NodeProto, index: int) -> str:
    """A scale as float32; a constant one must be finite, above 0, and broadcast to the quantized value."""
    return parameter_of(emitter, node, index, "a scale", not_positive)


def zero_point_of(emitter: Emitter, node: onnx.NodeProto, index: int) -> str:
    """A zero point as float32; a constant one must be finite, and broadcast to the quantized value."""
    return parameter_of(emitter, node, index, "a zero point", not_finite)


def parameter_of(
    emitter: Emitter, node: onnx.NodeProto, index: int, what: str, check: Callable[[str, FloatArray], str]
) -> str:
    """A parameter as float32, called `what` in errors; a constant one must pass the check, which says what is wrong."""
    name = floats(emitter, node, index)
    shape, wanted = emitter.shape(name), emitter.shape(node.input[0])
    problem = "" if broadcasts(shape, wanted) else f"{what} of shape {list(shape)} for a value of shape {list(wanted)}"
    value = emitter.computed_value(name)
    if not problem and value is not None:
        problem = check(what, value)
    if problem:
        raise InvalidModel(f"{node.op_type} has {problem}", node=label(node), remedy=REMEDY)
    return name


def value_of(emitter: Emitter, node: onnx.NodeProto, name: str) -> FloatArray:
    """A parameter that must be constant, as float32."""
    value = emitter.computed_value(name)
    if value is None:
        raise UnsupportedModel(
            f"parameter '{name}' of {node.op_type} depends on data", node=label(node), remedy="export it as a constant"
        )
    return value.astype(np.float32)


def bits_of(emitter: Emitter, node: onnx.NodeProto, index: int) -> int:
    """A bit width: one constant for all channels, from 1 to 32."""
    value = value_of(emitter, node, node.input[index]).reshape(-1)
    if value.size == 0 or not bool(np.isfinite(value).all()) or bool((value != np.round(value[0])).any()):
        raise UnsupportedModel("the bit width differs between channels", node=label(node), remedy="use one bit width")
    if not 1 <= value[0] <= 32:
        raise InvalidModel(f"a bit width of {value[0]}, expected 1 to 32", node=label(node), remedy="export it again")
    return int(value[0])


def is_all(emitter: Emitter, name: str, number: float) -> bool:
    """Whether a value is the constant `number`."""
    value = emitter.constant_value(name)
    return value is not None and bool((value == number).all()) and value.size == 1


def reshaped(emitter: Emitter, name: str, shape: tuple[int, ...]) -> str:
    """A parameter in another shape."""
    value = emitter.constant_value(name)
    if value is not None:
        return emitter.constant(value.reshape(shape), "parameter")
    return emitter.op("Reshape", [name, emitter.constant(shape, "shape", np.int64)])
