"""Integer accumulator -> monotone per-channel chain -> sign or quantizer becomes one integer Threshold, or one scale.

The chain (scale, batch norm, bias, clip, relu) is emulated in float32 exactly as the reference runs it and searched
over the integers that the accumulator can reach, so the rewrite is exact; gamma < 0 gives direction -1, gamma = 0 a
threshold outside the reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.chains import Chain, chain_to_codes
from qcompiler.analysis.ranges import IntegerRanges, Lattice
from qcompiler.analysis.requantization import Requantization, requantization
from qcompiler.analysis.thresholds import (
    Thresholds,
    between_integers,
    find_levels,
    find_sign_change,
    finite_at_ends,
    turning_points,
)
from qcompiler.ir.traits import LAYER, Trait, channel_axis, has
from qcompiler.ir.view import constant_of, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal

MOST_COMPARED = 4
"""Codes of more levels are rounded to where a scale and an offset give them: fewer operations than comparisons."""

MOST_THRESHOLDS = 16
"""Beyond that many levels any rounding in floats costs less than comparing with every threshold."""

_TRIED = 4
_NO_LINE = "no scale and offset give its codes (a float epilogue keeps it)"

REQUANTIZED = ("Mul", "Add", "Round", "Clip")
"""The chain of a scale and an offset."""


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


def _fold(node: ir.Node, ranges: IntegerRanges) -> int | str:
    """1 if folded, 0 if there is nothing to fold, or why not."""
    weights = constant_of(node.inputs[1])
    if weights is None or ranges.codes(node.inputs[0]) is None:
        return 0
    if has(node, Trait.CONVOLVES) and weights.ndim > 4:
        return "convolutions of more than two axes have no kernel that thresholds"
    axis = channel_axis(node, len(static_shape(node.outputs[0]) or ()))
    chain = chain_to_codes(node.outputs[0], axis, ranges)
    if isinstance(chain, str):
        return chain
    lattice = ranges.lattice(node)
    if lattice is None:
        return "its sums are not integers below 2**24"
    if not finite_at_ends(chain.ops, lattice):
        return "its epilogue overflows"
    return _fold_levels(node, chain, lattice) if chain.sign is None else _fold_sign(node, chain, lattice)


def _fold_sign(node: ir.Node, chain: Chain, lattice: Lattice) -> int:
    assert chain.sign is not None
    change = find_sign_change(chain.ops, lattice, chain.sign)
    threshold, direction = (np.broadcast_to(a, lattice.low.shape) for a in (change.threshold, change.direction))
    turning = turning_points(chain.ops, lattice, threshold, direction)[None]
    _insert_threshold(node, chain, Thresholds(turning, direction), len(lattice.low))
    return 1


def _fold_levels(node: ir.Node, chain: Chain, lattice: Lattice) -> int | str:
    levels = chain.codes.levels
    if levels > MOST_COMPARED and tuple(op.op for op in chain.ops) == REQUANTIZED:
        return 0
    if levels > MOST_THRESHOLDS and not _has_line(chain, lattice):
        return _NO_LINE
    found = between_integers(find_levels(chain.ops, lattice, chain.codes), chain.ops, lattice, chain.codes)
    line = requantization(found, lattice, chain.codes) if levels > MOST_COMPARED else None
    if line is not None:
        _insert_requantization(node, chain, line)
        return 1
    if levels > MOST_THRESHOLDS:
        return _NO_LINE
    _insert_threshold(node, chain, found, len(lattice.low))
    return 1


def _has_line(chain: Chain, lattice: Lattice) -> bool:
    """Whether a few channels have one: sums of 8 bits are mostly too large, which is not worth a search over all."""
    few = lattice.of_channels(_TRIED)
    found = find_levels(tuple(op.of_channels(_TRIED) for op in chain.ops), few, chain.codes)
    return requantization(found, few, chain.codes) is not None


def _insert_requantization(node: ir.Node, chain: Chain, line: Requantization) -> None:
    shape = static_shape(chain.end.outputs[0]) or ()
    layout = [1] * len(shape)
    layout[channel_axis(node, len(shape))] = -1
    origins = (*(op.node for op in chain.ops), chain.end)
    value = node.outputs[0]
    limits = np.float32(chain.codes.low), np.float32(chain.codes.high)
    operands = ((line.scale.reshape(layout),), (line.offset.reshape(layout),), (), limits)
    for op, others in zip(REQUANTIZED, operands, strict=True):
        value = insert(chain.end, op, [value, *others], shape, origins=origins)
    replace(chain.end.outputs[0], value)


def _insert_threshold(node: ir.Node, chain: Chain, found: Thresholds, channels: int) -> None:
    shape = static_shape(chain.end.outputs[0]) or ()
    layout = [1] * len(shape)
    layout[channel_axis(node, len(shape))] = channels
    levels = np.broadcast_to(found.thresholds, (len(found.thresholds), channels)).reshape(-1, *layout)
    direction = np.broadcast_to(found.direction, channels).reshape(layout)
    origins = (*(op.node for op in chain.ops), chain.end)
    attributes = {"low": float(chain.codes.low), "step": float(chain.codes.step)}
    operands = [node.outputs[0], levels, direction]
    replace(chain.end.outputs[0], insert(chain.end, "Threshold", operands, shape, attributes, origins=origins))
