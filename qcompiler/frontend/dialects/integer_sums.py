"""Sums of products of integers: what convolutions and matrix products of codes become.

The sums are those of codes without their zero points, integers in float32. Where the zero point of the left operand is
only known at run time, it is taken out of the sums, so that the layer reads codes of eight bits:

    sum (x - z) * w = sum x * w - z * sum w.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from qcompiler.errors import InvalidModel
from qcompiler.frontend import attributes
from qcompiler.frontend.consistency import broadcasts
from qcompiler.frontend.dialects.integer_operands import Integers
from qcompiler.frontend.dialects.parameters import reshaped
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir.plausible import REMEDY

_T = onnx.TensorProto
# elements of the sums of weights that are stored for a zero point known at run time, 1 MiB; chosen
_LARGEST_BORDER = 2**18


def convolved(emitter: Emitter, node: onnx.NodeProto, x: Integers, w: Integers) -> str:
    """The sums of a convolution whose attributes are those of `node`; padding stands for the zero point of x."""
    weights = w.centred(emitter)
    if emitter.computed_value(x.zero) is not None or emitter.computed_value(weights) is None:
        return _conv(emitter, node, x.centred(emitter), weights)
    total, sizes = _conv(emitter, node, x.codes, weights), emitter.shape(x.codes)
    if math.prod(emitter.shape(total)[1:]) > _LARGEST_BORDER:
        return _conv(emitter, node, x.centred(emitter), weights)
    # zeros pad the codes: each window sums the weights that lie in the image, over all channels
    columns = emitter.op("ReduceSum", [weights, emitter.constant([1], "channels", np.int64)])
    image = np.ones((1, attributes.integer(node, "group", 1), *sizes[2:]), np.float32)
    inside = emitter.computed_value(_conv(emitter, node, emitter.constant(image, "image"), columns))
    if inside is None:
        return _conv(emitter, node, x.centred(emitter), weights)
    return emitter.op("Sub", [total, emitter.op("Mul", [emitter.constant(inside, "inside"), x.zero])])


def _conv(emitter: Emitter, node: onnx.NodeProto, x: str, weights: str) -> str:
    sums = emitter.fresh(f"{emitter.base}/sums")
    core = onnx.helper.make_node("Conv", [x, weights], [sums], name=label(node))
    core.attribute.extend(node.attribute)
    emitter.place(core)
    return sums


def multiplied(emitter: Emitter, left: Integers, right: Integers) -> str:
    """The sums of a matrix product."""
    weights = right.centred(emitter)
    if emitter.computed_value(left.zero) is not None or emitter.computed_value(weights) is None:
        return emitter.op("MatMul", [left.centred(emitter), weights])
    rows = emitter.constant([-2], "rows", np.int64)
    columns = emitter.op("ReduceSum", [weights, rows])
    total = emitter.op("MatMul", [left.codes, weights])
    return emitter.op("Sub", [total, emitter.op("Mul", [columns, left.zero])])


def biased(emitter: Emitter, node: onnx.NodeProto, sums: str, index: int, axis: int | None = None) -> str:
    """The sums and an int32 bias [C] of the channels along `axis`, or one that broadcasts, rounded to float32 once.

    A bias that float32 does not hold is added in two parts, the first of which is small.
    """
    name, sizes = node.input[index], emitter.shape(sums)
    found, expected = emitter.shape(name), sizes if axis is None else (sizes[axis],)
    if emitter.element_type(name) != _T.INT32 or not (broadcasts(found, sizes) if axis is None else found == expected):
        raise InvalidModel(
            f"the bias '{name}' of {node.op_type} has shape {list(found)}, expected int32 {list(expected)}",
            node=label(node),
            remedy=REMEDY,
        )
    layout = found if axis is None else (-1, *(1,) * (len(sizes) - 1 - axis))
    value = emitter.computed_value(name)
    if value is None:
        return emitter.op("Add", [sums, reshaped(emitter, emitter.op("Cast", [name], to=_T.FLOAT), layout)])
    large = value.astype(np.float32)
    small = value.astype(np.int64) - large.astype(np.int64)
    for part in (small, large):
        if part.any():
            sums = emitter.op("Add", [sums, emitter.constant(part.reshape(layout), "bias")])
    return sums
