"""How far rounding alone may move results where little but rounding is left: of sums, and of recurrent layers.

A sum of a product and a constant is rounded once where multiply and add fuse, else twice. Where the two cancel, as a
BatchNormalization does at its mean, what is left differs by the rounding of the product.

GRU: h' = (1 - z) n + z h with |n| <= 1. Where all gates are nearly shut the results are small, and consist of what is
left of rounding: for z near 1 the digits of 1 - z are the last ones of z. Let two sigmoids differ by d. Then h' differs
by at most d |n - h| <= 2 d max(1, |h0|), and by z <= 1 times what h differs; T steps add up to T times that.

LSTM: c' = f c + i g with |g| <= 1, so |c| <= |c0| + T, and c' differs by at most d (|c| + 1) and by f <= 1 times what c
differs. h = o tanh(c) adds d.

What the recurrent weights make of differences in h is not counted: in layers that amplify differences nothing is
excused but what this allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.view import constant_of, integer, shape_of

Array = npt.NDArray[Any]

# onnxruntime's sigmoid differs from the exact one by up to 10.4 units of 2^-24, which is most at -11.72, ours by 1.5
SIGMOID = 12 * 2.0**-24
# positions of the states before the first step
_STATES = {"GRU": (5,), "LSTM": (5, 6)}
# of a term of a sum: two roundings of half a unit of 2^-23, of numbers up to twice as large
_TERM = 2.0**-22


def rounding(node: ir.Node, values: Mapping[str, Array]) -> float:
    """The absolute difference that rounding explains in any output of `node`; 0 for what is no sum and has no gates.

    values: of the graph, by name; what is not there explains nothing.
    """
    if node.domain == "" and node.op_type in ("Add", "Sub"):
        return _TERM * max(_largest(node, index, values) for index in range(2))
    if node.domain != "" or node.op_type not in _STATES or "activations" in node.attributes:
        return 0.0
    steps = shape_of(node.inputs[0])[integer(node, "layout", 0)]
    state = max((_largest(node, index, values) for index in _STATES[node.op_type]), default=0.0)
    if node.op_type == "GRU":
        return steps * SIGMOID * 2 * max(1.0, state)
    return steps * SIGMOID * (state + steps + 1) + SIGMOID


def _largest(node: ir.Node, index: int, values: Mapping[str, Array]) -> float:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return 0.0
    array = constant_of(value)
    array = values.get(str(value.name)) if array is None else array
    return 0.0 if array is None else float(np.abs(array).max(initial=0.0))
