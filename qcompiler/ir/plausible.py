"""Constants whose meaning forbids what they hold: no network that works has them, and each compiler would differ.

onnxruntime computes with NaN weights or a negative variance without a word. Only places with such a meaning are
checked: an infinity added before a Softmax masks, and one in a Clip means no bound. Weights that the file computes are
followed to what it stores, because a sign or a rounding hides NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import InvalidModel
from qcompiler.ir.provenance import sources
from qcompiler.ir.quantizing import ROUND_SHIFT, SHIFT_ROUND
from qcompiler.ir.view import constant_of, integer, number, text

Array = npt.NDArray[Any]

REMEDY = "check the training and export the model again"

# positions of operands by what they mean
_WEIGHTS = {
    "Conv": {1: "weights"},
    "ConvTranspose": {1: "weights"},
    "IntegerConv": {1: "weights"},
    "MatMul": {0: "weights", 1: "weights"},
    "IntegerMatMul": {1: "weights"},
    "Gemm": {0: "weights", 1: "weights"},
    "LSTM": {1: "weights", 2: "recurrent weights"},
    "GRU": {1: "weights", 2: "recurrent weights"},
    "RNN": {1: "weights", 2: "recurrent weights"},
    "BatchNormalization": {1: "scale", 2: "bias", 3: "mean", 4: "variance"},
    "InstanceNormalization": {1: "scale", 2: "bias"},
    "LayerNormalization": {1: "scale", 2: "bias"},
    "GroupNormalization": {1: "scale", 2: "bias"},
}
_NUMBERS = {
    "Conv": {2: "bias"},
    "ConvTranspose": {2: "bias"},
    "Gemm": {2: "bias"},
    "LSTM": {3: "bias"},
    "GRU": {3: "bias"},
    "RNN": {3: "bias"},
    "PRelu": {1: "slope"},
    "Quantize": {2: "zero point"},
    "Clip": {1: "lower bound", 2: "upper bound"},
}
# attributes that must be finite
_FACTORS = {
    "Gemm": ("alpha", "beta"),
    "BatchNormalization": ("epsilon",),
    "InstanceNormalization": ("epsilon",),
    "LayerNormalization": ("epsilon",),
    "GroupNormalization": ("epsilon",),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}


def check_constants(graph: ir.Graph) -> None:
    """Raise InvalidModel, naming the node, for a constant operand or attribute that its meaning forbids."""
    computed = _computed_constants(graph)
    for node in graph:
        for problem in (*_problems(node), *_hidden(node, computed)):
            name = next(iter(sources(node)), node.op_type)
            raise InvalidModel(f"{node.op_type} has {problem}", node=name, remedy=REMEDY)


def _computed_constants(graph: ir.Graph) -> set[ir.Value]:
    """Results of nodes that depend on stored numbers alone."""
    found: set[ir.Value] = set()
    for node in graph:
        if node.inputs and all(i is None or i in found or constant_of(i) is not None for i in node.inputs):
            found.update(node.outputs)
    return found


def _hidden(node: ir.Node, computed: set[ir.Value]) -> Iterator[str]:
    """NaN in the stored numbers from which weights are computed."""
    waiting = [node.inputs[i] for i in _WEIGHTS.get(node.op_type, ()) if i < len(node.inputs)]
    waiting = [value for value in waiting if value in computed]
    seen = set(waiting)
    while waiting:
        value = waiting.pop()
        stored = constant_of(value)
        if stored is not None and stored.dtype.kind == "f" and bool(np.isnan(stored).any()):
            yield f"weights computed from '{value.name}', which holds NaN, expected numbers"
        before = [] if value.producer() is None else [i for i in value.producer().inputs if i not in (None, *seen)]
        seen.update(before)
        waiting.extend(before)


def not_finite(what: str, array: Array) -> str:
    """What is wrong with numbers that must be finite; "" if they are."""
    if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
        return ""
    return f"{what} that {_which(what, array, np.isfinite(array))}, expected finite numbers"


def not_positive(what: str, array: Array) -> str:
    """What is wrong with scales; "" if they are finite and above 0, and 1 divided by them is finite, too."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        good = np.isfinite(array) & (array > 0)
        large = np.isfinite(np.float32(1) / array)
    if not bool(good.all()):
        return f"{what} that {_which(what, array, good)}, expected finite numbers above 0"
    return "" if bool(large.all()) else f"{what} that {_which(what, array, large)}, by which nothing can be divided"


def _which(what: str, array: Array, good: npt.NDArray[np.bool_]) -> str:
    bad = np.asarray(array)[~good].reshape(-1)
    if array.size == 1:
        return f"is {bad[0]:g}"
    return f"{'hold' if what in ('weights', 'scales') else 'holds'} {bad[0]:g} ({bad.size} of {array.size} numbers)"


def _problems(node: ir.Node) -> Iterator[str]:
    """What is wrong with a node's constants, if anything."""
    if node.domain not in ("", "ai.onnx", "qcompiler"):
        return
    for what, array in _constants(node, _WEIGHTS):
        if problem := not_finite(what, array):
            yield problem
    for what, array in _constants(node, _NUMBERS):
        if array.dtype.kind == "f" and bool(np.isnan(array).any()):
            yield f"{what} that {_which(what, array, ~np.isnan(array))}, expected a number"
    for name in _FACTORS.get(node.op_type, ()):
        if not np.isfinite(factor := number(node, name, 0.0)):
            yield f"{name} = {factor}, expected a finite number"
    check = _CHECKS.get(node.op_type)
    if check is not None and (problem := check(node)):
        yield problem


def _constants(node: ir.Node, table: dict[str, dict[int, str]]) -> Iterator[tuple[str, Array]]:
    for position, what in table.get(node.op_type, {}).items():
        array = constant_of(node.inputs[position]) if position < len(node.inputs) else None
        if array is not None:
            yield what, array


def _batch_norm(node: ir.Node) -> str:
    if integer(node, "training_mode", 0):
        return ""
    variance, epsilon = constant_of(node.inputs[4]), np.float32(number(node, "epsilon", 1e-5))
    if variance is None:
        return ""
    if bool((variance < 0).any()):
        return f"a variance that {_which('a variance', variance, variance >= 0)}, expected numbers of at least 0"
    total = variance + epsilon
    return "" if bool((total > 0).all()) else "a variance whose sum with epsilon is not above 0; it is divided by"


def _divisor(node: ir.Node) -> str:
    divisor = constant_of(node.inputs[1])
    if divisor is None or constant_of(node.inputs[0]) is not None or bool((divisor != 0).all()):
        return ""
    return f"a divisor that {_which('a divisor', divisor, divisor != 0)}, expected numbers other than 0"


def _resize(node: ir.Node) -> str:
    scales = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return "" if scales is None or scales.size == 0 else not_positive("scales", scales)


def _quantize(node: ir.Node) -> str:
    zero = constant_of(node.inputs[2])
    if zero is not None and text(node, "order", SHIFT_ROUND) == ROUND_SHIFT and not bool((zero == np.rint(zero)).all()):
        return f"a zero point that {_which('a zero point', zero, zero == np.rint(zero))}, expected integers"
    return _scales(1)(node)


def _scales(*positions: int) -> Callable[[ir.Node], str]:
    def check(node: ir.Node) -> str:
        scales = (constant_of(node.inputs[i]) for i in positions if i < len(node.inputs))
        return next((problem for s in scales if s is not None and (problem := not_positive("a scale", s))), "")

    return check


_CHECKS: dict[str, Callable[[ir.Node], str]] = {
    "BatchNormalization": _batch_norm,
    "Quantize": _quantize,
    "QLinearConv": _scales(1, 4, 6),
    "QLinearMatMul": _scales(1, 4, 6),
    "Resize": _resize,
    "Div": _divisor,
    "Mod": _divisor,
}
