"""Binarize before pooling: sign(f(MaxPool(x))) = BinaryMaxPool(sign(f(x))) for a monotone f.

MaxPool picks one of its inputs and f keeps or reverses their order per channel, so the sign of the picked one is the
OR of the signs where f rises and their AND where it falls (flip = -1, a negative gamma). Bits are pooled instead of
floats, and the sign can fuse with the convolution in front of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.elementwise import Step, step_of
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, integer, ints, is_op, is_quantized_op, number, only_consumer, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal


@dataclass(frozen=True)
class SinkPools:
    """Move MaxPool behind the Binarize that alone reads it, and make pools of binary codes BinaryMaxPool."""

    name: str = "sink-pools"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every MaxPool over [N, C, H, W] whose result is only binarized."""
        rewrites, refusals = 0, []
        ranges = IntegerRanges()
        for node in list(model.graph):
            if not is_op(node, "MaxPool") or not _is_plain(node):
                continue
            if ranges.binary(node.inputs[0]):
                _make_binary(node)
                rewrites += 1
            elif isinstance(chain := _chain_to_sign(node), str):
                refusals.append(Refusal(node.name or "", chain))
            else:
                _sink(node, *chain)
                ranges.forget()
                rewrites += 1
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


def _is_plain(node: ir.Node) -> bool:
    shape = static_shape(node.outputs[0])
    return len(node.outputs) == 1 and shape is not None and len(shape) == 4 and "pads" in node.attributes


def pool_attributes(node: ir.Node) -> dict[str, object]:
    """The attributes of BinaryMaxPool that match the MaxPool `node`."""
    return {
        "kernel_shape": list(ints(node, "kernel_shape", (1, 1))),
        "strides": list(ints(node, "strides", (1, 1))),
        "pads": list(ints(node, "pads", (0, 0, 0, 0))),
        "dilations": list(ints(node, "dilations", (1, 1))),
        "ceil_mode": integer(node, "ceil_mode", 0),
    }


def _make_binary(node: ir.Node) -> None:
    shape = static_shape(node.outputs[0]) or ()
    flip = np.ones((shape[1], 1, 1), np.float32)
    replace(node.outputs[0], insert(node, "BinaryMaxPool", [node.inputs[0], flip], shape, pool_attributes(node)))


def _chain_to_sign(pool: ir.Node) -> tuple[tuple[Step, ...], ir.Node] | str:
    """The steps from the pool to a Binarize into -1/+1, and that Binarize; or why there are none."""
    steps: list[Step] = []
    value = pool.outputs[0]
    while True:
        node = only_consumer(value)
        if node is None:
            return "the pooled value is read by more than one node"
        if is_quantized_op(node, "Binarize"):
            if number(node, "zero", 1.0) == 0:
                return "the sign after the pool can be 0"
            return tuple(steps), node
        if not has(node, Trait.CHAINS):
            return f"the pooled value goes to {node.op_type}, not to a sign"
        step = step_of(node, value, 1)
        if isinstance(step, str):
            return step
        steps.append(step)
        value = node.outputs[0]


def falling(steps: tuple[Step, ...], channels: int) -> npt.NDArray[np.bool_]:
    """Per channel, whether the chain reverses order. bool [C]."""
    result = np.zeros(channels, dtype=bool)
    for step in steps:
        if step.op == "Neg" or (step.op == "Sub" and step.swapped):
            result = ~result
        elif step.op in ("Mul", "Div"):
            result = result ^ (step.constants[0] < 0)
    return result


def _sink(pool: ir.Node, steps: tuple[Step, ...], sign: ir.Node) -> None:
    value = pool.inputs[0]
    shape, pooled = static_shape(value) or (), static_shape(pool.outputs[0]) or ()
    for step in steps:
        value = _again(step, value, pool, shape)
    attributes = {"zero": number(sign, "zero", 1.0)}
    bits = insert(pool, "Binarize", [value], shape, attributes, origins=(sign,))
    flip = np.where(falling(steps, shape[1]), np.float32(-1), np.float32(1)).reshape(-1, 1, 1)
    output = insert(pool, "BinaryMaxPool", [bits, flip], pooled, pool_attributes(pool))
    replace(sign.outputs[0], output)


def _again(step: Step, value: ir.Value, anchor: ir.Node, shape: tuple[int, ...]) -> ir.Value:
    """The op of `step` on another input of `shape`; constants are per channel or scalars."""
    inputs = list(step.node.inputs)
    position = next(i for i, operand in enumerate(inputs) if operand is not None and constant_of(operand) is None)
    inputs[position] = value
    attributes = {name: attribute.value for name, attribute in step.node.attributes.items()}
    constants = [
        np.asarray(step.constants[0]).reshape(1, -1, 1, 1)
        if i != position and step.op != "Clip" and step.constants
        else operand
        for i, operand in enumerate(inputs)
    ]
    return insert(anchor, step.op, constants, shape, attributes, origins=(step.node,))
