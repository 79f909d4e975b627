"""Quantize before pooling: q(f(MaxPool(x))) = IntegerMaxPool(q(f(x))) for a monotone f and a sign or quantizer q.

MaxPool picks one of its inputs and f keeps or reverses their order per channel, so the code of the picked one is the
largest code where f rises and the smallest where it falls (flip = -1, a negative gamma). Codes are pooled instead of
floats, and the quantizer can fuse with the convolution in front of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.chains import Chain, chain_to_codes
from qcompiler.analysis.monotone import MonotoneOp
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.weights import WIDEST
from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal


@dataclass(frozen=True)
class SinkPools:
    """Move MaxPool behind the sign or quantizer that alone reads it, and make pools of codes IntegerMaxPool."""

    name: str = "sink-pools"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every MaxPool over [N, C, H, W] whose result is only quantized."""
        rewrites, refusals = 0, []
        ranges = IntegerRanges()
        for node in list(model.graph):
            if not is_op(node, "MaxPool") or not _is_plain(node):
                continue
            if _pools_codes(node, ranges):
                _pool_codes(node)
                rewrites += 1
            elif isinstance(chain := chain_to_codes(node.outputs[0], 1, ranges), str):
                refusals.append(Refusal(node.name or "", chain))
            else:
                _sink(node, chain)
                ranges.forget()
                rewrites += 1
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


def _is_plain(node: ir.Node) -> bool:
    shape = static_shape(node.outputs[0])
    return len(node.outputs) == 1 and shape is not None and len(shape) == 4 and "pads" in node.attributes


def pool_attributes(node: ir.Node) -> dict[str, object]:
    """The attributes of IntegerMaxPool that match the MaxPool `node`."""
    return {
        "kernel_shape": list(ints(node, "kernel_shape", (1, 1))),
        "strides": list(ints(node, "strides", (1, 1))),
        "pads": list(ints(node, "pads", (0, 0, 0, 0))),
        "dilations": list(ints(node, "dilations", (1, 1))),
        "ceil_mode": integer(node, "ceil_mode", 0),
    }


def _pools_codes(node: ir.Node, ranges: IntegerRanges) -> bool:
    """Whether the pool reads codes that are stored as such, and not for the caller of the network alone."""
    codes = ranges.codes(node.inputs[0])
    return codes is not None and codes.bits <= WIDEST and (codes.binary or bool(node.outputs[0].uses()))


def _pool_codes(node: ir.Node) -> None:
    shape = static_shape(node.outputs[0]) or ()
    flip = np.ones((shape[1], 1, 1), np.float32)
    replace(node.outputs[0], insert(node, "IntegerMaxPool", [node.inputs[0], flip], shape, pool_attributes(node)))


def falling(ops: tuple[MonotoneOp, ...], channels: int) -> npt.NDArray[np.bool_]:
    """Per channel, whether the chain reverses order. bool [C]."""
    result = np.zeros(channels, dtype=bool)
    for op in ops:
        if op.op == "Neg" or (op.op == "Sub" and op.swapped):
            result = ~result
        elif op.op in ("Mul", "Div", "Quantize"):
            result = result ^ (op.constants[0] < 0)
    return result


def _sink(pool: ir.Node, chain: Chain) -> None:
    value = pool.inputs[0]
    shape, pooled = static_shape(value) or (), static_shape(pool.outputs[0]) or ()
    for op in chain.ops:
        value = _again(op, value, pool, shape)
    if chain.sign is not None:
        value = insert(pool, "Binarize", [value], shape, {"zero": chain.sign}, origins=(chain.end,))
    flip = np.where(falling(chain.ops, shape[1]), np.float32(-1), np.float32(1)).reshape(-1, 1, 1)
    output = insert(pool, "IntegerMaxPool", [value, flip], pooled, pool_attributes(pool))
    replace(chain.end.outputs[0], output)


def _again(op: MonotoneOp, value: ir.Value, anchor: ir.Node, shape: tuple[int, ...]) -> ir.Value:
    """The op of `op` on another input of `shape`; constants are per channel or scalars."""
    operands = list(op.node.inputs)
    position = next(i for i, operand in enumerate(operands) if operand is not None and constant_of(operand) is None)
    if op.op != "Clip":
        constants = iter(op.constants)
        operands = [o if i == position else next(constants).reshape(1, -1, 1, 1) for i, o in enumerate(operands)]
    operands[position] = value
    attributes = {name: attribute.value for name, attribute in op.node.attributes.items()}
    return insert(anchor, op.op, operands, shape, attributes, origins=(op.node,))
