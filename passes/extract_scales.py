"""Make layers pure integer: conv(s * a, c * w) = (s * c) * conv(a, w) for codes a, integers w and scales s, c > 0.

s is one number for the whole activation (BipolarQuant, quantizers); c is one per output channel, where |w| is constant
within 1e-6 (sign(W) * alpha, batch norms folded by exporters, detach-STE chains), or where all weights are integers of
at most eight bits times c but for rounding. A channel of zeros has c = 0. The reference rounds s * c at every product
and ours once, so the result agrees to a few ulp (exactly, if both are powers of two); the bound covers the spread of
|w| too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.weights import integers_and_scales
from qcompiler.ir.provenance import NOTE
from qcompiler.ir.view import constant_of, is_op, static_shape
from qcompiler.passes.editing import attributes_of, insert, remove_dead, replace
from qcompiler.passes.result import PassResult

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ExtractScales:
    """Move activation and weight scales behind convolutions and matrix products of integer codes."""

    name: str = "extract-scales"
    bound: float = 1e-4

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every Conv and MatMul of scaled integer codes with scaled integer weights."""
        peeler = _Peeler()
        rewrites = sum(_extract(node, peeler) for node in list(model.graph) if is_op(node, "Conv", "MatMul"))
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


@dataclass
class _Peeler:
    """Finds the codes behind scaled activations, re-making layout ops in between once per value."""

    ranges: IntegerRanges = field(default_factory=IntegerRanges)
    done: dict[ir.Value, tuple[ir.Value, float] | None] = field(default_factory=dict)

    def peel(self, value: ir.Value) -> tuple[ir.Value, float] | None:
        """(codes, s) with value = s * codes and codes known to be integers; None if there are none."""
        if value not in self.done:
            self.done[value] = (value, 1.0) if self.ranges.codes(value) is not None else self._peel(value)
        return self.done[value]

    def _peel(self, value: ir.Value) -> tuple[ir.Value, float] | None:
        node = value.producer()
        if is_op(node, "Mul", "Div"):
            return self._peel_scale(node)
        if is_op(node, "Reshape", "Transpose", "MaxPool", "Pad", "Concat", "Slice"):
            return self._peel_layout(node)
        return None

    def _peel_scale(self, node: ir.Node) -> tuple[ir.Value, float] | None:
        for position, other in ((0, 1), (1, 0)):
            constant = constant_of(node.inputs[other])
            if constant is None or constant.size != 1 or (node.op_type == "Div" and other == 0):
                continue
            inner = self.peel(node.inputs[position])
            scale = float(constant.reshape(()))
            same_shape = static_shape(node.inputs[position]) == static_shape(node.outputs[0])
            if inner is None or not same_shape or not np.isfinite(scale) or scale == 0:
                return None
            return inner[0], inner[1] * scale if node.op_type == "Mul" else inner[1] / scale
        return None

    def _peel_layout(self, node: ir.Node) -> tuple[ir.Value, float] | None:
        shape = static_shape(node.outputs[0])
        count = len(node.inputs) if node.op_type == "Concat" else 1
        inner = [self.peel(value) for value in node.inputs[:count]]
        if shape is None or len(node.outputs) != 1 or any(found is None for found in inner):
            return None
        scales = {found[1] for found in inner if found is not None}
        scale = scales.pop()
        if scales or (node.op_type == "MaxPool" and scale < 0) or (node.op_type == "Pad" and not _pads_zero(node)):
            return None
        attributes = attributes_of(node)
        operands = [found[0] for found in inner if found is not None]
        return insert(node, node.op_type, [*operands, *node.inputs[count:]], shape, attributes), scale


def _pads_zero(node: ir.Node) -> bool:
    fill = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    return fill is not None and not fill.any()


def _extract(node: ir.Node, peeler: _Peeler) -> int:
    weights, shape = constant_of(node.inputs[1]), static_shape(node.outputs[0])
    if weights is None or shape is None or (len(node.inputs) > 2 and node.inputs[2] is not None):
        return 0
    peeled = None if node.op_type == "MatMul" and weights.ndim != 2 else peeler.peel(node.inputs[0])
    split = None if peeled is None else integers_and_scales(node, weights)
    if peeled is None or split is None or (peeled[1] == 1 and (split[1] == 1).all()):
        return 0
    (codes, scale), (integers, magnitudes, spread) = peeled, split
    attributes = attributes_of(node)
    acc = insert(node, node.op_type, [codes, integers], shape, attributes)
    factors = (magnitudes.astype(np.float64) * scale).astype(np.float32)
    output = insert(node, "Mul", [acc, _shaped(factors, len(shape), node.op_type)], shape)
    if spread > 0:
        acc.producer().metadata_props[NOTE] = f"|weights| vary by {spread:.1e} within a channel; taken as constant"
    replace(node.outputs[0], output)
    return 1


def _shaped(factors: FloatArray, rank: int, op: str) -> FloatArray:
    if (factors == factors[0]).all():
        return factors[:1]
    return factors.reshape(1, -1, *(1,) * (rank - 2)) if op == "Conv" else factors
