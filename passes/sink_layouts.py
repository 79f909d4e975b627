"""Move Transpose and Reshape (and the Pad before a Binarize) towards the outputs, past ops on single elements.

f(T(x)) = T(f(x)) bit for bit when f acts on each element alone and its constants are rearranged with x. Inverse
transposes, which NHWC exporters put around every convolution, then meet and cancel; a Flatten lands right in front of
its matrix product; and what stays behind is conv -> elementwise -> Binarize without interruption.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.numerics import binarize
from qcompiler.ir.view import constant_of, ints, is_op, is_quantized_op, number, static_shape, text
from qcompiler.passes.editing import attributes_of, insert, remove_dead, replace
from qcompiler.passes.eliminate_identities import EliminateIdentities
from qcompiler.passes.result import PassResult

Array = npt.NDArray[np.generic]

_UNARY = (
    "Relu", "LeakyRelu", "Clip", "Neg", "Abs", "Tanh", "Sigmoid", "HardSigmoid", "HardSwish", "Sqrt", "Exp", "Sign",
    "Round", "Floor", "Ceil", "Erf", "Elu", "Selu", "Softplus", "Softsign", "Gelu",
)  # fmt: skip
_NARY = ("Mul", "Add", "Sub", "Div", "PRelu", "Max", "Min", "Pow")


@dataclass(frozen=True)
class SinkLayouts:
    """Move layout changes past elementwise ops, and cancel those that meet."""

    name: str = "sink-layouts"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite to the fixed point; each move takes a layout change one op closer to the outputs."""
        eliminate = EliminateIdentities()
        rewrites = 0
        while True:
            moved = sum(_sink(node) for node in list(model.graph) if node.graph is not None)
            remove_dead(model.graph)
            cancelled = eliminate(model).rewrites
            rewrites += moved + cancelled
            if not moved:
                return PassResult(self.name, rewrites)


def _sink(node: ir.Node) -> int:
    if len(node.outputs) != 1 or not any(output.uses() or output.is_graph_output() for output in node.outputs):
        return 0
    if is_quantized_op(node, "Binarize") and is_op(node.inputs[0].producer(), "Pad"):
        return _sink_pad(node, node.inputs[0].producer())
    operands = _data_operands(node)
    movers = [node.inputs[i].producer() for i in operands]
    if not movers or any(mover is None for mover in movers):
        return 0
    if all(is_op(mover, "Transpose") for mover in movers):
        return _sink_transpose(node, operands, movers)
    if all(is_op(mover, "Reshape") for mover in movers):
        return _sink_reshape(node, operands, movers)
    return 0


def _data_operands(node: ir.Node) -> list[int]:
    """Positions of the run-time operands of an op that acts on single elements; empty if it is none."""
    if is_op(node, *_UNARY) or is_quantized_op(node, "Binarize"):
        return [0]
    if is_quantized_op(node, "Threshold"):
        return [0]
    if is_op(node, *_NARY) or is_quantized_op(node, "Quantize"):
        return [i for i, value in enumerate(node.inputs) if constant_of(value) is None]
    if is_op(node, "Concat", "Pad"):
        return list(range(len(node.inputs))) if node.op_type == "Concat" else [0]
    return []


def _dtype(node: ir.Node) -> ir.DataType:
    return node.outputs[0].dtype or ir.DataType.FLOAT


def _sink_transpose(node: ir.Node, operands: list[int], movers: list[ir.Node]) -> int:
    shapes = [static_shape(mover.inputs[0]) for mover in movers]
    out = static_shape(node.outputs[0])
    if out is None or any(shape is None or len(shape) != len(out) for shape in shapes):
        return 0
    rank = len(out)
    perms = {ints(mover, "perm", tuple(reversed(range(rank)))) for mover in movers}
    if len(perms) != 1:
        return 0
    perm = perms.pop()
    inverse = [perm.index(axis) for axis in range(rank)]
    attributes, inputs = attributes_of(node), list(node.inputs)
    for position, mover in zip(operands, movers, strict=True):
        inputs[position] = mover.inputs[0]
    if node.op_type == "Concat":
        attributes["axis"] = perm[int(attributes["axis"]) % rank]
    elif node.op_type == "Pad":
        pads = constant_of(node.inputs[1])
        if pads is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
            return 0
        inputs[1] = np.concatenate([pads[:rank][inverse], pads[rank:][inverse]])
    elif not is_op(node, *_UNARY):
        inputs = [_transposed(value, rank, inverse, _levels_axes(node, i)) for i, value in enumerate(inputs)]
    shape, dtype = [out[axis] for axis in inverse], _dtype(node)
    moved = insert(node, node.op_type, inputs, shape, attributes, origins=(node,), dtype=dtype)
    perms_again = {"perm": list(perm)}
    replace(node.outputs[0], insert(node, "Transpose", [moved], out, perms_again, origins=(movers[0],), dtype=dtype))
    return 1


def _levels_axes(node: ir.Node, position: int) -> int:
    """Axes that an operand has in front of those of the result."""
    return int(is_quantized_op(node, "Threshold") and position == 1)


def _transposed(value: ir.Value | Array, rank: int, inverse: list[int], kept: int) -> ir.Value | Array:
    """A constant with the axes behind the first `kept` permuted."""
    constant = constant_of(value)
    if constant is None or constant.size == 1:
        return value
    levels, shape = constant.shape[:kept], constant.shape[kept:]
    full = constant.reshape(*levels, *(1,) * (rank - len(shape)), *shape)
    return full.transpose(*range(kept), *(kept + axis for axis in inverse))


def _sink_reshape(node: ir.Node, operands: list[int], movers: list[ir.Node]) -> int:
    before = {static_shape(mover.inputs[0]) for mover in movers}
    after = {static_shape(mover.outputs[0]) for mover in movers}
    out = static_shape(node.outputs[0])
    if is_op(node, "Concat", "Pad") or len(before) != 1 or after != {out}:
        return 0
    shape = before.pop()
    if shape is None or out is None:
        return 0
    inputs: list[ir.Value | Array] = list(node.inputs)
    for position, mover in zip(operands, movers, strict=True):
        inputs[position] = mover.inputs[0]
    for position, value in enumerate(node.inputs):
        constant = constant_of(value)
        if position in operands or constant is None or constant.ndim == 0:
            continue
        if _levels_axes(node, position):
            levels = [_reshaped(level, out, shape) for level in constant]
            reshaped = _stacked([level for level in levels if level is not None], len(levels), len(shape))
        else:
            reshaped = _reshaped(constant, out, shape)
        if reshaped is None:
            return 0
        inputs[position] = reshaped
    moved = insert(node, node.op_type, inputs, shape, attributes_of(node), origins=(node,), dtype=_dtype(node))
    target = np.asarray(out, dtype=np.int64)
    replace(node.outputs[0], insert(node, "Reshape", [moved, target], out, origins=(movers[0],), dtype=_dtype(node)))
    return 1


def _stacked(levels: list[Array], count: int, rank: int) -> Array | None:
    """Levels on a new first axis, each broadcast to the shape of all; None if some are missing."""
    if len(levels) < count:
        return None
    full = [level.reshape((1,) * (rank - level.ndim) + level.shape) for level in levels]
    return np.stack(np.broadcast_arrays(*full))


def _reshaped(constant: Array, out: tuple[int, ...], shape: tuple[int, ...]) -> Array | None:
    """A constant that broadcasts against `out`, rearranged against `shape`; None unless it varies along one axis."""
    if constant.size == 1:
        return constant.reshape((1,) * min(constant.ndim, len(shape)))
    if not out or not shape or out[0] != shape[0] or (constant.ndim == len(out) and constant.shape[0] != 1):
        return None
    full = np.broadcast_to(constant, (1, *out[1:])).reshape(1, *shape[1:])
    for axis in range(1, full.ndim):
        first = full.take([0], axis=axis)
        if np.array_equal(np.broadcast_to(first, full.shape), full):
            full = first
    return full if sum(extent > 1 for extent in full.shape) <= 1 else None


def _sink_pad(node: ir.Node, pad: ir.Node) -> int:
    """Binarize(Pad(x, v)) = Pad(Binarize(x), binarize(v))."""
    out, shape = static_shape(node.outputs[0]), static_shape(pad.inputs[0])
    fill = constant_of(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else np.zeros(1, np.float32)
    if text(pad, "mode", "constant") != "constant" or out is None or shape is None or fill is None:
        return 0
    moved = insert(node, "Binarize", [pad.inputs[0]], shape, attributes_of(node), origins=(node,))
    value = binarize(fill.astype(np.float32).reshape(()), number(node, "zero", 1.0))
    padded = insert(node, "Pad", [moved, pad.inputs[1], np.asarray(value), *pad.inputs[3:]], out, origins=(pad,))
    replace(node.outputs[0], padded)
    return 1
