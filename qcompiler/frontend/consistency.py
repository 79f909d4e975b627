"""What the standard's shape inference lets pass and onnxruntime refuses only when it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx

from qcompiler.errors import InvalidModel
from qcompiler.frontend import attributes
from qcompiler.frontend.structure import label

Shapes = Sequence[tuple[int, ...]]


def check_shapes(node: onnx.NodeProto, inputs: Shapes, output: tuple[int, ...]) -> None:
    """Refuse a node whose operands do not fit each other, or whose result has no elements.

    inputs: shapes of the inputs in order, () for an absent one; output: shape of the first output.
    """
    check = _CHECKS.get(node.op_type)
    problem = check(node, inputs, output) if check is not None else ""
    if not problem and 0 in output:
        problem = f"gives an empty result of shape {list(output)}"
    if problem:
        raise InvalidModel(
            f"{node.op_type} {problem}", node=label(node), remedy="check the shapes given and the exporter"
        )


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
    aligned = x[len(x) - len(slope) :]
    if len(slope) > len(x) or any(size not in (1, extent) for size, extent in zip(slope, aligned, strict=True)):
        return f"has a slope of shape {list(slope)} for values of shape {list(x)}"
    return ""


_CHECKS: dict[str, Callable[[onnx.NodeProto, Shapes, tuple[int, ...]], str]] = {
    "Conv": _conv,
    "BinaryConv": _conv,
    "Reshape": _reshape,
    "PRelu": _prelu,
}
