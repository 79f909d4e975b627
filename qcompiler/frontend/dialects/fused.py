"""com.microsoft's float ops into which onnxruntime's optimizer joins several of the standard's.

FusedMatMul<alpha, transA, transB>(a, b) = alpha * a' * b', a' and b' with their last two axes swapped if asked for
FusedConv<activation, activation_params, ...>(x, w, b, z) = activation(Conv(x, w, b) + z)
FusedGemm<activation, activation_alpha, activation_beta, activation_gamma, ...>(a, b, c) = activation(Gemm(a, b, c))
Gelu(x) = x / 2 * (1 + erf(x / sqrt 2)), BiasGelu(x, b) = Gelu(x + b), QuickGelu<alpha>(x) = x * sigmoid(alpha * x)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.integer_operands import is_given
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label

# the attributes that take the parameters of an activation, in order
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}


def matmul(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a FusedMatMul."""
    if attributes.integer(node, "transBatchA", 0) or attributes.integer(node, "transBatchB", 0):
        raise UnsupportedModel(
            f"{node.op_type} with transposed batches", node=label(node), remedy="transpose before the product"
        )
    operands = [_swapped(emitter, node, index, name) for index, name in enumerate(("transA", "transB"))]
    alpha = attributes.real(node, "alpha", 1.0)
    if alpha == 1:
        emitter.op("MatMul", operands, node.output)
        return
    _check_finite(node, "alpha", [alpha])
    emitter.op("Mul", [emitter.op("MatMul", operands), emitter.constant(alpha, "alpha")], node.output)


def _swapped(emitter: Emitter, node: onnx.NodeProto, index: int, attribute: str) -> str:
    name, rank = str(node.input[index]), len(emitter.shape(node.input[index]))
    if not attributes.integer(node, attribute, 0) or rank < 2:
        return name
    return emitter.op("Transpose", [name], perm=[*range(rank - 2), rank - 1, rank - 2])


def conv(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a FusedConv."""
    value = _core(emitter, node, "Conv", node.input[:3], ("activation", "activation_params"))
    if is_given(node, 3):
        value = emitter.op("Add", [value, node.input[3]])
    _activate(emitter, node, value, attributes.reals(node, "activation_params") or ())


def gemm(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a FusedGemm."""
    names = [f"activation_{each}" for each in ("alpha", "beta", "gamma")]
    value = _core(emitter, node, "Gemm", node.input, ("activation", *names))
    _activate(emitter, node, value, [attributes.real(node, n, 0.0) for n in names if attributes.has(node, n)])


def gelu(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a Gelu or a BiasGelu."""
    x = str(node.input[0]) if len(node.input) == 1 else emitter.op("Add", node.input)
    root, one, half = (emitter.constant(value, "constant") for value in (math.sqrt(2), 1.0, 0.5))
    total = emitter.op("Add", [emitter.op("Erf", [emitter.op("Div", [x, root])]), one])
    emitter.op("Mul", [emitter.op("Mul", [x, half]), total], node.output)


def quick_gelu(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QuickGelu."""
    alpha = attributes.real(node, "alpha", 1.702)
    _check_finite(node, "alpha", [alpha])
    scaled = emitter.op("Mul", [node.input[0], emitter.constant(alpha, "alpha")])
    emitter.op("Mul", [node.input[0], emitter.op("Sigmoid", [scaled])], node.output)


def _core(emitter: Emitter, node: onnx.NodeProto, op: str, inputs: Sequence[str], more: Sequence[str]) -> str:
    """The standard's op with the attributes that it knows."""
    result = emitter.fresh(f"{emitter.base}/sums")
    core = onnx.helper.make_node(op, [*inputs], [result], name=label(node))
    while core.input and not core.input[-1]:
        core.input.pop()
    core.attribute.extend(attributes.without(node, more))
    emitter.place(core)
    return result


def _activate(emitter: Emitter, node: onnx.NodeProto, value: str, parameters: Sequence[float]) -> None:
    activation = attributes.text(node, "activation", "")
    if not activation:
        emitter.op("Identity", [value], node.output)
        return
    if activation not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"{node.op_type} with the activation '{activation}'",
            node=label(node),
            remedy=f"use one of {', '.join(_ACTIVATIONS)}",
        )
    names = _ACTIVATIONS[activation]
    if len(parameters) != len(names):
        raise InvalidModel(
            f"{node.op_type} has {len(parameters)} parameters of {activation}, expected {len(names)}",
            node=label(node),
            remedy="export it again",
        )
    _check_finite(node, "activation parameters", parameters)
    if activation == "Clip":
        bounds = [emitter.constant(bound, "bound") for bound in parameters]
        emitter.op("Clip", [value, *bounds], node.output)
    else:
        settings: dict[str, Any] = dict(zip(names, parameters, strict=True))
        emitter.op(activation, [value], node.output, **settings)


def _check_finite(node: onnx.NodeProto, what: str, numbers: Sequence[float]) -> None:
    if not bool(np.isfinite(numbers).all()):
        raise InvalidModel(
            f"{node.op_type} has {what} {', '.join(map(str, numbers))}, expected finite numbers",
            node=label(node),
            remedy="export it again",
        )
