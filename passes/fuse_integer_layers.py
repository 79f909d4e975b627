"""Conv and MatMul of codes with integer weights become layers on integers, whose sums are exact.

Where sums may pass 2**24, the reference rounds them in float32; layers on integers sum them in int32, and round once.
How a layer multiplies (bit planes, bytes, floats) is the choice of lowering; that it may is decided here, and written
down on every layer: its widths, and why it is not on integers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.analysis.layers import Layer, record, recorded
from qcompiler.analysis.levels import levels_of
from qcompiler.analysis.macs import macs_of
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.reasons import remark, why_real, wide_lows
from qcompiler.analysis.weights import WIDEST, weight_bits
from qcompiler.ir.ops import DOMAIN, ROUNDED, wide_attributes
from qcompiler.ir.provenance import NOTE
from qcompiler.ir.traits import Trait, channel_axis, has
from qcompiler.ir.view import constant_of, integer, ints, is_quantized_op, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal


@dataclass(frozen=True)
class FuseIntegerLayers:
    """Rewrite Conv over [N, C, H, W] and MatMul with weights [K, O] on codes of at most eight bits."""

    name: str = "fuse-integer-layers"
    bound: float = 0.0
    wide: bool = False

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every such layer; sums below 2**24 are exact in float32, so no bit changes.

        wide: the layers that a run without it left out, whose sums may pass that.
        """
        ranges = IntegerRanges()
        rewrites, refusals = 0, []
        for node in [node for node in model.graph if macs_of(node) and node.domain != DOMAIN]:
            if self.wide and recorded(node) is not None:
                continue
            bits = weight_bits(node, constant_of(node.inputs[1]))
            reason = why_real(node, ranges, bits)
            if not reason and ranges.lattice(node) is None and not self.wide:
                continue
            record(node, Layer(bits, _activation_bits(node, ranges), reason))
            note = remark(node)
            if note:
                node.metadata_props[NOTE] = "; ".join(filter(None, (node.metadata_props.get(NOTE), note)))
            if reason:
                refusals.append(Refusal(node.name or "", reason))
            else:
                _fuse(node, wide_attributes(*_lows(node, ranges)) if self.wide else {})
                rewrites += 1
        for node in (node for node in model.graph if is_quantized_op(node, ROUNDED)):
            record(node, Layer(integer(node, "bits", WIDEST), WIDEST))
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


def _activation_bits(node: ir.Node, ranges: IntegerRanges) -> int | None:
    """Bits that tell the inputs of a channel apart, but for scale and offset; None for real numbers."""
    shape = static_shape(node.inputs[0])
    if shape is None or constant_of(node.inputs[0]) is not None:
        return None
    levels = levels_of(node.inputs[0], channel_axis(node, len(shape)), ranges)
    if levels is None or not levels.step.all():
        return None
    steps = int(((levels.high - levels.low) / levels.step).round().max())
    more = levels.zeros and not dataclasses.replace(levels, zeros=False).has_zero
    bits = max((steps + more).bit_length(), 1)
    return bits if bits <= 2 * WIDEST else None


def _lows(node: ir.Node, ranges: IntegerRanges) -> tuple[int, int]:
    lows = wide_lows(node, ranges)
    assert lows is not None
    return lows


def _fuse(node: ir.Node, accumulator: dict[str, object]) -> None:
    shape = static_shape(node.outputs[0]) or ()
    if not has(node, Trait.CONVOLVES):
        replace(node.outputs[0], insert(node, "IntegerMatMul", node.inputs[:2], shape, accumulator))
        return
    names = (("kernel_shape", ()), ("strides", (1, 1)), ("pads", (0,) * 4), ("dilations", (1, 1)))
    attributes: dict[str, object] = {name: list(ints(node, name, default)) for name, default in names}
    attributes |= {"group": integer(node, "group", 1), "pad_value": 0.0, **accumulator}
    replace(node.outputs[0], insert(node, "IntegerConv", node.inputs[:2], shape, attributes))
