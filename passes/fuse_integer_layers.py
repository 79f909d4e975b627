"""Conv and MatMul of codes with integer weights become layers on integers, whose sums are exact.

How a layer multiplies (bit planes, bytes, floats) is the choice of lowering; that it may is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.analysis.layers import WIDEST, weight_codes
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.provenance import REASON
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal


@dataclass(frozen=True)
class FuseIntegerLayers:
    """Rewrite Conv over [N, C, H, W] and MatMul with weights [K, O], without bias, on codes of at most eight bits."""

    name: str = "fuse-integer-layers"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every such layer; sums below 2**24 are exact in float32, so no bit changes."""
        ranges = IntegerRanges()
        rewrites, refusals = 0, []
        for node in [node for node in model.graph if is_op(node, "Conv", "MatMul")]:
            outcome = _fuse(node, ranges)
            if isinstance(outcome, str):
                node.metadata_props[REASON] = outcome
                refusals.append(Refusal(node.name or "", outcome))
            else:
                rewrites += outcome
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


def _fuse(node: ir.Node, ranges: IntegerRanges) -> int | str:
    """1 if rewritten, 0 if it is no layer on integers, or why it must stay."""
    weights, shape = constant_of(node.inputs[1]), static_shape(node.outputs[0])
    rank = 4 if has(node, Trait.CONVOLVES) else 2
    if weights is None or weights.ndim != rank or len(node.inputs) > 2 or shape is None:
        return 0
    held, codes = weight_codes(weights), ranges.codes(node.inputs[0])
    if held is None or codes is None or constant_of(node.inputs[0]) is not None:
        return 0
    for what, bits in (("activations", codes.bits), ("weights", held.bits)):
        if bits > WIDEST:
            return f"its {what} have {bits} bits, more than {WIDEST}"
    if ranges.lattice(node) is None:
        return "its sums may be no integers below 2**24"
    if rank == 2:
        replace(node.outputs[0], insert(node, "IntegerMatMul", node.inputs, shape))
        return 1
    if "pads" not in node.attributes or min(ints(node, "pads", ())) < 0:
        return 0
    names = (("kernel_shape", ()), ("strides", (1, 1)), ("pads", (0,) * 4), ("dilations", (1, 1)))
    attributes: dict[str, object] = {name: list(ints(node, name, default)) for name, default in names}
    attributes |= {"group": integer(node, "group", 1), "pad_value": 0.0}
    replace(node.outputs[0], insert(node, "IntegerConv", node.inputs[:2], shape, attributes))
    return 1
