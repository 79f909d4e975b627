"""Conv with -1/+1 activations and -1/+1 weights becomes BinaryConv, an integer XNOR-popcount convolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.ranges import EXACT, IntegerRanges
from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult


@dataclass(frozen=True)
class FuseSignConv:
    """Rewrite binary Conv over [N, C, H, W] without bias."""

    name: str = "fuse-sign-conv"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every binary Conv; the sum of its codes is exact in float32, so no bit changes."""
        ranges = IntegerRanges()
        found = [node for node in model.graph if is_op(node, "Conv") and _is_binary(node, ranges)]
        for node in found:
            _fuse(node)
        remove_dead(model.graph)
        return PassResult(self.name, len(found))


def _is_binary(node: ir.Node, ranges: IntegerRanges) -> bool:
    weights = constant_of(node.inputs[1])
    if weights is None or weights.ndim != 4 or "pads" not in node.attributes or len(node.inputs) > 2:
        return False
    if min(ints(node, "pads", ())) < 0 or weights[0].size >= EXACT or static_shape(node.outputs[0]) is None:
        return False
    return ranges.binary(node.inputs[0]) and bool((np.abs(weights) == 1).all())


def _fuse(node: ir.Node) -> None:
    attributes: dict[str, object] = {
        name: list(ints(node, name, default))
        for name, default in (("kernel_shape", ()), ("strides", (1, 1)), ("pads", (0,) * 4), ("dilations", (1, 1)))
    }
    attributes["group"] = integer(node, "group", 1)
    attributes["pad_value"] = 0.0
    shape = static_shape(node.outputs[0]) or ()
    replace(node.outputs[0], insert(node, "BinaryConv", node.inputs[:2], shape, attributes))
