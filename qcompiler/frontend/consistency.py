"""What the standard's shape inference lets pass and onnxruntime refuses only when it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx

from qcompiler.errors import InvalidModel
from qcompiler.frontend import attributes
from qcompiler.frontend.structure import label

Shapes = Sequence[tuple[int, ...]]


# libraries cut attributes to 32 bits, and take the rest for a number
_MOST = 2**31 - 1


def check_integers(node: onnx.NodeProto) -> None:
    """Refuse integers in attributes that no axis, size or count can be."""
    for attribute in node.attribute:
        large = [value for value in (attribute.i, *attribute.ints) if abs(value) > _MOST]
        if large:
            raise InvalidModel(
                f"attribute '{attribute.name}' of {node.op_type} is {large[0]}, expected at most {_MOST}",
                node=label(node),
                remedy="the file is damaged; export it again",
            )


def check_shapes(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> None:
    """Refuse a node whose operands do not fit each other.

    inputs: shapes of the inputs in order, () for an absent one; output: shape of the first output.
    """
    check = _CHECKS.get(node.op_type)
    problem = check(node, inputs, output) if check is not None else ""
    if problem:
        raise refusal(node, problem)


def refusal(node: onnx.NodeProto, problem: str) -> InvalidModel:
    """What is wrong with the shapes of a node."""
    return InvalidModel(f"{node.op_type} {problem}", node=label(node), remedy="check the shapes given and the exporter")


def _conv(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> str:
    x, w = inputs[0], inputs[1]
    group = attributes.integer(node, "group", 1)
    kernel = attributes.integers(node, "kernel_shape")
    if len(x) != len(w) or len(w) < 3:
        return f"has an operand {list(x)} and weights {list(w)}, expected equal ranks of at least 3"
    if group < 1 or x[1] != w[1] * group or w[0] % group:
        return f"has {x[1]} channels, weights {list(w)} and {group} groups, which do not fit"
    if kernel is not None and kernel != w[2:]:
        return f"has kernel_shape {list(kernel)}, its weights {list(w)}"
    if len(inputs) > 2 and inputs[2] and inputs[2] != (w[0],):
        return f"has a bias of shape {list(inputs[2])}, expected [{w[0]}]"
    return ""


def _reshape(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> str:
    if math.prod(inputs[0]) != math.prod(output):
        return f"turns {list(inputs[0])} into {list(output)}, which has another number of elements"
    return ""


def _prelu(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> str:
    x, slope = inputs[0], inputs[1]
    return "" if broadcasts(slope, x) else f"has a slope of shape {list(slope)} for values of shape {list(x)}"


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether a value of `shape` can be repeated to the shape `to`."""
    aligned = to[len(to) - len(shape) :]
    return len(shape) <= len(to) and all(size in (1, extent) for size, extent in zip(shape, aligned, strict=True))


def _quantize(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> str:
    for what, shape in zip(("scale", "zero point"), inputs[1:], strict=True):
        if not broadcasts(shape, inputs[0]):
            return f"has a {what} of shape {list(shape)} for values of shape {list(inputs[0])}"
    return ""


def _gemm(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> str:
    if len(inputs) > 2 and not broadcasts(inputs[2], output):
        return f"has a bias of shape {list(inputs[2])} for a result of shape {list(output)}"
    return ""


def _conv_transpose(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> str:
    x, w = inputs[0], inputs[1]
    if len(x) != len(w) or len(w) < 3 or x[1] != w[0]:
        return f"has an operand {list(x)} and weights {list(w)}, expected equal ranks and channels"
    if len(inputs) > 2 and inputs[2] and inputs[2] != (output[1],):
        return f"has a bias of shape {list(inputs[2])}, expected [{output[1]}]"
    return ""


def _instance_norm(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> str:
    for what, shape in zip(("scale", "bias"), inputs[1:], strict=False):
        if shape != inputs[0][1:2]:
            return f"has a {what} of shape {list(shape)}, expected {list(inputs[0][1:2])}"
    return ""


def _layer_norm(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> str:
    for what, shape in zip(("scale", "bias"), inputs[1:], strict=False):
        if not broadcasts(shape, inputs[0]):
            return f"has a {what} of shape {list(shape)} for values of shape {list(inputs[0])}"
    return ""


def _numbers(*positions: int) -> Callable[[onnx.NodeProto, Shapes, tuple[int, ...]], str]:
    def check(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> str:
        shapes = [inputs[position] for position in positions if position < len(inputs)]
        wide = next((shape for shape in shapes if math.prod(shape) != 1), None)
        return "" if wide is None else f"has an operand of shape {list(wide)}, expected one number"

    return check


_CHECKS: dict[str, Callable[[onnx.NodeProto, Shapes, tuple[int, ...]], str]] = {
    "Conv": _conv,
    "IntegerConv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "Clip": _numbers(1, 2),
    "Pad": _numbers(2),
    "Reshape": _reshape,
    "PRelu": _prelu,
    "Quantize": _quantize,
}
