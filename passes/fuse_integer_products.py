"""MatMul of two run-time operands of scaled codes, as in attention, becomes a product of integers and a scale.

(s * a) @ (t * b) = (s * t) * (a @ b) for codes a and b, whose sums are exact below 2**31. The reference rounds at every
addition, so the result agrees to a few ulp. The right operand is laid out in blocks of sixteen columns and four rows,
as instructions want it, by nodes that move codes: they join the transpositions and the splitting of heads before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.layers import Layer, record
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.weights import WIDEST
from qcompiler.ir.codes import Codes
from qcompiler.ir.view import constant_of, is_op, single_number, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult
from qcompiler.targets.problem import BLOCK, WORD, neutral

_LARGEST_BYTE, _LACKING = 255, 128


@dataclass(frozen=True)
class FuseIntegerProducts:
    """Rewrite products [..., M, K] @ [..., K, N] of equal leading axes."""

    name: str = "fuse-integer-products"
    bound: float = 1e-4

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every such product whose sums stay below 2**31."""
        finder = _Finder()
        rewrites = sum(finder.rewrite(node) for node in list(model.graph) if is_op(node, "MatMul"))
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


@dataclass(frozen=True)
class _Scaled:
    """number * codes, which are `held`."""

    codes: ir.Value
    held: Codes
    number: float


@dataclass
class _Finder:
    ranges: IntegerRanges = field(default_factory=IntegerRanges)

    def rewrite(self, node: ir.Node) -> int:
        left, right = (self._scaled(value) for value in node.inputs)
        shapes = [static_shape(value) for value in (*node.inputs, node.outputs[0])]
        if left is None or right is None or any(shape is None for shape in shapes):
            return 0
        a, b, out = (shape or () for shape in shapes)
        if len(a) < 2 or a[:-2] != b[:-2] or not prod(out) or not _fits(left.held, right.held, a[-1]):
            return 0
        settings: dict[str, object] = {"inner": list(b), "blocks": list(_blocks(b))}
        blocked = _blocked(node, right, b)
        product = insert(node, "IntegerProduct", [left.codes, blocked], out, settings)
        record(product.producer(), Layer(right.held.bits, left.held.bits))
        scale = np.float32(left.number * right.number)
        replace(node.outputs[0], product if scale == 1 else insert(node, "Mul", [product, scale], out))
        return 1

    def _scaled(self, value: ir.Value) -> _Scaled | None:
        number, node = 1.0, value.producer()
        if is_op(node, "Mul"):
            for position in (0, 1):
                factor = single_number(node.inputs[1 - position])
                if factor is not None:
                    number, value = factor, node.inputs[position]
                    break
        codes = None if constant_of(value) is not None else self.ranges.codes(value)
        if codes is None or codes.bits > WIDEST or codes.step != 1 or value.dtype != ir.DataType.FLOAT:
            return None
        return _Scaled(value, codes, number)


def _fits(a: Codes, b: Codes, inputs: int) -> bool:
    """Whether 32 bits hold all that kernels add up: products of bytes, and what these lack of the codes."""
    return inputs * (abs(a.low) + _LACKING + _LARGEST_BYTE) * (abs(b.low) + _LACKING + _LARGEST_BYTE) < 2**31


def _blocks(shape: tuple[int, ...]) -> tuple[int, int, int, int, int]:
    """[products, words, 4, blocks, 16]: the rows and columns of all products in whole words and blocks."""
    return prod(shape[:-2]), -(-shape[-2] // WORD), WORD, -(-shape[-1] // BLOCK), BLOCK


def _blocked(node: ir.Node, right: _Scaled, shape: tuple[int, ...]) -> ir.Value:
    """Codes [..., K, N] as [products, 64, blocks, words]."""
    batch, words, word, blocks, block = _blocks(shape)
    rows, columns = words * word, blocks * block
    value = right.codes
    if (rows, columns) != shape[-2:]:
        before = [0] * len(shape)
        after = [*before[:-2], rows - shape[-2], columns - shape[-1]]
        fill = np.float32(right.held.low + neutral(right.held))
        value = insert(node, "Pad", [value, np.array([*before, *after]), fill], (*shape[:-2], rows, columns))
    split, turned = (batch, words, word, blocks, block), (batch, block, word, blocks, words)
    value = insert(node, "Reshape", [value, np.array(split)], split)
    value = insert(node, "Transpose", [value], turned, {"perm": [0, 4, 2, 3, 1]})
    flat = (batch, block * word, blocks, words)
    return insert(node, "Reshape", [value, np.array(flat)], flat)
