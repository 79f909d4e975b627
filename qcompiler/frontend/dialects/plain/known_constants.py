"""Elementwise operators in numpy, with the arithmetic of the standard's operators on finite numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.ops import DOMAIN, quantizer_of
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, number

Array = npt.NDArray[Any]


def apply(node: ir.Node, operands: list[Array | None]) -> Array | None:
    """The node's output for these operands (None for an absent one); None if the operator is not among them."""
    operation = OPERATIONS.get(node.op_type)
    if operation is None or node.domain not in ("", DOMAIN):
        return None
    with np.errstate(all="ignore"):
        return reduced(operation(node, *operands))


def reduced(array: npt.ArrayLike) -> Array:
    """A 0-dimensional array where all elements are equal, else the array."""
    array = np.asarray(array)
    if array.size and bool((array == array.reshape(-1)[0]).all()):
        return np.asarray(array.reshape(-1)[0])
    return array


class KnownConstants:
    """Constants of a graph: its initializers, their reshapes, and what is computed from constants of equal elements.

    Exporters write ones_like, full and their negatives as computations on constants of the full activation shape, and
    give parameters the axes of an image by a reshape.
    """

    def __init__(self) -> None:
        self._computed: dict[ir.Value, Array] = {}

    def of(self, value: ir.Value | None) -> Array | None:
        """The constant, 0-dimensional where it is uniform and computed; None for a run-time value."""
        found = constant_of(value)
        return self._computed.get(value) if found is None else found

    def note(self, node: ir.Node) -> None:
        """Remember the output of `node` if it is a uniform constant."""
        if node.domain != "" or any(self.of(value) is None for value in node.inputs if value is not None):
            return
        operands = [None if value is None else reduced(self._given(value)) for value in node.inputs]
        if has(node, Trait.RESHAPES) and operands and operands[0] is not None and operands[0].shape:
            self._computed[node.outputs[0]] = operands[0].reshape(tuple(node.outputs[0].shape or ()))
            return
        if node.op_type in _FILLS:
            operands = operands[:1]
        if not operands or any(operand is not None and operand.shape for operand in operands):
            return
        result = operands[0] if node.op_type in _FILLS else apply(node, operands)
        if result is not None and not result.shape:
            self._computed[node.outputs[0]] = result

    def _given(self, value: ir.Value) -> Array:
        found = self.of(value)
        assert found is not None
        return found


def _cast(node: ir.Node, x: Array) -> Array:
    dtype = node.outputs[0].dtype
    return x.astype(x.dtype if dtype is None else dtype.numpy())


def _clip(node: ir.Node, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _divide(node: ir.Node, a: Array, b: Array) -> Array:
    return np.divide(a, b) if a.dtype.kind == "f" else np.asarray(np.trunc(np.true_divide(a, b)), a.dtype)


def _binarize(node: ir.Node, x: Array) -> Array:
    codes = np.where(x >= 0, np.float32(1), np.float32(-1))
    return np.where(x == 0, np.float32(number(node, "zero", 1.0)), codes)


def _hard_sigmoid(node: ir.Node, x: Array) -> Array:
    slope, offset = np.float32(number(node, "alpha", 0.2)), np.float32(number(node, "beta", 0.5))
    return np.asarray(np.clip(slope * x + offset, np.float32(0), np.float32(1)))


def _plain(function: Callable[..., Any]) -> Callable[..., Array]:
    return lambda node, *operands: np.asarray(function(*operands))


# Operators that repeat or reshape their first operand.
_FILLS = ("Expand", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Tile")

OPERATIONS: Mapping[str, Callable[..., Array]] = {
    "Abs": _plain(np.abs),
    "Add": _plain(np.add),
    "And": _plain(np.logical_and),
    "Binarize": _binarize,
    "Cast": _cast,
    "Ceil": _plain(np.ceil),
    "Clip": _clip,
    "Div": _divide,
    "Equal": _plain(np.equal),
    "Floor": _plain(np.floor),
    "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal),
    "HardSigmoid": _hard_sigmoid,
    "Identity": _plain(lambda x: x),
    "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal),
    "Max": _plain(lambda *xs: np.maximum.reduce(np.broadcast_arrays(*xs))),
    "Min": _plain(lambda *xs: np.minimum.reduce(np.broadcast_arrays(*xs))),
    "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative),
    "Not": _plain(np.logical_not),
    "Or": _plain(np.logical_or),
    "Quantize": lambda node, *operands: quantizer_of(node)(*operands),
    "Relu": _plain(lambda x: np.maximum(x, 0)),
    "Round": _plain(np.rint),
    "Sign": _plain(np.sign),
    "Sub": _plain(np.subtract),
    "Where": _plain(np.where),
    "Xor": _plain(np.logical_xor),
}
