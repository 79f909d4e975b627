"""Integer accumulator -> monotone per-channel chain -> sign or quantizer becomes one integer Threshold.

The chain (scale, batch norm, bias, clip, relu) is emulated in float32 exactly as the reference runs it and searched
over the integers that the accumulator can reach, so the rewrite is exact; gamma < 0 gives direction -1, gamma = 0 a
threshold outside the reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.elementwise import Step, landing_step, step_of
from qcompiler.analysis.layers import feeds_integer_layer
from qcompiler.analysis.ranges import IntegerRanges, Lattice
from qcompiler.analysis.thresholds import Thresholds, find_levels, find_sign_change, finite_at_ends
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.provenance import label
from qcompiler.ir.traits import LAYER, channel_axis, has
from qcompiler.ir.view import constant_of, is_quantized_op, number, only_consumer, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal

# beyond that many levels rounding in floats costs less than comparing with every threshold
_MOST_LEVELS = 16


@dataclass(frozen=True)
class FoldThresholds:
    """Fold chains from integer accumulators to signs and few codes, where nothing else reads them."""

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


@dataclass(frozen=True)
class _Chain:
    """Monotone steps from an accumulator up to `end`: a sign, or the op that makes `codes`."""

    steps: tuple[Step, ...]
    end: ir.Node
    codes: Codes

    def thresholds(self, lattice: Lattice) -> Thresholds:
        """The thresholds of all levels on the integers of a lattice."""
        if not is_quantized_op(self.end, "Binarize"):
            return find_levels(self.steps, lattice, self.codes)
        change = find_sign_change(self.steps, lattice, number(self.end, "zero", 1.0))
        return Thresholds(change.threshold[None], change.direction)


def _fold(node: ir.Node, ranges: IntegerRanges) -> int | str:
    """1 if folded, 0 if there is nothing to fold, or why not."""
    if constant_of(node.inputs[1]) is None or ranges.codes(node.inputs[0]) is None:
        return 0
    chain = _chain(node, ranges)
    if isinstance(chain, str):
        return chain
    lattice = ranges.lattice(node)
    if lattice is None:
        return "its sums are not integers below 2**24"
    if not finite_at_ends(chain.steps, lattice):
        return "its epilogue overflows"
    _insert_threshold(node, chain, chain.thresholds(lattice), len(lattice.low))
    return 1


def _chain(node: ir.Node, ranges: IntegerRanges) -> _Chain | str:
    """The longest chain whose end a threshold can replace, or why there is none."""
    axis = channel_axis(node, len(static_shape(node.outputs[0]) or ()))
    steps: list[Step] = []
    value, found = node.outputs[0], None
    while True:
        reader = only_consumer(value)
        if reader is None:
            readers = "is a graph output" if value.is_graph_output() else "is read by more than one node"
            return found or f"the value after {label(value.producer())} {readers} (a float epilogue keeps it)"
        if is_quantized_op(reader, "Binarize"):
            zero = number(reader, "zero", 1.0)
            return _Chain(tuple(steps), reader, BINARY) if zero in (-1, 1) else "the sign after it can be 0"
        step = landing_step(reader, value, axis) or step_of(reader, value, axis)
        if isinstance(step, str):
            return found or f"{step} (a float epilogue keeps it)"
        steps.append(step)
        value = reader.outputs[0]
        codes = ranges.codes(value)
        if codes is not None and 1 < codes.levels <= _MOST_LEVELS and feeds_integer_layer(value):
            found = _Chain(tuple(steps), reader, codes)


def _insert_threshold(node: ir.Node, chain: _Chain, found: Thresholds, channels: int) -> None:
    shape = static_shape(chain.end.outputs[0]) or ()
    layout = [1] * len(shape)
    layout[channel_axis(node, len(shape))] = channels
    levels = np.broadcast_to(found.thresholds, (len(found.thresholds), channels)).reshape(-1, *layout)
    direction = np.broadcast_to(found.direction, channels).reshape(layout)
    origins = (*(step.node for step in chain.steps), chain.end)
    attributes = {"low": float(chain.codes.low), "step": float(chain.codes.step)}
    operands = [node.outputs[0], levels, direction]
    replace(chain.end.outputs[0], insert(chain.end, "Threshold", operands, shape, attributes, origins=origins))
