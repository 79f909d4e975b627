"""The activation functions that recurrent layers may name, with the defaults of onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.lowering.standard.skeleton import refuse
from qcompiler.targets.vector.emit import Expr

Activation = Callable[[Expr], Expr]


def _f(value: float) -> Expr:
    return T.float32(value)


def _sigmoid(x: Expr) -> Expr:
    """By the exponential of a negative number, which cannot overflow."""
    small = T.exp(-T.Select(x < _f(0), -x, x))
    return T.Select(x < _f(0), small, _f(1)) / (_f(1) + small)


def _tanh(x: Expr) -> Expr:
    return T.call_pure_extern("float32", "tanhf", x)


@dataclass(frozen=True)
class Function:
    """A function with up to two parameters and their defaults; None: the function has no such parameter."""

    apply: Callable[[Expr, float, float], Expr]
    alpha: float | None = None
    beta: float | None = None


FUNCTIONS = {
    "relu": Function(lambda x, a, b: T.max(x, _f(0))),
    "tanh": Function(lambda x, a, b: _tanh(x)),
    "sigmoid": Function(lambda x, a, b: _sigmoid(x)),
    "affine": Function(lambda x, a, b: _f(a) * x + _f(b), 0.0, 0.0),
    "leakyrelu": Function(lambda x, a, b: T.Select(x >= _f(0), x, _f(a) * x), 0.01),
    "thresholdedrelu": Function(lambda x, a, b: T.Select(x >= _f(a), x, _f(0)), 1.0),
    "scaledtanh": Function(lambda x, a, b: _f(a) * _tanh(_f(b) * x), 0.0, 0.0),
    "hardsigmoid": Function(lambda x, a, b: T.max(T.min(_f(a) * x + _f(b), _f(1)), _f(0)), 0.2, 0.5),
    "elu": Function(lambda x, a, b: T.Select(x >= _f(0), x, _f(a) * (T.exp(T.min(x, _f(0))) - _f(1))), 1.0),
    "softsign": Function(lambda x, a, b: x / (_f(1) + T.Select(x < _f(0), -x, x))),
    "softplus": Function(lambda x, a, b: T.log(T.exp(x) + _f(1))),
}


def activations(node: ir.Node, defaults: Sequence[str], directions: int) -> list[list[Activation]]:
    """The functions of each direction; parameters are consumed by the functions that have them, in order."""
    named = node.attributes.get("activations")
    names = list(named.as_strings()) if named is not None else list(defaults) * directions
    if len(names) != len(defaults) * directions or any(name.lower() not in FUNCTIONS for name in names):
        raise refuse(node, f"has activations {', '.join(names)}", f"known: {', '.join(FUNCTIONS)}")
    given = {key: _floats(node, f"activation_{key}") for key in ("alpha", "beta")}
    result = []
    for name in names:
        function = FUNCTIONS[name.lower()]
        alpha = _next(given["alpha"], function.alpha)
        beta = _next(given["beta"], function.beta)
        result.append(_bound(function, alpha, beta))
    count = len(defaults)
    return [result[i * count : (i + 1) * count] for i in range(directions)]


def _bound(function: Function, alpha: float, beta: float) -> Activation:
    return lambda x: function.apply(x, alpha, beta)


def _floats(node: ir.Node, name: str) -> list[float]:
    attribute = node.attributes.get(name)
    return [] if attribute is None else [float(value) for value in attribute.as_floats()]


def _next(given: list[float], default: float | None) -> float:
    if default is None:
        return 0.0
    return given.pop(0) if given else default
