"""Integer accumulator -> monotone per-channel chain -> Binarize becomes one integer Threshold.

The chain (scale, batch norm, bias, clip, relu) is emulated in float32 exactly as the reference runs it and searched
over the integers that the accumulator can reach, so the rewrite is exact; gamma < 0 gives direction -1, gamma = 0 a
threshold outside the reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.elementwise import Step, step_of
from qcompiler.analysis.ranges import IntegerRanges, Lattice
from qcompiler.analysis.thresholds import SignChange, find_sign_change, finite_at_ends
from qcompiler.ir.provenance import label
from qcompiler.ir.traits import LAYER, Trait, channel_axis, has
from qcompiler.ir.view import constant_of, is_quantized_op, number, only_consumer, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal


@dataclass(frozen=True)
class FoldThresholds:
    """Fold chains from integer accumulators to Binarize, where nothing else reads them."""

    name: str = "fold-thresholds"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every chain whose values have no other reader."""
        rewrites, refusals = 0, []
        ranges = IntegerRanges()
        for node in list(model.graph):
            if not has(node, LAYER):
                continue
            outcome = _fold(node, ranges)
            if isinstance(outcome, str):
                refusals.append(Refusal(node.name or "", outcome))
            else:
                rewrites += outcome
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


def _fold(node: ir.Node, ranges: IntegerRanges) -> int | str:
    """1 if folded, 0 if there is nothing to fold, or why not."""
    if constant_of(node.inputs[1]) is None or ranges.codes(node.inputs[0]) is None:
        return 0
    chain = _chain_to_sign(node)
    if isinstance(chain, str):
        return chain
    steps, sign = chain
    lattice = ranges.lattice(node)
    if lattice is None:
        return "its sums are not integers below 2**24"
    if not finite_at_ends(steps, lattice):
        return "its epilogue overflows"
    change = find_sign_change(steps, lattice, number(sign, "zero", 1.0))
    _insert_threshold(node, steps, sign, change, lattice)
    return 1


def _chain_to_sign(node: ir.Node) -> tuple[tuple[Step, ...], ir.Node] | str:
    axis = channel_axis(node, len(static_shape(node.outputs[0]) or ()))
    steps: list[Step] = []
    value = node.outputs[0]
    while True:
        reader = only_consumer(value)
        if reader is None:
            readers = "is a graph output" if value.is_graph_output() else "is read by more than one node"
            return f"the value after {label(value.producer())} {readers} (a float epilogue keeps it)"
        if is_quantized_op(reader, "Binarize"):
            zero = number(reader, "zero", 1.0)
            return (tuple(steps), reader) if zero in (-1, 1) else "the sign after it can be 0"
        step = step_of(reader, value, axis)
        if isinstance(step, str):
            return f"{step} (a float epilogue keeps it)"
        steps.append(step)
        value = reader.outputs[0]


def _insert_threshold(
    node: ir.Node, steps: tuple[Step, ...], sign: ir.Node, change: SignChange, lattice: Lattice
) -> None:
    shape = static_shape(sign.outputs[0]) or ()
    channels = len(lattice.low)
    layout = (1, channels, *(1,) * (len(shape) - 2)) if has(node, Trait.CONVOLVES) else (channels,)
    constants = [np.broadcast_to(array, channels).reshape(layout) for array in (change.threshold, change.direction)]
    origins = (*(step.node for step in steps), sign)
    replace(sign.outputs[0], insert(sign, "Threshold", [node.outputs[0], *constants], shape, origins=origins))
