"""Remove arithmetic that changes no bit, and merge factors where that changes no bit either."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.view import constant_of, is_op, is_quantized_op, number, only_consumer, static_shape
from qcompiler.passes.editing import can_replace, insert, remove_dead, replace
from qcompiler.passes.result import PassResult

Array = npt.NDArray[np.generic]
# the product of two such factors is a normal number
_EXPONENTS = 60


@dataclass(frozen=True)
class SimplifyArithmetic:
    """Drop neutral operands, and what keeps the sign before a Binarize; merge factors if one is a power of two."""

    name: str = "simplify-arithmetic"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite to the fixed point."""
        rewrites = 0
        while count := sum(_simplify(node) for node in list(model.graph) if node.graph is not None):
            rewrites += count
            remove_dead(model.graph)
        return PassResult(self.name, rewrites)


def _simplify(node: ir.Node) -> int:
    output = node.outputs[0] if len(node.outputs) == 1 else None
    if output is None or not (output.uses() or output.is_graph_output()):
        return 0
    source = _unchanged(node)
    if source is not None and static_shape(source) == static_shape(output) and can_replace(output, source):
        replace(output, source, keep_name=False)
        return 1
    if is_quantized_op(node, "Binarize"):
        return _see_through(node)
    if is_op(node, "Mul"):
        return _merge_factors(node)
    return 0


def _unchanged(node: ir.Node) -> ir.Value | None:
    """The operand that the node passes on bit for bit (x + 0 is not: it turns -0 into +0)."""
    if not is_op(node, "Mul", "Div", "Sub", "Add"):
        return None
    left, right = (constant_of(value) for value in node.inputs)
    neutral = {"Mul": 1.0, "Div": 1.0, "Sub": 0.0, "Add": -0.0}[node.op_type]
    if _is_all(right, neutral):
        return node.inputs[0]
    return node.inputs[1] if node.op_type in ("Mul", "Add") and _is_all(left, neutral) else None


def _is_all(constant: Array | None, wanted: float) -> bool:
    if constant is None or constant.dtype != np.float32:
        return False
    return bool((constant == wanted).all() and (np.signbit(constant) == np.signbit(wanted)).all())


def _see_through(node: ir.Node) -> int:
    """Binarize(f(x) - c) for an f that does not move x across c: read x itself.

    Clip with a bound on either side of c moves nothing across it; for c = k + 1/2, Round(x) is above c where x is, and
    at x = c too if k is odd (half to even); Sign(x) is above 1/2 where x > 0, and above -1/2 where x >= 0.
    """
    cut, value, offset = 0.0, node.inputs[0], node.inputs[0].producer()
    if is_op(offset, "Sub"):
        constant = constant_of(offset.inputs[1])
        if constant is None or constant.size != 1 or constant.dtype != np.float32:
            return 0
        cut, value = float(constant.reshape(())), offset.inputs[0]
    source = value.producer()
    zero = _zero_behind(source, cut, number(node, "zero", 1.0))
    if zero is None or static_shape(source.inputs[0]) != static_shape(node.outputs[0]):
        return 0
    shape, x = static_shape(node.outputs[0]) or (), source.inputs[0]
    origins = (source, node)
    if cut != 0 and not is_op(source, "Sign"):
        x = insert(node, "Sub", [x, offset.inputs[1]], shape, origins=(offset,))
    replace(node.outputs[0], insert(node, "Binarize", [x], shape, {"zero": zero}, origins=origins))
    return 1


def _zero_behind(source: ir.Node | None, cut: float, zero: float) -> float | None:
    """The `zero` of the Binarize that reads the input of `source` instead of its output, or None if there is none."""
    if source is None or not source.inputs or source.inputs[0] is None:
        return None
    if is_op(source, "Clip"):
        return zero if _clips_around(source, cut) else None
    if is_op(source, "Round") and abs(cut) < 2**20 and (cut - 0.5) % 1 == 0:
        return -1.0 if (cut - 0.5) % 2 == 0 else 1.0
    if is_op(source, "Sign") and abs(cut) == 0.5:
        return -1.0 if cut > 0 else 1.0
    return None


def _clips_around(clip: ir.Node, cut: float) -> bool:
    for value, side in zip(clip.inputs[1:], (-1, 1), strict=False):
        if value is None:
            continue
        bound = constant_of(value)
        if bound is None or not bool(((bound - cut) * side > 0).all()):
            return False
    return True


def _merge_factors(node: ir.Node) -> int:
    """(n * a) * b = n * (a * b) for an integer n, where a or b is a power of two of moderate size."""
    before = node.inputs[0].producer()
    outer, shape = constant_of(node.inputs[1]), static_shape(node.outputs[0])
    if not is_op(before, "Mul") or outer is None or shape is None or only_consumer(before.outputs[0]) is None:
        return 0
    inner = constant_of(before.inputs[1])
    if inner is None or not _is_integer_sum(before.inputs[0].producer()):
        return 0
    if not _moderate(inner) or not _moderate(outer) or not (_is_power(inner) or _is_power(outer)):
        return 0
    product = np.asarray(inner * outer, dtype=np.float32)
    replace(node.outputs[0], insert(node, "Mul", [before.inputs[0], product], shape, origins=(before, node)))
    return 1


def _is_integer_sum(node: ir.Node | None) -> bool:
    if is_op(node, "Add") and node is not None:
        return all(_is_integer_sum(value.producer()) for value in node.inputs)
    return is_quantized_op(node, "IntegerConv", "IntegerMatMul")


def _moderate(constant: Array) -> bool:
    exponents = np.frexp(constant[constant != 0].astype(np.float32))[1]
    return constant.dtype == np.float32 and bool((np.abs(exponents) <= _EXPONENTS).all())


def _is_power(constant: Array) -> bool:
    return bool((np.abs(np.frexp(constant.astype(np.float32))[0]) == 0.5).all())
