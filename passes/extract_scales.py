"""Make layers pure integer: conv(s * a, c * w) = (s * c) * conv(a, w) for codes a, integers w and scales s, c.

s is one number for the whole activation (BipolarQuant, quantizers), or one per input channel where the weights times s
are such weights (depthwise layers; scales that are powers of two); c > 0 is one per output channel, where |w| is
constant within 1e-6 (sign(W) * alpha, batch norms folded by exporters, detach-STE chains), or where all weights are
integers of at most eight bits times c but for rounding. A channel of zeros has c = 0. The reference rounds s * c at
every product and ours once, so the result agrees to a few ulp (exactly, if both are powers of two); the bound covers
the spread of |w| too.

Offsets of activations give the layer of a constant, which is another one where zeros pad the border. Factors that are
known at run time, one for all elements or one per row of a matrix (absmax quantizers), are multiplied
behind the layer. A layer whose input channels have a few scales, as a Concat of quantized streams has, or whose weights
have a scale for each of a few blocks of inputs, becomes the sum of a layer for each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.borders import layer_of_constant
from qcompiler.analysis.sums import aligned
from qcompiler.analysis.weights import block_of, integers_and_scales
from qcompiler.ir.provenance import NOTE, REASON
from qcompiler.ir.traits import channel_axis
from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape
from qcompiler.passes.editing import attributes_of, insert, remove_dead, replace
from qcompiler.passes.peeled import Peeled
from qcompiler.passes.peeling import Peeler
from qcompiler.passes.result import PassResult, Refusal

DoubleArray = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

# layers that a layer is made the sum of, and input channels of each, on average; colours may be three; chosen
_MOST_PARTS, _LEAST_CHANNELS, _FEW_PARTS = 16, 2, 3
# elements of what offsets add, 16 MiB of the library; chosen
_LARGEST_CONSTANT = 2**22


@dataclass(frozen=True)
class ExtractScales:
    """Move activation and weight scales behind convolutions and matrix products of integer codes."""

    name: str = "extract-scales"
    bound: float = 1e-4

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every Conv and MatMul of scaled integer codes with scaled integer weights."""
        peeler = Peeler()
        rewrites, refusals = 0, []
        for node in [node for node in model.graph if is_op(node, "Conv", "MatMul")]:
            outcome = _extract(node, peeler)
            if isinstance(outcome, str):
                node.metadata_props[REASON] = outcome
                refusals.append(Refusal(node.name or "", outcome))
            else:
                rewrites += outcome
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


@dataclass(frozen=True)
class _Part:
    """A layer on integers: x = scale * codes times float32 weights = integers times magnitudes [O]."""

    codes: ir.Value
    integers: FloatArray
    factors: FloatArray
    spread: float = 0.0


def _extract(node: ir.Node, peeler: Peeler) -> int | str:
    """1 if rewritten, 0 if there are no codes or no integers, or why scales must stay."""
    weights, shape = constant_of(node.inputs[1]), static_shape(node.outputs[0])
    if weights is None or shape is None or (len(node.inputs) > 2 and node.inputs[2] is not None):
        return 0
    peeled = None if node.op_type == "MatMul" and weights.ndim != 2 else peeler.of(node.inputs[0])
    block = weights.shape[0] if integers_and_scales(node, weights) is not None else block_of(node, weights)
    if peeled is None or block is None:
        return 0
    if not _passes(node, peeled):
        return "a scale or zero point of its activations, known at run time, differs within its sums"
    scales, offsets = (_of_inputs(node, part) for part in (peeled.scale, peeled.offset))
    parts = None if scales is None else _parts(node, weights, peeled.codes, scales, block)
    if parts is None or offsets is None:
        return "its input channels have too many scales; use one for all of them"
    constant = _of_offsets(node, weights, offsets)
    if constant.size > _LARGEST_CONSTANT:
        return "its activations have an offset, and zeros pad a large image; pad with the offset"
    if peeled.codes is node.inputs[0] and len(parts) == 1 and (parts[0].factors == 1).all():
        return 0
    output = _sum_of_parts(node, parts, peeled.zero, shape)
    if constant.any():
        output = insert(node, "Add", [output, constant], shape)
    for factor in peeled.factors:
        output = insert(node, "Div" if factor.divides else "Mul", [output, factor.value], shape)
    replace(node.outputs[0], output)
    return 1


def _of_offsets(node: ir.Node, weights: FloatArray, offsets: DoubleArray) -> FloatArray:
    """What the layer makes of the offsets of its inputs: a number, [O] for MatMul, else [1, O, H or 1, W or 1]."""
    if not offsets.any():
        return np.zeros((), np.float32)
    return layer_of_constant(node, weights * aligned(node, offsets, weights)).astype(np.float32)


def _passes(node: ir.Node, peeled: Peeled) -> bool:
    """Whether what is known at run time can be taken behind the layer: it is the same within every sum."""
    if node.op_type == "MatMul":
        return True
    return peeled.moves and (peeled.zero is None or not any(ints(node, "pads", ())))


def _parts(node: ir.Node, weights: FloatArray, codes: ir.Value, scales: DoubleArray, block: int) -> list[_Part] | None:
    """Layers on integers whose sum the layer is; None if there are none.

    scales: one, or one per input channel [C]. block: the inputs of a matrix that share a scale of the weights.
    """
    if scales.ndim == 0:
        found = _part(node, codes, weights, float(scales))
    else:
        found = _part(node, codes, (weights * aligned(node, scales, weights)).astype(np.float32), 1.0)
    return _part_by_part(node, weights, codes, scales, block) if found is None else [found]


def _part(node: ir.Node, codes: ir.Value, weights: FloatArray, scale: float) -> _Part | None:
    split = integers_and_scales(node, weights)
    if split is None:
        return None
    integers, magnitudes, spread = split
    return _Part(codes, integers, (magnitudes.astype(np.float64) * scale).astype(np.float32), spread)


def _of_inputs(node: ir.Node, part: DoubleArray) -> DoubleArray | None:
    """One number, or one for each input channel [C]; None where numbers vary within a channel."""
    if part.ndim == 0:
        return part
    shape = static_shape(node.inputs[0]) or ()
    axis = channel_axis(node, len(shape)) % len(shape)
    full = part.reshape((1,) * (len(shape) - part.ndim) + part.shape)
    return None if any(extent != 1 for i, extent in enumerate(full.shape) if i != axis) else full.reshape(-1)


def _part_by_part(
    node: ir.Node, weights: FloatArray, codes: ir.Value, scales: DoubleArray, block: int
) -> list[_Part] | None:
    """A layer for each run of input channels of one scale. scales: one, or one per channel [C]."""
    shape = static_shape(codes) or ()
    axis = channel_axis(node, len(shape)) % len(shape)
    each = np.broadcast_to(scales, shape[axis])
    jumps = np.diff(each, prepend=np.nan) != 0
    starts = np.flatnonzero(jumps | (np.arange(len(each)) % block == 0) if node.op_type == "MatMul" else jumps)
    few = len(starts) <= max(_FEW_PARTS, min(_MOST_PARTS, len(each) // _LEAST_CHANNELS))
    if not few or integer(node, "group", 1) != 1:
        return None
    parts = []
    for start, end in zip(starts, [*starts[1:], len(each)], strict=True):
        some = weights[start:end] if node.op_type == "MatMul" else weights[:, start:end]
        piece = _piece(node, codes, axis, int(start), int(end))
        parts.append(_part(node, piece, np.ascontiguousarray(some), float(each[start])))
    return None if any(part is None for part in parts) else [part for part in parts if part is not None]


def _piece(node: ir.Node, codes: ir.Value, axis: int, start: int, end: int) -> ir.Value:
    """Channels from start to end: an operand of the Concat that made the codes, if it is one."""
    concat, shape = codes.producer(), static_shape(codes) or ()
    if is_op(concat, "Concat") and integer(concat, "axis", 0) % len(shape) == axis:
        extents = [(static_shape(operand) or ())[axis] for operand in concat.inputs]
        for operand, extent, last in zip(concat.inputs, extents, np.cumsum(extents), strict=True):
            if (last - extent, last) == (start, end):
                return operand
    some = tuple(end - start if index == axis else size for index, size in enumerate(shape))
    return insert(node, "Slice", [codes, *(np.asarray([bound]) for bound in (start, end, axis))], some)


def _sum_of_parts(node: ir.Node, parts: list[_Part], zero: ir.Value | None, shape: tuple[int, ...]) -> ir.Value:
    """The sum of layers, each of codes less their zero point: sum (x - z) w = sum x w - z sum w."""
    total: ir.Value | None = None
    for part in parts:
        acc = insert(node, node.op_type, [part.codes, part.integers], shape, attributes_of(node))
        if part.spread > 0:
            note = f"|weights| vary by {part.spread:.1e} within a channel; taken as constant"
            acc.producer().metadata_props[NOTE] = note
        if zero is not None:
            weights = layer_of_constant(node, part.integers).astype(np.float32)
            acc = insert(node, "Sub", [acc, insert(node, "Mul", [zero, weights], _beside(zero, weights))], shape)
        term = insert(node, "Mul", [acc, _shaped(part.factors, len(shape), node.op_type)], shape)
        total = term if total is None else insert(node, "Add", [total, term], shape)
    assert total is not None
    return total


def _beside(zero: ir.Value, weights: FloatArray) -> tuple[int, ...]:
    return np.broadcast_shapes(static_shape(zero) or (), weights.shape)


def _shaped(factors: FloatArray, rank: int, op: str) -> FloatArray:
    if (factors == factors[0]).all():
        return factors[:1]
    return factors.reshape(1, -1, *(1,) * (rank - 2)) if op == "Conv" else factors
