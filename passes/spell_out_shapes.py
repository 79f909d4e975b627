"""One spelling for every shape change and every window.

Flatten, Squeeze and Unsqueeze become Reshape with the full constant shape; auto_pad, and attributes left to their
defaults, become explicit pads, strides, dilations, group and kernel_shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape, text
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult

_WINDOWS = ("Conv", "MaxPool", "AveragePool")


@dataclass(frozen=True)
class SpellOutShapes:
    """Make reshapes and windows explicit."""

    name: str = "spell-out-shapes"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every reshape and window once."""
        rewrites = 0
        for node in list(model.graph):
            if has(node, Trait.RESHAPES):
                rewrites += _spell_reshape(node)
            elif is_op(node, *_WINDOWS):
                rewrites += _spell_window(node)
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


def _spell_reshape(node: ir.Node) -> int:
    output = node.outputs[0]
    shape = static_shape(output)
    if shape is None or 0 in shape or node.inputs[0] is None:
        return 0
    target = np.asarray(shape, dtype=np.int64)
    current = constant_of(node.inputs[1]) if node.op_type == "Reshape" else None
    if current is not None and np.array_equal(current, target):
        return 0
    dtype = output.dtype or ir.DataType.FLOAT
    replace(output, insert(node, "Reshape", [node.inputs[0], target], shape, dtype=dtype))
    return 1


def _spell_window(node: ir.Node) -> int:
    shape, out = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if shape is None or out is None or (kernel := _kernel(node)) is None:
        return 0
    rank = len(shape) - 2
    strides, dilations = ints(node, "strides", (1,) * rank), ints(node, "dilations", (1,) * rank)
    explicit = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    explicit["pads"] = _pads(node, shape[2:], out[2:], kernel, strides, dilations)
    changed = text(node, "auto_pad", "NOTSET") != "NOTSET" or any(name not in node.attributes for name in explicit)
    node.attributes.pop("auto_pad", None)
    for name, value in explicit.items():
        node.attributes[name] = ir.AttrInt64s(name, list(value))
    if node.op_type == "Conv" and "group" not in node.attributes:
        node.attributes["group"] = ir.AttrInt64("group", integer(node, "group", 1))
        changed = True
    return int(changed)


def _kernel(node: ir.Node) -> tuple[int, ...] | None:
    if "kernel_shape" in node.attributes:
        return ints(node, "kernel_shape", ())
    weights = static_shape(node.inputs[1])
    return None if weights is None else weights[2:]


def _pads(
    node: ir.Node,
    size: tuple[int, ...],
    out: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[int, ...]:
    mode = text(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return ints(node, "pads", (0,) * (2 * len(kernel))) if mode == "NOTSET" else (0,) * (2 * len(kernel))
    windows = zip(size, out, kernel, strides, dilations, strict=True)
    totals = [max((o - 1) * s + (k - 1) * d + 1 - extent, 0) for extent, o, k, s, d in windows]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (*small, *large) if mode == "SAME_UPPER" else (*large, *small)
